// Attention over tiles that never leave the chip, on mma.sync.
//
//   O[b,h,p,:] = sum_m softmax_m(scale Q[b,h,p,:] . K[b,h/G,m,:]) V[b,h/G,m,:]
//
// PASSES 1: the one-pass cascade: running maximum, running denominator, corrected numerator.
// PASSES 2: the first pass over K finds maximum and denominator of every row, the second
//           recomputes the scores and needs no correction.
//
// A block owns BM = 16 * MI * WARPS query rows and walks over tiles of BN keys, double buffered
// with cp.async.  A warp owns 16 * MI rows: MI fragments share every K and V fragment it loads.
// CAUSAL: m <= p + offset.  WINDOW: also m > p + offset - window.
// SPARSE: the key tiles of a query tile come from a list: tiles[starts[h, t] .. starts[h, t + 1]].
#ifndef D
#define D 128
#define BN 64
#define WARPS 4
#define MI 2
#define BLOCKS_PER_SM 2
#define PASSES 1
#define CAUSAL 0
#define WINDOW 0
#define SPARSE 0
#endif

#include "tile_mma.cuh"

// Where output and scores fill the registers, the denominators' parts wait in shared memory.
#define SUMS_IN_SHARED (MI * (D / 2 + BN / 2) >= 192)

// Rows 0..ROWS-1 of a tile, zeros from row `rows` on.
template <int ROWS>
DEVICE void load_tile(u32 to, const half_t* from, int rows, int thread) {
  if (THREADS % T::CHUNKS == 0) {
    constexpr int STEP = THREADS / T::CHUNKS;  // rows a round; a multiple of 8
    const int row = thread / T::CHUNKS, chunk = thread % T::CHUNKS;
    to += T::offset(row, chunk);
    from += row * D + chunk * 8;
    if (rows >= ROWS) {
#pragma unroll
      for (int i = 0; i < ROWS / STEP; ++i)
        copy16(to + i * STEP * T::ROW_BYTES, from + i * STEP * D, true);
    } else {
#pragma unroll
      for (int i = 0; i < ROWS / STEP; ++i) {
        bool keep = row + i * STEP < rows;
        copy16(to + i * STEP * T::ROW_BYTES, from + (keep ? i * STEP * D : -row * D), keep);
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < ROWS * T::CHUNKS / THREADS; ++i) {
      int at = thread + i * THREADS, row = at / T::CHUNKS, chunk = at % T::CHUNKS;
      copy16(to + T::offset(row, chunk), from + (row < rows ? row : 0) * D + chunk * 8,
             row < rows);
    }
  }
}

struct Bounds {
  int keys, offset, window;
  // Whether some score of rows first..last and keys from..from+BN-1 is excluded, or all are.
  DEVICE bool some_out(int first, int last, int from) const {
    return from + BN > keys || (CAUSAL && from + BN - 1 > first + offset) ||
           (WINDOW && from <= last + offset - window);
  }
  DEVICE bool all_out(int first, int last, int from) const {
    return from >= keys || (CAUSAL && from > last + offset) ||
           (WINDOW && from + BN - 1 <= first + offset - window);
  }
  DEVICE bool out(int row, int key) const {
    return key >= keys || (CAUSAL && key > row + offset) ||
           (WINDOW && key <= row + offset - window);
  }
};

DEVICE void exclude(float (&S)[MI][KT][4], const Bounds& bounds, int row, int key) {
#pragma unroll
  for (int i = 0; i < MI; ++i)
#pragma unroll
    for (int n = 0; n < KT; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (bounds.out(row + i * 16 + (e >> 1) * 8, key + n * 8 + (e & 1))) S[i][n][e] = -INFINITY_F;
}

// CLOCKED: blocks write the cycles that they took; those of the second half start `lag` late.
#ifdef CLOCKED
#define CLOCK_PARAMETER , unsigned long long lag, unsigned long long* taken
#else
#define CLOCK_PARAMETER
#endif

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    attention(const half_t* __restrict__ Q, const half_t* __restrict__ K,
              const half_t* __restrict__ V, half_t* __restrict__ O_, int P, int M, int group,
              float scale, int offset, int window, const int* __restrict__ starts,
              const int* __restrict__ tiles CLOCK_PARAMETER) {
  extern __shared__ __align__(128) unsigned char memory[];
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
  mark_start(thread == 0);
  const int query_tile = CAUSAL ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
  const int head = blockIdx.y, heads = gridDim.y, batch = blockIdx.z;
  const int q0 = query_tile * BM;
  const long long q_at = ((long long)(batch * heads + head) * P + q0) * D;
#ifdef CLOCKED
  unsigned long long begun = clock64();
  while (head >= heads / 2 && clock64() - begun < lag) {
  }
  begun = clock64();
#endif
  const long long k_at = (long long)(batch * (heads / group) + head / group) * M * D;
  K += k_at;
  V += k_at;

  constexpr u32 TILE_BYTES = BN * T::ROW_BYTES;
  const u32 q_shared = shared_address(memory);
  const u32 kv_shared = q_shared + BM * T::ROW_BYTES;  // [buffer][K, V]

  // The key tiles of this block, in order.
  int first = 0, count;
  const int* list = nullptr;
  if (SPARSE) {
    const int* at = starts + head * (gridDim.x + 1) + query_tile;
    list = tiles + at[0];
    count = at[1] - at[0];
  } else {
    int end = M;
    if (CAUSAL) end = min(end, q0 + BM + offset);
    if (WINDOW) first = max(0, q0 + offset - window + 1) / BN;
    count = max(0, (end + BN - 1) / BN - first);
  }

  const int row0 = q0 + warp * 16 * MI;                   // the warp's first query
  const Bounds bounds = {M, offset, window};
  // Lanes' offsets for ldmatrix: Q as A (rows, then k), K as B (n, then k), V as B transposed.
  const u32 q_lane = q_shared + T::offset(warp * 16 * MI + (lane & 15), lane >> 4);
  const u32 k_lane = kv_shared + T::offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
  const u32 v_lane = kv_shared + TILE_BYTES + T::offset(lane & 15, lane >> 4);

  float4* waiting = (float4*)(memory + BM * T::ROW_BYTES + 4 * TILE_BYTES);
  float O[MI][DT][4], top[MI][2];
  __align__(16) float sum[MI][2];
#pragma unroll
  for (int i = 0; i < MI; ++i) {
#pragma unroll
    for (int d = 0; d < DT; ++d)
#pragma unroll
      for (int e = 0; e < 4; ++e) O[i][d][e] = 0.f;
    top[i][0] = top[i][1] = -INFINITY_F;
    sum[i][0] = sum[i][1] = 0.f;
  }

  if (SUMS_IN_SHARED) waiting[thread] = make_float4(0.f, 0.f, 0.f, 0.f);
  load_tile<BM>(q_shared, Q + q_at, P - q0, thread);

#pragma unroll
  for (int pass = 0; pass < PASSES; ++pass) {
    const bool last_pass = pass == PASSES - 1;
    auto fetch = [&](int j) {
      int tile = SPARSE ? list[j] : first + j;
      u32 to = kv_shared + (j & 1) * 2 * TILE_BYTES;
      long long at = (long long)tile * BN * D;
      load_tile<BN>(to, K + at, M - tile * BN, thread);
      if (last_pass) load_tile<BN>(to + TILE_BYTES, V + at, M - tile * BN, thread);
    };
    if (pass > 0) __syncthreads();  // the buffers' last readers
    if (count > 0) fetch(0);
    copy_commit();
    for (int j = 0; j < count; ++j) {
      copy_wait<0>();
      __syncthreads();  // tile j is there, and tile j - 1 no longer read
      if (j == 0 && pass == 0) mark(3, thread == 0);
      if (j == 1 && pass == 0) mark(4, thread == 0);
      if (j + 1 < count) fetch(j + 1);
      copy_commit();
      const int key0 = (SPARSE ? list[j] : first + j) * BN;
      if (bounds.all_out(row0, row0 + 16 * MI - 1, key0)) continue;
      const u32 buffer = (j & 1) * 2 * TILE_BYTES;
      float S[MI][KT][4];
      scores(S, q_lane, buffer + k_lane);
      if (bounds.some_out(row0, row0 + 16 * MI - 1, key0))
        exclude(S, bounds, row0 + (lane >> 2), key0 + (lane & 3) * 2);

      if (PASSES == 1) {
        float correction[MI][2];
        bool moved = false;
        if (SUMS_IN_SHARED) *(float4*)sum[0] = waiting[thread];
#pragma unroll
        for (int i = 0; i < MI; ++i)
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            float now = row_max(S[i], r, top[i][r]);
            float scaled = now == -INFINITY_F ? 0.f : now * scale;
            correction[i][r] = exp2_approx(fmaf(top[i][r], scale, -scaled));
            moved |= now != top[i][r];
            top[i][r] = now;
            sum[i][r] = sum[i][r] * correction[i][r] + weigh(S[i], r, scale, scaled);
          }
        if (SUMS_IN_SHARED) waiting[thread] = *(float4*)sum[0];
        if (__any_sync(0xffffffffu, moved)) {
#pragma unroll
          for (int i = 0; i < MI; ++i)
#pragma unroll
            for (int d = 0; d < DT; ++d)
#pragma unroll
              for (int e = 0; e < 4; ++e) O[i][d][e] *= correction[i][e >> 1];
        }
        product(O, S, buffer + v_lane);
      } else if (!last_pass) {
#pragma unroll
        for (int i = 0; i < MI; ++i)
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            float now = row_max(S[i], r, top[i][r]);
            float scaled = now == -INFINITY_F ? 0.f : now * scale;
            sum[i][r] *= exp2_approx(fmaf(top[i][r], scale, -scaled));
            sum[i][r] += weigh(S[i], r, scale, scaled);
            top[i][r] = now;
          }
      } else {
#pragma unroll
        for (int i = 0; i < MI; ++i)
#pragma unroll
          for (int r = 0; r < 2; ++r)
            weigh(S[i], r, scale, top[i][r] == -INFINITY_F ? 0.f : top[i][r] * scale);
        product(O, S, buffer + v_lane);
      }
    }
  }
  mark(5, thread == 0);
  copy_wait<0>();
  if (count == 0) __syncthreads();  // Q was never waited for by all
  if (SUMS_IN_SHARED && PASSES == 1) *(float4*)sum[0] = waiting[thread];

  // Normalise; through the warp's own rows of Q's tile to rows of 16-byte stores.
  __syncwarp();
#pragma unroll
  for (int i = 0; i < MI; ++i)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float inverse = 1.f / quad_sum(sum[i][r]);
      int row = warp * 16 * MI + i * 16 + r * 8 + (lane >> 2);
#pragma unroll
      for (int d = 0; d < DT; ++d) {
        u32 pair = pack(O[i][d][2 * r] * inverse, O[i][d][2 * r + 1] * inverse);
        *(u32*)(memory + T::offset(row, d) + (lane & 3) * 4) = pair;
      }
    }
  __syncwarp();
  constexpr int CHUNKS = 16 * MI * T::CHUNKS;
#pragma unroll
  for (int i = 0; i < CHUNKS / 32; ++i) {
    int at = lane + i * 32, row = warp * 16 * MI + at / T::CHUNKS, chunk = at % T::CHUNKS;
    if (q0 + row < P)
      *(uint4*)(O_ + q_at + (long long)row * D + chunk * 8) =
          *(const uint4*)(memory + T::offset(row, chunk));
  }
  mark_end(thread == 0);
#ifdef CLOCKED
  __syncthreads();
  if (thread == 0) taken[batch * heads + head] = clock64() - begun;
#endif
}
