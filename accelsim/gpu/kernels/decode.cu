// Attention of one query position over a long cache, the keys split over blocks (flash-decoding).
//
// `split`: a block takes the keys [s L, (s + 1) L) of one key head and all `group` (at most
// 8 HEAD_TILES) query heads that share it.  The heads are the columns of mma.sync, so that its rows
// are full: scores S^T = K Q^T have 16 keys a tile, outputs O^T = V^T W^T 16 of D.  A warp walks
// over TOKENS keys at a time with its own running maximum, denominator and output; the warps merge
// at the end, and `merge` merges the splits.
//
// K and V go from memory to registers and are never in shared memory: the head dimension is
// contracted, so any order of it will do if Q has the same, and each thread takes 16 (or fewer)
// bytes of a key that stand together.  BITS 16: K, V in the 16-bit type.  BITS 8, 4: signed
// integers times one float16 scale a key and head, K's and V's side by side, rows of them `pitch`
// keys apart; the scales multiply scores and weights, not elements.  Of each 8 four-bit numbers
// nibble i holds number 2i, nibble 4 + i number 2i + 1.
//
// Four-bit keys become float16 by one logical instruction, 1024 + 2^p (k + 8) at bit p of a half:
// Q is scaled by 2^-p, and what 1024 and 8 add, the same for all keys, is where scores start.
#include "common.cuh"

#ifndef D
#define D 128
#define BITS 16
#define TOKENS 32
#define WARPS 4
#define BLOCKS_PER_SM 2
#define AHEAD 0
#define HEAD_TILES 1
#endif

#define THREADS (WARPS * 32)
#define ROW_BYTES (D * BITS / 8)

// Bytes that a thread takes of a key at once.  For K four threads share a key, for V eight.
constexpr int piece(int threads) {
  int bytes = ROW_BYTES / threads;  // all that a thread will take
  return bytes % 16 == 0 ? 16 : bytes % 8 == 0 ? 8 : bytes % 4 == 0 ? 4 : 2;
}
constexpr int K_PIECE = piece(4), V_PIECE = piece(8);
constexpr int K_PIECES = ROW_BYTES / 4 / K_PIECE, V_PIECES = ROW_BYTES / 8 / V_PIECE;
constexpr int K_EACH = K_PIECE * 8 / BITS, V_EACH = V_PIECE * 8 / BITS;  // numbers in a piece
constexpr int V_WORDS = (V_PIECE + 3) / 4;

// A request of part of a line brings the whole line to L2: memory gives parts of lines more slowly
// (H200, rows of 192 bytes, 64 at a time: 4.0 TB/s instead of 4.4).
#define LOAD "ld.global.nc.L2::128B"
template <int BYTES>
DEVICE void load(u32* to, const unsigned char* from) {
  if constexpr (BYTES == 16) {
    asm volatile(LOAD ".v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "l"(from));
  } else if constexpr (BYTES == 8) {
    asm volatile(LOAD ".v2.u32 {%0, %1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "l"(from));
  } else if constexpr (BYTES == 4) {
    asm volatile(LOAD ".u32 %0, [%1];" : "=r"(to[0]) : "l"(from));
  } else {
    unsigned short value;
    asm volatile(LOAD ".u16 %0, [%1];" : "=h"(value) : "l"(from));
    to[0] = value;
  }
}

DEVICE u32 permute(u32 a, u32 b, u32 how) {
  u32 r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(how));
  return r;
}
DEVICE u32 subtract2(u32 a, u32 b) {
  u32 r;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
// (x & mask) ^ bits, one instruction.
DEVICE u32 masked(u32 x, u32 mask, u32 bits) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(r) : "r"(x), "r"(mask), "r"(bits));
  return r;
}
// Pairs of float16 from biased bytes (0x6400 + x is 1024 + x) and from signed nibbles.
DEVICE u32 pair_of_bytes(u32 biased, bool high) {
  return subtract2(permute(biased, 0x64646464u, high ? 0x4342 : 0x4140), 0x64806480u);
}
// 1024 + 2^p (x + 8) of the nibbles at bit p = 0 or 4 of both halves.
DEVICE u32 raised_nibbles(u32 x, int shift) {
  if (shift & 8) x >>= 8;
  return shift & 4 ? masked(x, 0x00f000f0u, 0x64806480u) : masked(x, 0x000f000fu, 0x64086408u);
}
DEVICE u32 pair_of_nibbles(u32 x, int shift) {
  const u32 raised = raised_nibbles(x, shift);
  if (!(shift & 4)) return subtract2(raised, 0x64086408u);
  u32 r;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(raised), "r"(0x2c002c00u), "r"(0xd480d480u));
  return r;
}
DEVICE u32 multiply2(u32 a, u32 b) {
  u32 r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
// The transpose of an 8 x 8 matrix of 16-bit numbers, a row in four threads.
DEVICE u32 transposed(u32 x) {
  u32 r;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(x));
  return r;
}

// A key's part in two registers for each 16 of D, from a thread's pieces of it.
DEVICE void unpack_key(u32 (&b)[D / 16][2], const u32 (&raw)[K_PIECES * K_PIECE / 4]) {
#pragma unroll
  for (int s = 0; s < D / 16; ++s) {  // four numbers: 4s .. 4s + 3 of the thread's own
    if (BITS == 16) {
      b[s][0] = raw[2 * s];
      b[s][1] = raw[2 * s + 1];
    } else if (BITS == 8) {
      u32 biased = raw[s] ^ 0x80808080u;
      b[s][0] = pair_of_bytes(biased, false);
      b[s][1] = pair_of_bytes(biased, true);
    } else {
      b[s][0] = raised_nibbles(raw[s / 2], (s & 1) * 8);
      b[s][1] = raised_nibbles(raw[s / 2], (s & 1) * 8 + 4);
    }
  }
}

// The place in a value of number n of piece p.
DEVICE int value_place(int p, int n) {
  return V_PIECE == 2 ? (p / 2) * 8 + 2 * n + (p & 1) : p * V_EACH + n;
}

// The pair (first key, second key) of number n of a thread's pieces of two keys.
DEVICE u32 value_pair(const u32* first, const u32* second, int n) {
  if (V_PIECE == 2)
    return pair_of_nibbles(permute(first[0], second[0], 0x5410), n * 4);
  if (BITS == 16) return permute(first[n / 2], second[n / 2], n & 1 ? 0x7632 : 0x5410);
  if (BITS == 8) {
    u32 mixed = permute(first[n / 4], second[n / 4], n & 2 ? 0x7362 : 0x5140) ^ 0x80808080u;
    return pair_of_bytes(mixed, n & 1);
  }
  const int nibble = (n & 1) * 4 + (n % 8) / 2;  // where number n % 8 stands in its word
  const u32 mixed = permute(first[n / 8], second[n / 8], nibble < 4 ? 0x5410 : 0x7632);
  return pair_of_nibbles(mixed, (nibble & 3) * 4);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    split(const half_t* __restrict__ Q, const unsigned char* __restrict__ K,
          const unsigned char* __restrict__ V, const u32* __restrict__ scales,
          float* __restrict__ partial, float* __restrict__ statistics, half_t* __restrict__ O_,
          int M, int group, int length, int pitch, float scale) {
  constexpr int HT = HEAD_TILES, HEADS = 8 * HT;
  __shared__ float merged[WARPS][HEADS][D + 1];  // one number apart, so that banks differ
  __shared__ float tops[WARPS][HEADS], sums[WARPS][HEADS];
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  mark_start(threadIdx.x == 0);
  const int splits = gridDim.x, part = blockIdx.x;
  const long long head = blockIdx.y;  // batch and key head
  const int begin = part * length, end = min(M, begin + length);
  K += head * M * ROW_BYTES;
  V += head * M * ROW_BYTES;
  if (BITS < 16) scales += head * pitch;

  // Q as fragments of B (columns: heads), in K's order of D; heads past `group` are zero.
  u32 q[HT][D / 16][2];
  float start[HT][4];  // what scores start from
#pragma unroll
  for (int h = 0; h < HT; ++h) {
#pragma unroll
    for (int e = 0; e < 4; ++e) start[h][e] = 0.f;
#pragma unroll
    for (int s = 0; s < D / 16; ++s) {
      const int n = 4 * s;  // the thread's number, 4 of them a fragment
      const int d = ((n / K_EACH) * 4 + t) * K_EACH + n % K_EACH;
      const bool there = 8 * h + g < group;
      const uint2 v = *(const uint2*)(Q + (head * group + (there ? 8 * h + g : 0)) * D + d);
      q[h][s][0] = there ? v.x : 0;
      q[h][s][1] = there ? v.y : 0;
      if (BITS == 4) {
        q[h][s][1] = multiply2(q[h][s][1], 0x2c002c00u);  // 1 / 16
        const u32 low = 0x64086408u, high = 0x64806480u;
        const u32 zero[4] = {low, low, high, high};
        mma(start[h], zero, q[h][s][0], q[h][s][1]);
      }
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) start[h][e] = -start[h][e];
  }

  // O^T: rows 16 i + g and + 8 of a warp's own order of D, columns heads 2 t and 2 t + 1.
  float O[HT][D / 16][4], top[HT][2], sum[HT][2];
#pragma unroll
  for (int h = 0; h < HT; ++h) {
#pragma unroll
    for (int i = 0; i < D / 16; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) O[h][i][e] = 0.f;
    top[h][0] = top[h][1] = -INFINITY_F;
    sum[h][0] = sum[h][1] = 0.f;
  }

  // What a warp takes at a time.  With AHEAD the next is on its way while this is worked on.
  constexpr int NT = TOKENS / 8, MT = TOKENS / 16;
  struct Taken {
    u32 k[NT][K_PIECES * K_PIECE / 4], v[MT][4][V_PIECES * V_WORDS];
    u32 scales[NT];  // of key g of each eight: K's in the low half, V's above
  };
  auto take = [&](Taken& to, int from) {
#pragma unroll
    for (int n = 0; n < NT; ++n) {
      const int key = min(from + n * 8 + g, end - 1);
#pragma unroll
      for (int j = 0; j < K_PIECES; ++j)
        load<K_PIECE>(to.k[n] + j * K_PIECE / 4,
                      K + (long long)key * ROW_BYTES + (j * 4 + t) * K_PIECE);
      if (BITS < 16) to.scales[n] = scales[key];
    }
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = min(from + m * 16 + 2 * t + (i & 1) + (i >> 1) * 8, end - 1);
#pragma unroll
        for (int j = 0; j < V_PIECES; ++j)
          load<V_PIECE>(to.v[m][i] + j * V_WORDS,
                        V + (long long)key * ROW_BYTES + (j * 8 + g) * V_PIECE);
      }
  };
  mark(3, threadIdx.x == 0);
  Taken ready, next;
  int from = begin + warp * TOKENS;
  if (AHEAD && from < end) take(next, from);
  for (; from < end; from += WARPS * TOKENS) {
    if (AHEAD) {
      ready = next;
      if (from + WARPS * TOKENS < end) take(next, from + WARPS * TOKENS);
    } else {
      take(ready, from);
    }
    if (from == begin + WARPS * TOKENS) mark(4, threadIdx.x == 0);

    // S^T: rows keys g and g + 8 of each 16, columns heads 2 t and 2 t + 1.
    float S[HT][MT][4];
#pragma unroll
    for (int m = 0; m < MT; ++m) {
      u32 low[D / 16][2], high[D / 16][2];
      unpack_key(low, ready.k[2 * m]);
      unpack_key(high, ready.k[2 * m + 1]);
#pragma unroll
      for (int h = 0; h < HT; ++h) {
#pragma unroll
        for (int e = 0; e < 4; ++e) S[h][m][e] = start[h][e];
#pragma unroll
        for (int s = 0; s < D / 16; ++s) {
          const u32 a[4] = {low[s][0], high[s][0], low[s][1], high[s][1]};
          mma(S[h][m], a, q[h][s][0], q[h][s][1]);
        }
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int half = e >> 1, key = from + m * 16 + half * 8 + g;
          if (BITS < 16) S[h][m][e] *= unpack(ready.scales[2 * m + half]).x;
          S[h][m][e] = key < end ? S[h][m][e] * scale : -INFINITY_F;
        }
      }
    }
    u32 weights[HT][NT];  // as fragments of B: rows keys, columns heads
#pragma unroll
    for (int h = 0; h < HT; ++h) {
      float correction[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float now = top[h][c];
#pragma unroll
        for (int m = 0; m < MT; ++m) now = fmaxf(now, fmaxf(S[h][m][c], S[h][m][2 + c]));
#pragma unroll
        for (int away = 4; away < 32; away *= 2)
          now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, away));
        correction[c] = exp2_approx(top[h][c] - now);
        top[h][c] = now;
        float all = 0.f;
#pragma unroll
        for (int m = 0; m < MT; ++m)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float& x = S[h][m][2 * half + c];
            x = exp2_approx(x - now);
            all += x;
            if (BITS < 16) x *= unpack(ready.scales[2 * m + half]).y;
          }
        sum[h][c] = sum[h][c] * correction[c] + all;
      }
#pragma unroll
      for (int i = 0; i < D / 16; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) O[h][i][e] *= correction[e & 1];
#pragma unroll
      for (int n = 0; n < NT; ++n)
        weights[h][n] = transposed(pack(S[h][n / 2][n % 2 * 2], S[h][n / 2][n % 2 * 2 + 1]));
    }
#pragma unroll
    for (int m = 0; m < MT; ++m) {
      auto& v = ready.v[m];
#pragma unroll
      for (int i = 0; i < D / 16; ++i) {
        u32 a[4];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int j = (2 * i + r) / V_EACH * V_WORDS, n = (2 * i + r) % V_EACH;
          a[r] = value_pair(v[0] + j, v[1] + j, n);
          a[2 + r] = value_pair(v[2] + j, v[3] + j, n);
        }
#pragma unroll
        for (int h = 0; h < HT; ++h) mma(O[h][i], a, weights[h][2 * m], weights[h][2 * m + 1]);
      }
    }
  }

  mark(5, threadIdx.x == 0);
  // Merge the warps: row g of half r of tile i is number (2 i + r) % V_EACH of piece
  // (2 i + r) / V_EACH 8 + g.
#pragma unroll
  for (int h = 0; h < HT; ++h)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
#pragma unroll
      for (int away = 4; away < 32; away *= 2)
        sum[h][c] += __shfl_xor_sync(0xffffffffu, sum[h][c], away);
      if (g == 0) {
        tops[warp][8 * h + 2 * t + c] = top[h][c];
        sums[warp][8 * h + 2 * t + c] = sum[h][c];
      }
    }
  __syncthreads();
#pragma unroll
  for (int h = 0; h < HT; ++h)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int row = 8 * h + 2 * t + c;
      float best = tops[0][row];
#pragma unroll
      for (int w = 1; w < WARPS; ++w) best = fmaxf(best, tops[w][row]);
      const float weight = top[h][c] == -INFINITY_F ? 0.f : exp2_approx(top[h][c] - best);
      if (row < group)
#pragma unroll
        for (int i = 0; i < D / 16; ++i)
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const int d = value_place((2 * i + r) / V_EACH * 8 + g, (2 * i + r) % V_EACH);
            merged[warp][row][d] = O[h][i][2 * r + c] * weight;
          }
    }
  __syncthreads();
  for (int at = threadIdx.x; at < group * D; at += THREADS) {
    const int row = at / D, d = at % D;
    float best = tops[0][row], all = 0.f, output = 0.f;
#pragma unroll
    for (int w = 1; w < WARPS; ++w) best = fmaxf(best, tops[w][row]);
#pragma unroll
    for (int w = 0; w < WARPS; ++w) {
      if (sums[w][row] > 0.f) all += sums[w][row] * exp2_approx(tops[w][row] - best);
      output += merged[w][row][d];
    }
    const long long query = head * group + row;
    if (splits == 1) {
      O_[query * D + d] = to_half(output / all);
    } else {
      partial[(query * splits + part) * D + d] = output;
      if (d == 0) {
        statistics[(query * splits + part) * 2] = best;
        statistics[(query * splits + part) * 2 + 1] = all;
      }
    }
  }
  mark_end(threadIdx.x == 0);
}

// One block a query head: MERGERS parts of D threads, each with every MERGERS-th split.
#define MERGERS 4
extern "C" __global__ void __launch_bounds__(MERGERS * D)
    merge(const float* __restrict__ partial, const float* __restrict__ statistics,
          half_t* __restrict__ O_, int splits) {
  __shared__ float outputs[MERGERS][D], sums[MERGERS];
  mark_start(threadIdx.x == 0);
  const long long query = blockIdx.x;
  const int part = threadIdx.x / D, d = threadIdx.x % D, lane = threadIdx.x & 31;
  const float2* s = (const float2*)statistics + query * splits;  // maximum and sum of a split
  partial += query * splits * D + d;
  float best = -INFINITY_F;
  for (int i = lane; i < splits; i += 32) best = fmaxf(best, s[i].x);
#pragma unroll
  for (int away = 16; away; away >>= 1)
    best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, away));
  float all = 0.f, sum = 0.f;
#pragma unroll 4
  for (int i = part; i < splits; i += MERGERS) {
    const float2 own = s[i];
    const float weight = exp2_approx(own.x - best);
    sum += weight * own.y;
    all += weight * partial[(long long)i * D];
  }
  outputs[part][d] = all;
  if (d == 0) sums[part] = sum;
  __syncthreads();
  if (part == 0) {
#pragma unroll
    for (int i = 1; i < MERGERS; ++i) {
      all += outputs[i][d];
      sum += sums[i];
    }
    O_[query * D + d] = to_half(all / sum);
  }
  mark_end(threadIdx.x == 0);
}
