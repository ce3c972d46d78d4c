// Attention in three kernels, the scores and the weights through memory: the three-pass cascade
// unfused.  `scores` and `values` here; the softmax between them is rows.cu.
//
// A block has 4 warps of 32 rows: 128 queries, by tiles of 64 keys of scores or by D of values.
#include "common.cuh"

#ifndef D
#define D 128
#define CAUSAL 0
#endif

#define THREADS 128
#define BM 128
#define BN 64
#define STEPS (D == 64 ? 1 : 8)
#define BK 64
#define STAGES 3

template <int WIDTH, int ROWS>
DEVICE void load_tile(u32 to, const half_t* from, long long pitch, int rows, int columns, int thread) {
  constexpr int CHUNKS = WIDTH / 8;
#pragma unroll
  for (int i = 0; i < ROWS * CHUNKS / THREADS; ++i) {
    int at = thread + i * THREADS, row = at / CHUNKS, chunk = at % CHUNKS;
    bool keep = row < rows && chunk * 8 < columns;
    copy16(to + Tile<WIDTH>::offset(row, chunk),
           from + (keep ? (long long)row * pitch + chunk * 8 : 0), keep);
  }
}

// S[z, p, m] = scale Q[z, p, :] . K[z / group, m, :], rows `pitch` apart; -inf where excluded.
// A block walks over STEPS tiles of keys, the next on its way while this one is multiplied and
// stored, each warp through rows of shared memory of its own.
extern "C" __global__ void __launch_bounds__(THREADS, D == 64 ? 4 : D == 96 ? 3 : 2)
    scores(const half_t* __restrict__ Q, const half_t* __restrict__ K, half_t* __restrict__ S_,
           int P, int M, int group, int pitch, float scale, int offset) {
  extern __shared__ __align__(128) unsigned char memory[];
  typedef Tile<D> T;
  typedef Tile<BN> R;
  constexpr u32 Q_BYTES = BM * T::ROW_BYTES, K_BYTES = BN * T::ROW_BYTES;
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
  const int first = blockIdx.x * STEPS, p0 = blockIdx.y * BM;
  const long long z = blockIdx.z;
  int end = (M + BN - 1) / BN;
  if (CAUSAL) end = min(end, (p0 + BM - 1 + offset) / BN + 1);
  const int count = min(STEPS, end - first);
  if (count <= 0) return;
  const u32 q = shared_address(memory), k = q + Q_BYTES;
  unsigned char* rows = memory + Q_BYTES + 2 * K_BYTES;
  K += z / group * M * D;
  S_ += (z * P + p0) * (long long)pitch;
  auto fetch = [&](int j) {
    const int m0 = (first + j) * BN;
    load_tile<D, BN>(k + (j & 1) * K_BYTES, K + (long long)m0 * D, D, M - m0, D, thread);
  };
  load_tile<D, BM>(q, Q + (z * P + p0) * D, D, P - p0, D, thread);
  fetch(0);
  copy_commit();
  const u32 a_lane = q + T::offset(warp * 32 + (lane & 15), lane >> 4);
  const u32 b_lane = k + T::offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);

  for (int j = 0; j < count; ++j) {
    copy_wait<0>();
    __syncthreads();  // tile j is there, and tile j - 1 no longer read
    if (j + 1 < count) fetch(j + 1);
    copy_commit();
    const int m0 = (first + j) * BN;
    const u32 b_tile = b_lane + (j & 1) * K_BYTES;
    float S[2][BN / 8][4] = {};
#pragma unroll
    for (int d = 0; d < D / 16; ++d) {
      u32 a[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) ldmatrix4(a[i], T::step(a_lane, d) + i * 16 * T::ROW_BYTES);
#pragma unroll
      for (int n = 0; n < BN / 16; ++n) {
        u32 b[4];
        ldmatrix4(b, T::step(b_tile, d) + n * 16 * T::ROW_BYTES);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          mma(S[i][2 * n], a[i], b[0], b[1]);
          mma(S[i][2 * n + 1], a[i], b[2], b[3]);
        }
      }
    }
    __syncwarp();  // the last tile's rows were read
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row = warp * 32 + i * 16 + r * 8 + (lane >> 2);
#pragma unroll
        for (int n = 0; n < BN / 8; ++n) {
          float x = S[i][n][2 * r] * scale, y = S[i][n][2 * r + 1] * scale;
          if (CAUSAL) {
            const int key = m0 + n * 8 + (lane & 3) * 2;
            if (key > p0 + row + offset) x = -INFINITY_F;
            if (key + 1 > p0 + row + offset) y = -INFINITY_F;
          }
          *(u32*)(rows + R::offset(row, n) + (lane & 3) * 4) = pack(x, y);
        }
      }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < R::CHUNKS; ++i) {
      const int at = lane + i * 32, row = warp * 32 + at / R::CHUNKS, chunk = at % R::CHUNKS;
      if (p0 + row < P && m0 + chunk * 8 < pitch)
        *(uint4*)(S_ + (long long)row * pitch + m0 + chunk * 8) =
            *(const uint4*)(rows + R::offset(row, chunk));
    }
  }
  copy_wait<0>();
}

// O[z, p, :] = sum_m A[z, p, m] V[z / group, m, :].
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    values(const half_t* __restrict__ A, const half_t* __restrict__ V, half_t* __restrict__ O_,
           int P, int M, int group, int pitch, int offset) {
  extern __shared__ __align__(128) unsigned char memory[];
  typedef Tile<BK> TA;
  typedef Tile<D> TV;
  constexpr u32 A_BYTES = BM * TA::ROW_BYTES, STAGE = A_BYTES + BK * TV::ROW_BYTES;
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
  const int p0 = (CAUSAL ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * BM;
  const long long z = blockIdx.y;
  const u32 base = shared_address(memory);
  const int end = CAUSAL ? min(M, p0 + BM + offset) : M;
  const int count = max(0, (end + BK - 1) / BK);
  A += (z * P + p0) * (long long)pitch;
  V += z / group * M * D;

  auto fetch = [&](int j) {
    const u32 to = base + (j % STAGES) * STAGE;
    load_tile<BK, BM>(to, A + j * BK, pitch, P - p0, end - j * BK, thread);
    load_tile<D, BK>(to + A_BYTES, V + (long long)j * BK * D, D, M - j * BK, D, thread);
  };
  const u32 a_lane = TA::offset(warp * 32 + (lane & 15), lane >> 4);
  const u32 v_lane = A_BYTES + TV::offset(lane & 15, lane >> 4);
  float O[2][D / 8][4] = {};
  for (int j = 0; j < STAGES - 1; ++j) {
    if (j < count) fetch(j);
    copy_commit();
  }
  for (int j = 0; j < count; ++j) {
    copy_wait<STAGES - 2>();
    __syncthreads();
    if (j + STAGES - 1 < count) fetch(j + STAGES - 1);
    copy_commit();
    const u32 at = base + (j % STAGES) * STAGE;
#pragma unroll
    for (int m = 0; m < BK / 16; ++m) {
      u32 a[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i)
        ldmatrix4(a[i], TA::step(at + a_lane, m) + i * 16 * TA::ROW_BYTES);
#pragma unroll
      for (int d = 0; d < D / 16; ++d) {
        u32 b[4];
        ldmatrix4_transposed(b, TV::step(at + v_lane, d) + m * 16 * TV::ROW_BYTES);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          mma(O[i][2 * d], a[i], b[0], b[1]);
          mma(O[i][2 * d + 1], a[i], b[2], b[3]);
        }
      }
    }
  }
  copy_wait<0>();
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = warp * 32 + i * 16 + r * 8 + (lane >> 2);
#pragma unroll
      for (int d = 0; d < D / 8; ++d)
        *(u32*)(memory + TV::offset(row, d) + (lane & 3) * 4) =
            pack(O[i][d][2 * r], O[i][d][2 * r + 1]);
    }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 32 * TV::CHUNKS / 32; ++i) {
    const int at = lane + i * 32, row = warp * 32 + at / TV::CHUNKS, chunk = at % TV::CHUNKS;
    if (p0 + row < P)
      *(uint4*)(O_ + (z * P + p0 + row) * D + chunk * 8) =
          *(const uint4*)(memory + TV::offset(row, chunk));
  }
}
