// Scores estimated from quantised queries and keys, reduced to one number a block of 64 x 64: what
// a selection stage needs to choose blocks of keys.
//
//   R[z, i, j] = max over the queries p of block i and the keys m of block j of
//                q_scale[z, p] k_scale[z, m] (Q[z, p, :] . K[z, m, :]),    scales positive
//
// Q and K are integers of 8 bits, or (BITS 4) two a byte, number 2i in the low half, expanded to 8
// bits on their way to shared memory.  A block has 4 warps of 32 queries and 128 keys; CAUSAL: keys
// m > p do not count, and blocks beyond the diagonal are written as -inf.
#include "common.cuh"

#ifndef D
#define D 128
#define BITS 8
#define CAUSAL 0
#endif

#define THREADS 128
#define SIDE 128

typedef Tile<D / 2> T;  // rows of D bytes, seen as 16-bit numbers

DEVICE void mma_s8(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Eight signed nibbles of a word to eight bytes.
DEVICE uint2 widen(u32 x) {
  u32 even = x & 0x0f0f0f0fu, odd = (x >> 4) & 0x0f0f0f0fu;
  u32 low, high;
  asm("prmt.b32 %0, %1, %2, 0x5140;" : "=r"(low) : "r"(even), "r"(odd));
  asm("prmt.b32 %0, %1, %2, 0x7362;" : "=r"(high) : "r"(even), "r"(odd));
  // 0..15 to -8..7: (x ^ 8) - 8 by byte, with no borrow since the top bit is set first.
  low = (((low ^ 0x08080808u) | 0x80808080u) - 0x08080808u) ^ 0x80808080u;
  high = (((high ^ 0x08080808u) | 0x80808080u) - 0x08080808u) ^ 0x80808080u;
  return make_uint2(low, high);
}

DEVICE void load_tile(u32 to, unsigned char* memory, const unsigned char* from, int rows, int thread) {
#pragma unroll
  for (int i = 0; i < SIDE * T::CHUNKS / THREADS; ++i) {
    const int at = thread + i * THREADS, row = at / T::CHUNKS, chunk = at % T::CHUNKS;
    const bool keep = row < rows;
    const unsigned char* source = from + (long long)(keep ? row : 0) * (D * BITS / 8) + chunk * 2 * BITS;
    if (BITS == 8) {
      copy16(to + T::offset(row, chunk), source, keep);
    } else {
      uint2 x = keep ? *(const uint2*)source : make_uint2(0, 0);
      uint2 a = widen(x.x), b = widen(x.y);
      *(uint4*)(memory + T::offset(row, chunk)) = make_uint4(a.x, a.y, b.x, b.y);
    }
  }
}

// The best of a warp's 32 rows by 64 keys; INSIDE: all of them count.
template <bool INSIDE>
DEVICE void best_of(float (&top)[SIDE / 64], const int (&S)[2][SIDE / 8][4],
                    const float (&row_scale)[2][2], const float* k_scale, int query0, int key0,
                    int P, int M) {
#pragma unroll
  for (int n = 0; n < SIDE / 8; ++n)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int key = key0 + n * 8 + e;
      const float key_scale = k_scale[INSIDE ? key : min(key, M - 1)];
      float best = -INFINITY_F;
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int query = query0 + i * 16 + r * 8;
          float x = (float)S[i][n][2 * r + e] * row_scale[i][r];
          if (!INSIDE && !(query < P && key < M && !(CAUSAL && key > query))) x = -INFINITY_F;
          best = fmaxf(best, x);
        }
      top[n / 8] = fmaxf(top[n / 8], best * key_scale);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    estimate(const unsigned char* __restrict__ Q, const unsigned char* __restrict__ K,
             const float* __restrict__ q_scale, const float* __restrict__ k_scale,
             float* __restrict__ R, int P, int M, int group) {
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ float best[4][SIDE / 64];
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
  const int m0 = blockIdx.x * SIDE, p0 = blockIdx.y * SIDE;
  const long long z = blockIdx.z, zk = z / group;
  const int key_blocks = (M + 63) / 64, query_blocks = (P + 63) / 64;
  const u32 q = shared_address(memory), k = q + SIDE * D;
  const bool skip = CAUSAL && m0 > p0 + SIDE - 1;

  float top[SIDE / 64];
#pragma unroll
  for (int j = 0; j < SIDE / 64; ++j) top[j] = -INFINITY_F;
  if (!skip) {
    load_tile(q, memory, Q + (z * P + p0) * (D * BITS / 8), P - p0, thread);
    load_tile(k, memory + SIDE * D, K + (zk * M + m0) * (D * BITS / 8), M - m0, thread);
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    const u32 a_lane = q + T::offset(warp * 32 + (lane & 15), lane >> 4);
    const u32 b_lane = k + T::offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
    int S[2][SIDE / 8][4] = {};
#pragma unroll
    for (int d = 0; d < D / 32; ++d) {
      u32 a[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) ldmatrix4(a[i], T::step(a_lane, d) + i * 16 * T::ROW_BYTES);
#pragma unroll
      for (int n = 0; n < SIDE / 16; ++n) {
        u32 b[4];
        ldmatrix4(b, T::step(b_lane, d) + n * 16 * T::ROW_BYTES);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          mma_s8(S[i][2 * n], a[i], b[0], b[1]);
          mma_s8(S[i][2 * n + 1], a[i], b[2], b[3]);
        }
      }
    }
    const int query0 = p0 + warp * 32 + (lane >> 2), key0 = m0 + (lane & 3) * 2;
    const bool inside = p0 + SIDE <= P && m0 + SIDE <= M && !(CAUSAL && m0 + SIDE - 1 > p0);
    float row_scale[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        row_scale[i][r] = q_scale[z * P + min(query0 + i * 16 + r * 8, P - 1)];
    if (inside)
      best_of<true>(top, S, row_scale, k_scale + zk * M, query0, key0, P, M);
    else
      best_of<false>(top, S, row_scale, k_scale + zk * M, query0, key0, P, M);
  }
#pragma unroll
  for (int j = 0; j < SIDE / 64; ++j) {
#pragma unroll
    for (int i = 16; i; i >>= 1) top[j] = fmaxf(top[j], __shfl_xor_sync(0xffffffffu, top[j], i));
    if (lane == 0) best[warp][j] = top[j];
  }
  __syncthreads();
  if (thread < 2 * (SIDE / 64)) {
    const int i = thread / (SIDE / 64), j = thread % (SIDE / 64);
    const int row = p0 / 64 + i, column = m0 / 64 + j;
    if (row < query_blocks && column < key_blocks)
      R[(z * query_blocks + row) * key_blocks + column] = fmaxf(best[2 * i][j], best[2 * i + 1][j]);
  }
}
