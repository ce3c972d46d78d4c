// y[b, n] = sum_k x[b, k] w[n, k] for up to 16 vectors x, weights of 4, 3, 2 or 1.6 bits.
//
// A weight is an integer times the float16 scale of its group of GROUP numbers of a row.  A block
// has 8 warps and 8 TILES rows; the warps take the groups in turn and their sums are added at the
// end.  DEPTH groups of a warp's weights are on their way at any time.  HIGH: more than 8 vectors.
// The rows are the columns of B in mma.sync, the vectors the rows of A; the four threads that share
// a row take a quarter of a group each, and x is read in the same order.
//
// How a quarter is stored, in words of 32 bits whose halves hold the two numbers of a pair at the
// same place (FORMAT is the bits, 1 for 1.6); a number is biased to be 0 or more:
//   4: 4 pairs a word, at bits 0, 4, 8, 12.     2: 8 pairs a word, at bits 0, 2, .. 14.
//   3: 5 pairs a word, at bits 0, 3, .. 12; of the 16th pair word i has bit i, at bit 15.
//   1: 20 ternary digits a word: byte h + 2e has digits 4i + 2h + e for i = 0 .. 4, digit i to be
//      read as the (i + 1)th digit of byte / 256 in base 3.
// A field x at bit p of a half becomes 1024 + 2^p x by setting an exponent, with no shift and no
// subtraction: x's partner in the vectors is scaled by 2^-p beforehand, and what 1024 and the bias
// add is the product of the vectors with a constant matrix, taken off once for all rows.
#include "common.cuh"

#ifndef FORMAT
#define FORMAT 4
#define TILES 4
#define DEPTH 2
#define BLOCKS 2
#define HIGH 0
#endif

#define ROWS (8 * TILES)
#define WARPS 8
#define QUARTER (FORMAT == 1 ? 40 : 32)
#define GROUP (4 * QUARTER)
#define WORDS (FORMAT == 4 ? 4 : FORMAT == 3 ? 3 : 2)
#define STEPS (QUARTER / 4)

#define PAIRS (QUARTER / 2)
// Vectors are scaled by 2^(MIDDLE - place), results by 2^-MIDDLE.
#define MIDDLE (FORMAT == 4 ? 2 : FORMAT == 1 ? 8 : 3)
#define BIAS (FORMAT == 4 ? 8 : FORMAT == 3 ? 4 : FORMAT == 2 ? 2 : 1)

// Where a pair's field stands when its exponent is set.
DEVICE constexpr int place(int pair) {
  return FORMAT == 4   ? pair % 2 * 4
         : FORMAT == 2 ? pair % 4 * 2
         : FORMAT == 3 ? (pair == 15 ? 0 : pair % 5 % 3 * 3)
                       : 8;
}
// 2^n as a pair of float16.
DEVICE constexpr u32 power(int n) { return (u32)((15 + n) << 10) * 0x10001u; }

DEVICE u32 multiply2(u32 a, u32 b) {
  u32 r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
// (x & field) | exponent, one instruction.
DEVICE u32 field(u32 x, int bits, int at) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;"
      : "=r"(r)
      : "r"(x), "r"(((1u << bits) - 1) * 0x10001u << at), "r"(0x64006400u));
  return r;
}

// A quarter as fragments of B: pair i is b[i / 2][i % 2].
DEVICE void unpack_quarter(u32 (&b)[STEPS][2], const u32 (&w)[WORDS]) {
  if (FORMAT == 4) {
#pragma unroll
    for (int i = 0; i < PAIRS; ++i)
      b[i / 2][i % 2] = field(i & 2 ? w[i / 4 % WORDS] >> 8 : w[i / 4 % WORDS], 4, place(i));
  } else if (FORMAT == 2) {
#pragma unroll
    for (int i = 0; i < PAIRS; ++i)
      b[i / 2][i % 2] = field(i & 4 ? w[i / 8 % WORDS] >> 8 : w[i / 8 % WORDS], 2, place(i));
  } else if (FORMAT == 3) {
#pragma unroll
    for (int i = 0; i < 15; ++i) {
      const u32 x = w[i / 5 % WORDS];
      b[i / 2][i % 2] = field(i % 5 >= 3 ? x >> 9 : x, 3, place(i));
    }
    const u32 spread = ((w[0] >> 15) & 0x00010001u) | ((w[1] >> 14) & 0x00020002u) |
                       ((w[WORDS - 1] >> 13) & 0x00040004u);
    b[7][1] = spread | 0x64006400u;
  } else {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      u32 even = w[j] & 0x00ff00ffu, odd = (w[j] >> 8) & 0x00ff00ffu;  // bytes 0, 2 and 1, 3
#pragma unroll
      for (int i = 0; i < 5; ++i) {
        even *= 3;
        odd *= 3;
        b[5 * j + i][0] = field(even, 2, 8);
        b[5 * j + i][1] = field(odd, 2, 8);
        even &= 0x00ff00ffu;
        odd &= 0x00ff00ffu;
      }
    }
  }
}

template <int COUNT>
DEVICE void load_words(u32 (&to)[COUNT], const u32* from) {
  if constexpr (COUNT == 4) {
    uint4 v = __ldcs((const uint4*)from);
    to[0] = v.x; to[1] = v.y; to[2] = v.z; to[3] = v.w;
  } else if constexpr (COUNT == 2) {
    uint2 v = __ldcs((const uint2*)from);
    to[0] = v.x; to[1] = v.y;
  } else {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) to[i] = __ldcs(from + i);
  }
}

extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    gemv(const u32* __restrict__ W, const half_t* __restrict__ scales, const half_t* __restrict__ X,
         half_t* __restrict__ Y, int N, int K, int batch) {
  __shared__ float sums[WARPS][16][ROWS];
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int groups = K / GROUP, row0 = blockIdx.x * ROWS;

  float y[TILES][4];
#pragma unroll
  for (int i = 0; i < TILES; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) y[i][e] = 0.f;

  struct Taken {
    u32 w[TILES][WORDS];
    half_t scale[TILES][2];  // of the rows whose results the thread holds
  };
  auto take = [&](Taken& to, int group) {
#pragma unroll
    for (int i = 0; i < TILES; ++i) {
      const long long row = min(row0 + i * 8 + g, N - 1);
      load_words(to.w[i], W + ((row * groups + group) * 4 + t) * WORDS);
    }
#pragma unroll
    for (int i = 0; i < TILES; ++i)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const long long held = min(row0 + i * 8 + 2 * t + e, N - 1);
        to.scale[i][e] = scales[held * groups + group];
      }
  };
  auto work = [&](const Taken& now, int group) {
    u32 x[STEPS][4];  // of vectors g and g + 8, as fragments of A
#pragma unroll
    for (int i = 0; i < STEPS / 2; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        uint4 v = make_uint4(0, 0, 0, 0);
        if (h <= HIGH && g + 8 * h < batch)
          v = *(const uint4*)(X + (long long)(g + 8 * h) * K + group * GROUP + t * QUARTER + 8 * i);
        x[2 * i][h] = v.x;
        x[2 * i][2 + h] = v.y;
        x[2 * i + 1][h] = v.z;
        x[2 * i + 1][2 + h] = v.w;
      }
    float constant[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
    for (int j = 0; j < STEPS; ++j) {
      if (FORMAT != 1)
#pragma unroll
        for (int h = 0; h < 4; ++h)
          if (h % 2 <= HIGH) x[j][h] = multiply2(x[j][h], power(MIDDLE - place(2 * j + h / 2)));
      mma(constant, x[j], 0x64006400u + (BIAS << place(2 * j)) * 0x10001u,
          0x64006400u + (BIAS << place(2 * j + 1)) * 0x10001u);
    }
#pragma unroll
    for (int i = 0; i < TILES; ++i) {
      u32 b[STEPS][2];
      unpack_quarter(b, now.w[i]);
      float part[4] = {-constant[0], -constant[1], -constant[2], -constant[3]};
#pragma unroll
      for (int j = 0; j < STEPS; ++j) mma(part, x[j], b[j][0], b[j][1]);
#pragma unroll
      for (int e = 0; e < 4; ++e) y[i][e] += part[e] * to_float(now.scale[i][e & 1]);
    }
  };
  Taken taken[DEPTH];
#pragma unroll
  for (int i = 0; i < DEPTH; ++i)
    if (warp + i * WARPS < groups) take(taken[i], warp + i * WARPS);
  for (int from = warp; from < groups; from += DEPTH * WARPS)
#pragma unroll
    for (int i = 0; i < DEPTH; ++i) {
      const int group = from + i * WARPS;
      if (group < groups) {
        const Taken now = taken[i];
        if (group + DEPTH * WARPS < groups) take(taken[i], group + DEPTH * WARPS);
        work(now, group);
      }
    }
#pragma unroll
  for (int i = 0; i < TILES; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[warp][g + 8 * (e >> 1)][i * 8 + 2 * t + (e & 1)] = y[i][e];
  __syncthreads();
  for (int at = threadIdx.x; at < batch * ROWS; at += WARPS * 32) {
    const int vector = at / ROWS, n = at % ROWS;
    float all = 0.f;
#pragma unroll
    for (int i = 0; i < WARPS; ++i) all += sums[i][vector][n];
    if (row0 + n < N)
      Y[(long long)vector * N + row0 + n] = to_half(all * (1.f / (1 << MIDDLE)));
  }
}
