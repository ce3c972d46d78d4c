// Linear attention without a mask, with phi(x) = elu(x) + 1 (Katharopoulos et al. 2020, eq. 5):
//
//   O[z, p, :] = phi(Q[z, p, :]) S_z / (phi(Q[z, p, :]) . k_z),
//   S_z = sum_m phi(K[z, m, :])^T V[z, m, :],   k_z = sum_m phi(K[z, m, :]).
//
// states: the S and k of each segment of `chunks` chunks of 64 keys.  total: their sums over the
// segments, over M, rounded to 16 bits.  outputs: chunks of 64 queries through the state.
//
// A block has 8 warps.  For states warp w owns the 16-row tiles w % 4 + 4 i of S and half w / 4 of
// its columns; for outputs 16 rows w % 4 of a chunk and the same half.
#include "common.cuh"

#ifndef D
#define D 128
#endif

#define THREADS 256
#define C 64
#define HALF (D / 2)  // columns of a warp: whole 16s for 64, 96 and 128
#define STATE_TILES (D / 16)
#define OWN_TILES ((STATE_TILES + 3) / 4)

typedef Tile<D> T;

template <int ROWS>
DEVICE void load_tile(u32 to, const half_t* from, int rows, int thread) {
#pragma unroll
  for (int i = 0; i < (ROWS * T::CHUNKS + THREADS - 1) / THREADS; ++i) {
    const int at = thread + i * THREADS, row = at / T::CHUNKS, chunk = at % T::CHUNKS;
    if (ROWS * T::CHUNKS % THREADS == 0 || row < ROWS)
      copy16(to + T::offset(row, chunk), from + (row < rows ? row : 0) * D + chunk * 8, row < rows);
  }
}

// elu(x) + 1 of both numbers of a pair.
DEVICE u32 phi(u32 pair) {
  const float2 x = unpack(pair);
  const float log2e = 1.4426950408889634f;
  return pack(fmaxf(x.x, 0.f) + exp2_approx(fminf(x.x, 0.f) * log2e),
              fmaxf(x.y, 0.f) + exp2_approx(fminf(x.y, 0.f) * log2e));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    states(const half_t* __restrict__ K, const half_t* __restrict__ V, float* __restrict__ parts,
           float* __restrict__ sums, int M, int per_segment) {
  extern __shared__ __align__(128) unsigned char memory[];
  constexpr u32 BYTES = C * T::ROW_BYTES;
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31, g = lane >> 2, t = lane & 3;
  const int row_warp = warp & 3, column0 = (warp >> 2) * HALF;
  const int segment = blockIdx.x, segments = gridDim.x;
  const long long z = blockIdx.y;
  const int first = segment * per_segment * C;
  const int count = min(per_segment, (M - first + C - 1) / C);
  const u32 base = shared_address(memory);
  K += z * M * D;
  V += z * M * D;

  auto fetch = [&](int j) {
    const u32 to = base + (j & 1) * 2 * BYTES;
    const int row = first + j * C;
    load_tile<C>(to, K + (long long)row * D, M - row, thread);
    load_tile<C>(to + BYTES, V + (long long)row * D, M - row, thread);
  };
  fetch(0);
  copy_commit();

  float S[OWN_TILES][HALF / 8][4], k[OWN_TILES][4];
#pragma unroll
  for (int i = 0; i < OWN_TILES; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      k[i][e] = 0.f;
#pragma unroll
      for (int n = 0; n < HALF / 8; ++n) S[i][n][e] = 0.f;
    }
  // K^T by transposed ldmatrix: rows of K are the contraction.
  const int flip = lane >> 3;
  const u32 kt_row = (lane & 7) + (flip >> 1) * 8, kt_chunk = flip & 1;

  for (int j = 0; j < count; ++j) {
    copy_wait<0>();
    __syncthreads();
    if (j + 1 < count) fetch(j + 1);
    copy_commit();
    const u32 keys = base + (j & 1) * 2 * BYTES, values = keys + BYTES;
    const int rows = M - first - j * C;
#pragma unroll
    for (int m = 0; m < C / 16; ++m) {
      u32 a[OWN_TILES][4], ones[2];
#pragma unroll
      for (int i = 0; i < OWN_TILES; ++i) {
        const int tile = min(row_warp + 4 * i, STATE_TILES - 1);
        ldmatrix4_transposed(a[i], keys + T::offset(m * 16 + kt_row, tile * 2 + kt_chunk));
#pragma unroll
        for (int r = 0; r < 4; ++r) a[i][r] = phi(a[i][r]);
      }
      // Rows past the end are zero in V; phi makes ones of them in K, which the sums leave out.
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int key = m * 16 + h * 8 + 2 * t;
        ones[h] = pack(key < rows ? 1.f : 0.f, key + 1 < rows ? 1.f : 0.f);
      }
#pragma unroll
      for (int i = 0; i < OWN_TILES; ++i) mma(k[i], a[i], ones[0], ones[1]);
#pragma unroll
      for (int n = 0; n < HALF / 16; ++n) {
        u32 b[4];
        ldmatrix4_transposed(
            b, values + T::offset(m * 16 + (lane & 15), column0 / 8 + n * 2 + (lane >> 4)));
#pragma unroll
        for (int i = 0; i < OWN_TILES; ++i) {
          mma(S[i][2 * n], a[i], b[0], b[1]);
          mma(S[i][2 * n + 1], a[i], b[2], b[3]);
        }
      }
    }
  }
  copy_wait<0>();
  parts += (z * segments + segment) * D * D + column0;
  sums += (z * segments + segment) * D;
#pragma unroll
  for (int i = 0; i < OWN_TILES; ++i)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = (row_warp + 4 * i) * 16 + g + 8 * r;
      if (row < D) {
#pragma unroll
        for (int n = 0; n < HALF / 8; ++n)
          *(float2*)(parts + (long long)row * D + n * 8 + 2 * t) =
              make_float2(S[i][n][2 * r], S[i][n][2 * r + 1]);
        if (column0 == 0 && t == 0) sums[row] = k[i][2 * r];
      }
    }
}

// A thread a pair of numbers: rows 0 .. D - 1 of S, then k as row D.
extern "C" __global__ void total(const float* __restrict__ parts, const float* __restrict__ sums,
                                 u32* __restrict__ state, int segments, float scale) {
  const long long z = blockIdx.y;
  const int at = 2 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (at >= D * D + D) return;
  const bool last = at >= D * D;
  const float* from = last ? sums + z * segments * D + at - D * D : parts + z * segments * D * D + at;
  const int pitch = last ? D : D * D;
  float2 all = make_float2(0.f, 0.f);
  for (int i = 0; i < segments; ++i) {
    const float2 x = *(const float2*)(from + (long long)i * pitch);
    all.x += x.x;
    all.y += x.y;
  }
  state[(z * (D * D + D) + at) / 2] = pack(all.x * scale, all.y * scale);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    outputs(const half_t* __restrict__ Q, const half_t* __restrict__ state, half_t* __restrict__ O_,
            int P, int per_block) {
  extern __shared__ __align__(128) unsigned char memory[];
  constexpr u32 BYTES = C * T::ROW_BYTES, STATE = D * T::ROW_BYTES;
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31, g = lane >> 2, t = lane & 3;
  const int row_warp = warp & 3, column0 = (warp >> 2) * HALF;
  const long long z = blockIdx.y;
  const int first = blockIdx.x * per_block * C;
  const int count = min(per_block, (P - first + C - 1) / C);
  const u32 base = shared_address(memory), queries = base + STATE;
  Q += z * P * D;
  O_ += z * P * D;
  state += z * (D * D + D);

  load_tile<D>(base, state, D, thread);
  auto fetch = [&](int j) {
    const int row = first + j * C;
    load_tile<C>(queries + (j & 1) * BYTES, Q + (long long)row * D, P - row, thread);
  };
  fetch(0);
  copy_commit();
  u32 k[D / 16][2];  // as fragments of B with equal columns
#pragma unroll
  for (int d = 0; d < D / 16; ++d)
#pragma unroll
    for (int h = 0; h < 2; ++h)
      k[d][h] = *(const u32*)(state + D * D + d * 16 + h * 8 + 2 * t);

  for (int j = 0; j < count; ++j) {
    copy_wait<0>();
    __syncthreads();
    if (j + 1 < count) fetch(j + 1);
    copy_commit();
    const u32 q = queries + (j & 1) * BYTES;
    float O[HALF / 8][4] = {}, norm[4] = {};
#pragma unroll
    for (int d = 0; d < D / 16; ++d) {
      u32 a[4];
      ldmatrix4(a, q + T::offset(row_warp * 16 + (lane & 15), d * 2 + (lane >> 4)));
#pragma unroll
      for (int r = 0; r < 4; ++r) a[r] = phi(a[r]);
      mma(norm, a, k[d][0], k[d][1]);
#pragma unroll
      for (int n = 0; n < HALF / 16; ++n) {
        u32 b[4];
        ldmatrix4_transposed(
            b, base + T::offset(d * 16 + (lane & 15), column0 / 8 + n * 2 + (lane >> 4)));
        mma(O[2 * n], a, b[0], b[1]);
        mma(O[2 * n + 1], a, b[2], b[3]);
      }
    }
    // Through the warp's part of Q's tile, once all have read it, to rows of 16-byte stores.
    __syncthreads();
    unsigned char* own = memory + STATE + (j & 1) * BYTES;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float inverse = 1.f / norm[2 * r];
#pragma unroll
      for (int n = 0; n < HALF / 8; ++n)
        *(u32*)(own + T::offset(row_warp * 16 + g + 8 * r, column0 / 8 + n) + t * 4) =
            pack(O[n][2 * r] * inverse, O[n][2 * r + 1] * inverse);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 16 * HALF / 8 / 32; ++i) {
      const int at = lane + i * 32, row = row_warp * 16 + at / (HALF / 8);
      const int chunk = column0 / 8 + at % (HALF / 8), p = first + j * C + row;
      if (p < P)
        *(uint4*)(O_ + (long long)p * D + chunk * 8) = *(const uint4*)(own + T::offset(row, chunk));
    }
  }
  copy_wait<0>();
}
