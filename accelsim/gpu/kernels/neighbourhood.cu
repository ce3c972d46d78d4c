// Neighbourhood attention in one and two dimensions, one pass, on mma.sync.
//
// Positions lie on a grid of NY x NX (one dimension: NY = 1), row by row.  A query sees a window of
// WY x WX positions around the leader of its group of SY x SX, moved inside the grid where it would
// stick out (Hassani et al. 2023 and, for strides, 2025):
//
//   leader(i) = min(i / S S + S / 2, N - 1),   start(i) = clamp(leader(i) - W / 2, 0, N - W).
//
// A block owns QY x QX queries and walks over the tiles of KY x KX keys that cover the union of
// their windows, which is a rectangle too; a warp leaves out tiles that none of its queries see.
#ifndef D
#define D 128
#define QY 8
#define QX 8
#define KY 8
#define KX 8
#define WARPS 4
#define MI 1
#define BLOCKS_PER_SM 2
#endif
#define BN (KY * KX)

#include "tile_mma.cuh"

static_assert(BM == QY * QX, "the warps' rows are the block's queries");
// Queries of a warp: rows of the grid and how many of each.
#define WARP_X (16 * MI < QX ? 16 * MI : QX)
#define WARP_Y (16 * MI / WARP_X)

struct Axis {
  int size, window, stride;
  DEVICE int start(int i) const {
    i = min(i, size - 1);
    const int leader = min(i / stride * stride + stride / 2, size - 1);
    return max(0, min(leader - window / 2, size - window));
  }
};

// Rows of a tile that is WIDTH wide and begins at (y, x); zeros outside the grid.
template <int ROWS, int WIDTH>
DEVICE void load_tile(u32 to, const half_t* from, int y, int x, int height, int width, int thread) {
#pragma unroll
  for (int i = 0; i < ROWS * T::CHUNKS / THREADS; ++i) {
    const int at = thread + i * THREADS, row = at / T::CHUNKS, chunk = at % T::CHUNKS;
    const int py = y + row / WIDTH, px = x + row % WIDTH;
    const bool keep = py < height && px < width;
    copy16(to + T::offset(row, chunk),
           from + (keep ? (long long)py * width + px : 0) * D + chunk * 8, keep);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    neighbourhood(const half_t* __restrict__ Q, const half_t* __restrict__ K,
                  const half_t* __restrict__ V, half_t* __restrict__ O_, int NY, int NX, int group,
                  float scale, int WY, int WX, int SY, int SX) {
  extern __shared__ __align__(128) unsigned char memory[];
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
  const int head = blockIdx.y, heads = gridDim.y, batch = blockIdx.z;
  const int across = (NX + QX - 1) / QX;
  const int y0 = blockIdx.x / across * QY, x0 = blockIdx.x % across * QX;
  const long long q_at = (long long)(batch * heads + head) * NY * NX * D;
  const long long k_at = (long long)(batch * (heads / group) + head / group) * NY * NX * D;
  const Axis ay = {NY, WY, SY}, ax = {NX, WX, SX};
  K += k_at;
  V += k_at;

  // The union of the windows, and the tiles that cover it.
  const int y_first = ay.start(y0), x_first = ax.start(x0);
  const int y_most = ay.start(y0 + QY - 1), x_most = ax.start(x0 + QX - 1);
  const int wide = (x_most + WX - x_first + KX - 1) / KX;
  const int count = (y_most + WY - y_first + KY - 1) / KY * wide;

  constexpr u32 TILE_BYTES = BN * T::ROW_BYTES;
  const u32 q_shared = shared_address(memory);
  const u32 kv_shared = q_shared + BM * T::ROW_BYTES;  // [buffer][K, V]
  const u32 q_lane = q_shared + T::offset(warp * 16 * MI + (lane & 15), lane >> 4);
  const u32 k_lane = kv_shared + T::offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
  const u32 v_lane = kv_shared + TILE_BYTES + T::offset(lane & 15, lane >> 4);

  // Where the windows of the thread's queries start, and of the warp's first and last.
  int starts_y[MI][2], starts_x[MI][2];
#pragma unroll
  for (int i = 0; i < MI; ++i)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = warp * 16 * MI + i * 16 + r * 8 + (lane >> 2);
      starts_y[i][r] = ay.start(y0 + row / QX);
      starts_x[i][r] = ax.start(x0 + row % QX);
    }
  const int warp_y = y0 + warp * 16 * MI / QX, warp_x = x0 + warp * 16 * MI % QX;
  const int least_y = ay.start(warp_y), most_y = ay.start(warp_y + WARP_Y - 1);
  const int least_x = ax.start(warp_x), most_x = ax.start(warp_x + WARP_X - 1);

  float O[MI][DT][4], top[MI][2], sum[MI][2];
#pragma unroll
  for (int i = 0; i < MI; ++i) {
#pragma unroll
    for (int d = 0; d < DT; ++d)
#pragma unroll
      for (int e = 0; e < 4; ++e) O[i][d][e] = 0.f;
    top[i][0] = top[i][1] = -INFINITY_F;
    sum[i][0] = sum[i][1] = 0.f;
  }

  load_tile<BM, QX>(q_shared, Q + q_at, y0, x0, NY, NX, thread);
  auto fetch = [&](int j) {
    const int ky = y_first + j / wide * KY, kx = x_first + j % wide * KX;
    const u32 to = kv_shared + (j & 1) * 2 * TILE_BYTES;
    load_tile<BN, KX>(to, K, ky, kx, NY, NX, thread);
    load_tile<BN, KX>(to + TILE_BYTES, V, ky, kx, NY, NX, thread);
  };
  fetch(0);
  copy_commit();
  for (int j = 0; j < count; ++j) {
    copy_wait<0>();
    __syncthreads();  // tile j is there, and tile j - 1 no longer read
    if (j + 1 < count) fetch(j + 1);
    copy_commit();
    const int ky = y_first + j / wide * KY, kx = x_first + j % wide * KX;
    if (ky + KY <= least_y || ky >= most_y + WY || kx + KX <= least_x || kx >= most_x + WX) continue;
    const u32 buffer = (j & 1) * 2 * TILE_BYTES;
    float S[MI][KT][4];
    scores(S, q_lane, buffer + k_lane);
    if (ky < most_y || ky + KY > least_y + WY || kx < most_x || kx + KX > least_x + WX) {
#pragma unroll
      for (int i = 0; i < MI; ++i)
#pragma unroll
        for (int n = 0; n < KT; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int key = n * 8 + (lane & 3) * 2 + (e & 1);
            const u32 past_y = ky + key / KX - starts_y[i][e >> 1];
            const u32 past_x = kx + key % KX - starts_x[i][e >> 1];
            if (past_y >= (u32)WY || past_x >= (u32)WX) S[i][n][e] = -INFINITY_F;
          }
    }
    float correction[MI][2];
#pragma unroll
    for (int i = 0; i < MI; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float now = row_max(S[i], r, top[i][r]);
        const float scaled = now == -INFINITY_F ? 0.f : now * scale;
        correction[i][r] = exp2_approx(fmaf(top[i][r], scale, -scaled));
        top[i][r] = now;
        sum[i][r] = sum[i][r] * correction[i][r] + weigh(S[i], r, scale, scaled);
      }
#pragma unroll
    for (int i = 0; i < MI; ++i)
#pragma unroll
      for (int d = 0; d < DT; ++d)
#pragma unroll
        for (int e = 0; e < 4; ++e) O[i][d][e] *= correction[i][e >> 1];
    product(O, S, buffer + v_lane);
  }
  copy_wait<0>();

  // Normalise; through the warp's own rows of Q's tile to rows of 16-byte stores.
  __syncwarp();
#pragma unroll
  for (int i = 0; i < MI; ++i)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float inverse = 1.f / quad_sum(sum[i][r]);
      const int row = warp * 16 * MI + i * 16 + r * 8 + (lane >> 2);
#pragma unroll
      for (int d = 0; d < DT; ++d)
        *(u32*)(memory + T::offset(row, d) + (lane & 3) * 4) =
            pack(O[i][d][2 * r] * inverse, O[i][d][2 * r + 1] * inverse);
    }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 16 * MI * T::CHUNKS / 32; ++i) {
    const int at = lane + i * 32, row = warp * 16 * MI + at / T::CHUNKS, chunk = at % T::CHUNKS;
    const int y = y0 + row / QX, x = x0 + row % QX;
    if (y < NY && x < NX)
      *(uint4*)(O_ + q_at + ((long long)y * NX + x) * D + chunk * 8) =
          *(const uint4*)(memory + T::offset(row, chunk));
  }
}
