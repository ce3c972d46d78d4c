// y[b, n] = sum_k x[b, k] w[n, k] for up to 16 vectors x, weights of 4, 3, 2 or 1.6 bits.
//
// A weight is an integer times the float16 scale of its group of GROUP numbers of a row.  A block
// has 8 warps and 8 TILES rows; the warps take the groups in turn and their sums are added at the
// end.  HIGH: more than 8 vectors.  The rows are the columns of B in mma.sync, the vectors the rows of A; the four threads that share
// a row take a quarter of a group each, and x is read in the same order.
//
// How a quarter is stored, in words of 32 bits (FORMAT is the bits, 1 for 1.6):
//   4: 8 numbers a word; nibble i holds number 2i, nibble 4 + i number 2i + 1; biased by 8.
//   2: 16 a word; bits 2i number 2i, bits 16 + 2i number 2i + 1; biased by 2.
//   3: two words as for 2 with the low bits, one with the high: bit i number 2i, bit 16 + i number
//      2i + 1 of the first 16, bits 8 + i and 24 + i of the second 16; biased by 4.
//   1: 20 ternary digits a word: byte h + 2e has digits 4i + 2h + e for i = 0 .. 4, digit i to be
//      read as the (i + 1)th digit of byte / 256 in base 3; biased by 1.
#include "common.cuh"

#ifndef FORMAT
#define FORMAT 4
#define TILES 4
#define HIGH 0
#endif

#define ROWS (8 * TILES)
#define WARPS 8
#define QUARTER (FORMAT == 1 ? 40 : 32)
#define GROUP (4 * QUARTER)
#define WORDS (FORMAT == 4 ? 4 : FORMAT == 3 ? 3 : 2)
#define STEPS (QUARTER / 4)
#define AHEAD 2  // groups in flight

DEVICE u32 subtract2(u32 a, u32 b) {
  u32 r;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}

// A quarter as fragments of B: of four numbers a step the first two and the last two.
DEVICE void unpack_quarter(u32 (&b)[STEPS][2], const u32 (&w)[WORDS]) {
  if (FORMAT == 4) {
#pragma unroll
    for (int i = 0; i < 16; ++i)  // pair i: word i / 4, nibbles i % 4 and + 4
      b[i / 2][i % 2] =
          subtract2(((w[i / 4] >> (4 * (i % 4))) & 0x000f000fu) | 0x64006400u, 0x64086408u);
  } else if (FORMAT == 2) {
#pragma unroll
    for (int i = 0; i < 16; ++i)
      b[i / 2][i % 2] =
          subtract2(((w[i / 8] >> (2 * (i % 8))) & 0x00030003u) | 0x64006400u, 0x64026402u);
  } else if (FORMAT == 3) {
    const u32 high = w[WORDS - 1];
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      u32 low = (w[i / 8] >> (2 * (i % 8))) & 0x00030003u;
      u32 top = (i >= 2 ? high >> (i - 2) : high << (2 - i)) & 0x00040004u;
      b[i / 2][i % 2] = subtract2(low | top | 0x64006400u, 0x64046404u);
    }
  } else {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      u32 even = w[j] & 0x00ff00ffu, odd = (w[j] >> 8) & 0x00ff00ffu;  // bytes 0, 2 and 1, 3
#pragma unroll
      for (int i = 0; i < 5; ++i) {
        even *= 3;
        odd *= 3;
        b[5 * j + i][0] = subtract2(((even >> 8) & 0x00030003u) | 0x64006400u, 0x64016401u);
        b[5 * j + i][1] = subtract2(((odd >> 8) & 0x00030003u) | 0x64006400u, 0x64016401u);
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

extern "C" __global__ void __launch_bounds__(WARPS * 32)
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

  for (int first = warp; first < groups; first += WARPS * AHEAD) {
    u32 w[AHEAD][TILES][WORDS];
    uint4 x[AHEAD][1 + HIGH][STEPS / 2];  // 8 numbers, two steps, of vectors g and g + 8
    float scale[AHEAD][TILES][2];         // of the rows whose results the thread holds
#pragma unroll
    for (int a = 0; a < AHEAD; ++a) {
      const bool there = first + a * WARPS < groups;
      const int group = there ? first + a * WARPS : groups - 1;
#pragma unroll
      for (int i = 0; i < TILES; ++i) {
        const long long row = min(row0 + i * 8 + g, N - 1);
        load_words(w[a][i], W + ((row * groups + group) * 4 + t) * WORDS);
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const long long held = min(row0 + i * 8 + 2 * t + e, N - 1);
          scale[a][i][e] = there ? to_float(scales[held * groups + group]) : 0.f;
        }
      }
#pragma unroll
      for (int h = 0; h <= HIGH; ++h)
#pragma unroll
        for (int i = 0; i < STEPS / 2; ++i) {
          x[a][h][i] = make_uint4(0, 0, 0, 0);
          if (g + 8 * h < batch)
            x[a][h][i] = *(const uint4*)(X + (long long)(g + 8 * h) * K + group * GROUP +
                                         t * QUARTER + 8 * i);
        }
    }
#pragma unroll
    for (int a = 0; a < AHEAD; ++a)
#pragma unroll
      for (int i = 0; i < TILES; ++i) {
        u32 b[STEPS][2];
        unpack_quarter(b, w[a][i]);
        float part[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
        for (int j = 0; j < STEPS / 2; ++j) {
          const uint4 low = x[a][0][j], high = HIGH ? x[a][HIGH][j] : make_uint4(0, 0, 0, 0);
          const u32 a0[4] = {low.x, high.x, low.y, high.y}, a1[4] = {low.z, high.z, low.w, high.w};
          mma(part, a0, b[2 * j][0], b[2 * j][1]);
          mma(part, a1, b[2 * j + 1][0], b[2 * j + 1][1]);
        }
#pragma unroll
        for (int e = 0; e < 4; ++e) y[i][e] += part[e] * scale[a][i][e & 1];
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
    if (row0 + n < N) Y[(long long)vector * N + row0 + n] = to_half(all);
  }
}
