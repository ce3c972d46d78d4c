// A warp's part of a tile of attention on mma.sync: scores, weights and their product with V.
//
// D, BN, WARPS and MI are the kernel's: head dimension, keys of a tile, warps of a block and
// fragments of 16 query rows of a warp, which share every K and V fragment it loads.
#pragma once
#include "common.cuh"

#define THREADS (WARPS * 32)
#define BM (16 * MI * WARPS)
#define KT (BN / 8)  // fragments of scores along the keys
#define DT (D / 8)   // fragments of output along the head dimension

typedef Tile<D> T;

// S = Q K^T of one warp and one key tile.
DEVICE void scores(float (&S)[MI][KT][4], u32 q, u32 k) {
#pragma unroll
  for (int i = 0; i < MI; ++i)
#pragma unroll
    for (int n = 0; n < KT; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) S[i][n][e] = 0.f;
#pragma unroll
  for (int d = 0; d < D / 16; ++d) {
    u32 a[MI][4];
#pragma unroll
    for (int i = 0; i < MI; ++i) ldmatrix4(a[i], T::step(q, d) + i * 16 * T::ROW_BYTES);
#pragma unroll
    for (int n = 0; n < KT / 2; ++n) {
      u32 b[4];
      ldmatrix4(b, T::step(k, d) + n * 16 * T::ROW_BYTES);
#pragma unroll
      for (int i = 0; i < MI; ++i) {
        mma(S[i][2 * n], a[i], b[0], b[1]);
        mma(S[i][2 * n + 1], a[i], b[2], b[3]);
      }
    }
  }
}

// O += P V, the weights rounded to 16 bits.
DEVICE void product(float (&O)[MI][DT][4], const float (&S)[MI][KT][4], u32 v) {
#pragma unroll
  for (int m = 0; m < KT / 2; ++m) {
    u32 a[MI][4];
#pragma unroll
    for (int i = 0; i < MI; ++i) {
      a[i][0] = pack(S[i][2 * m][0], S[i][2 * m][1]);
      a[i][1] = pack(S[i][2 * m][2], S[i][2 * m][3]);
      a[i][2] = pack(S[i][2 * m + 1][0], S[i][2 * m + 1][1]);
      a[i][3] = pack(S[i][2 * m + 1][2], S[i][2 * m + 1][3]);
    }
#pragma unroll
    for (int d = 0; d < DT / 2; ++d) {
      u32 b[4];
      ldmatrix4_transposed(b, T::step(v, d) + m * 16 * T::ROW_BYTES);
#pragma unroll
      for (int i = 0; i < MI; ++i) {
        mma(O[i][2 * d], a[i], b[0], b[1]);
        mma(O[i][2 * d + 1], a[i], b[2], b[3]);
      }
    }
  }
}

// One row (r = 0, 1) of one fragment: the new maximum, and S replaced by exp2(scale (S - maximum)).
DEVICE float row_max(const float (&S)[KT][4], int r, float before) {
  float top = before;
#pragma unroll
  for (int n = 0; n < KT; ++n) top = fmaxf(top, fmaxf(S[n][2 * r], S[n][2 * r + 1]));
  return quad_max(top);
}
DEVICE float weigh(float (&S)[KT][4], int r, float scale, float scaled_top) {
  float sum0 = 0.f, sum1 = 0.f;
#pragma unroll
  for (int n = 0; n < KT; ++n) {
    S[n][2 * r] = exp2_approx(fmaf(S[n][2 * r], scale, -scaled_top));
    S[n][2 * r + 1] = exp2_approx(fmaf(S[n][2 * r + 1], scale, -scaled_top));
    sum0 += S[n][2 * r];
    sum1 += S[n][2 * r + 1];
  }
  return sum0 + sum1;
}
