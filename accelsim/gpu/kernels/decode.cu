// Attention of one query position over a long cache, the keys split over blocks (flash-decoding).
//
// `split`: a block takes the keys [s L, (s + 1) L) of one key head and all `group` (at most 16)
// query heads that share it, as the 16 rows of mma.sync.  A warp walks over TOKENS keys at a time
// with its own running maximum, denominator and output; the warps merge at the end, and `merge`
// merges the splits.
//
// K and V go from memory to registers and are never in shared memory: the head dimension is
// contracted, so any order of it will do if Q has the same, and each thread takes 16 (or fewer)
// bytes of a key that stand together.  BITS 16: K, V in the 16-bit type.  BITS 8, 4: signed
// integers times one float16 scale a key and head, K's and V's side by side, rows of them `pitch`
// keys apart; the scales multiply scores and weights, not elements.  Of each 8 four-bit numbers nibble i holds number 2i, nibble 4 + i number 2i + 1.
#include "common.cuh"

#ifndef D
#define D 128
#define BITS 16
#define TOKENS 32
#define WARPS 4
#define BLOCKS_PER_SM 2
#define AHEAD 0
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

template <int BYTES>
DEVICE void load(u32* to, const unsigned char* from) {
  if constexpr (BYTES == 16) {
    uint4 v = __ldcs((const uint4*)from);
    to[0] = v.x; to[1] = v.y; to[2] = v.z; to[3] = v.w;
  } else if constexpr (BYTES == 8) {
    uint2 v = __ldcs((const uint2*)from);
    to[0] = v.x; to[1] = v.y;
  } else if constexpr (BYTES == 4) {
    to[0] = __ldcs((const u32*)from);
  } else {
    to[0] = __ldcs((const unsigned short*)from);
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
// Pairs of float16 from biased bytes (0x6400 + x is 1024 + x) and nibbles.
DEVICE u32 pair_of_bytes(u32 biased, bool high) {
  return subtract2(permute(biased, 0x64646464u, high ? 0x4342 : 0x4140), 0x64806480u);
}
// Nibbles at 4 and 12 stay where they are: 1024 + 16 x, over 16, less 64 and the bias.
DEVICE u32 pair_of_nibbles(u32 biased, int shift) {
  const u32 x = shift & 8 ? biased >> 8 : biased;
  if (!(shift & 4)) return subtract2((x & 0x000f000fu) | 0x64006400u, 0x64086408u);
  u32 r;
  asm("fma.rn.f16x2 %0, %1, %2, %3;"
      : "=r"(r)
      : "r"((x & 0x00f000f0u) | 0x64006400u), "r"(0x2c002c00u), "r"(0xd480d480u));
  return r;
}

// Fragments of K for mma: two registers for each 16 of D, from a thread's pieces of one key.
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
      u32 biased = raw[s / 2] ^ 0x88888888u;
      b[s][0] = pair_of_nibbles(biased, (s & 1) * 8);
      b[s][1] = pair_of_nibbles(biased, (s & 1) * 8 + 4);
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
    return pair_of_nibbles(permute(first[0], second[0], 0x5410) ^ 0x88888888u, n * 4);
  if (BITS == 16) return permute(first[n / 2], second[n / 2], n & 1 ? 0x7632 : 0x5410);
  if (BITS == 8) {
    u32 mixed = permute(first[n / 4], second[n / 4], n & 2 ? 0x7362 : 0x5140) ^ 0x80808080u;
    return pair_of_bytes(mixed, n & 1);
  }
  const int nibble = (n & 1) * 4 + (n % 8) / 2;  // where number n % 8 stands in its word
  u32 mixed = permute(first[n / 8], second[n / 8], nibble < 4 ? 0x5410 : 0x7632) ^ 0x88888888u;
  return pair_of_nibbles(mixed, (nibble & 3) * 4);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    split(const half_t* __restrict__ Q, const unsigned char* __restrict__ K,
          const unsigned char* __restrict__ V, const u32* __restrict__ scales,
          float* __restrict__ partial, float* __restrict__ statistics, half_t* __restrict__ O_,
          int M, int group, int length, int pitch, float scale) {
  __shared__ float merged[16][D];
  __shared__ float tops[WARPS][16], sums[WARPS][16];
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int splits = gridDim.x, part = blockIdx.x;
  const long long head = blockIdx.y;  // batch and key head
  const int begin = part * length, end = min(M, begin + length);
  K += head * M * ROW_BYTES;
  V += head * M * ROW_BYTES;
  if (BITS < 16) scales += head * pitch;

  // Q as fragments of A, in K's order of D; rows past `group` are zero.
  u32 a[D / 16][4];
#pragma unroll
  for (int s = 0; s < D / 16; ++s) {
    const int n = 4 * s;  // the thread's number, 4 of them a fragment
    const int d = ((n / K_EACH) * 4 + t) * K_EACH + n % K_EACH;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const bool there = g + 8 * r < group;
      const half_t* q = Q + (head * group + (there ? g + 8 * r : 0)) * D + d;
      uint2 v = *(const uint2*)q;
      a[s][r] = there ? v.x : 0;
      a[s][2 + r] = there ? v.y : 0;
    }
  }

  float O[D / 8][4], top[2] = {-INFINITY_F, -INFINITY_F}, sum[2] = {0.f, 0.f};
#pragma unroll
  for (int i = 0; i < D / 8; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) O[i][e] = 0.f;

  // What a warp takes at a time.  With AHEAD the next is on its way while this is worked on.
  constexpr int NT = TOKENS / 8;
  struct Taken {
    u32 k[NT][K_PIECES * K_PIECE / 4], v[TOKENS / 16][4][V_PIECES * V_WORDS];
    uint2 scales[NT];  // of keys 2 t and 2 t + 1 of each eight: K's in the low half, V's above
  };
  auto take = [&](Taken& to, int from) {
#pragma unroll
    for (int n = 0; n < NT; ++n) {
      const int key = min(from + n * 8 + g, end - 1);
#pragma unroll
      for (int j = 0; j < K_PIECES; ++j)
        load<K_PIECE>(to.k[n] + j * K_PIECE / 4,
                      K + (long long)key * ROW_BYTES + (j * 4 + t) * K_PIECE);
      if (BITS < 16)
        to.scales[n] = *(const uint2*)(scales + min(from + n * 8 + t * 2, pitch - 2));
    }
#pragma unroll
    for (int m = 0; m < TOKENS / 16; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = min(from + m * 16 + 2 * t + (i & 1) + (i >> 1) * 8, end - 1);
#pragma unroll
        for (int j = 0; j < V_PIECES; ++j)
          load<V_PIECE>(to.v[m][i] + j * V_WORDS,
                        V + (long long)key * ROW_BYTES + (j * 8 + g) * V_PIECE);
      }
  };
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
    auto& k = ready.k;
    auto& v = ready.v;
    auto& pairs = ready.scales;

    float S[NT][4];
#pragma unroll
    for (int n = 0; n < NT; ++n) {
      u32 b[D / 16][2];
      unpack_key(b, k[n]);
#pragma unroll
      for (int e = 0; e < 4; ++e) S[n][e] = 0.f;
#pragma unroll
      for (int s = 0; s < D / 16; ++s) mma(S[n], a[s], b[s][0], b[s][1]);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int key = from + n * 8 + t * 2 + (e & 1);
        if (BITS < 16) S[n][e] *= unpack(e & 1 ? pairs[n].y : pairs[n].x).x;
        S[n][e] = key < end ? S[n][e] * scale : -INFINITY_F;
      }
    }
    float correction[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float now = top[r];
#pragma unroll
      for (int n = 0; n < NT; ++n) now = fmaxf(now, fmaxf(S[n][2 * r], S[n][2 * r + 1]));
      now = quad_max(now);
      correction[r] = exp2_approx(top[r] - now);
      top[r] = now;
      float all = 0.f;
#pragma unroll
      for (int n = 0; n < NT; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& x = S[n][2 * r + e];
          x = exp2_approx(x - now);
          all += x;
          if (BITS < 16) x *= unpack(e ? pairs[n].y : pairs[n].x).y;
        }
      sum[r] = sum[r] * correction[r] + all;
    }
#pragma unroll
    for (int i = 0; i < D / 8; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) O[i][e] *= correction[e >> 1];
#pragma unroll
    for (int m = 0; m < TOKENS / 16; ++m) {
      const u32 w[4] = {pack(S[2 * m][0], S[2 * m][1]), pack(S[2 * m][2], S[2 * m][3]),
                        pack(S[2 * m + 1][0], S[2 * m + 1][1]),
                        pack(S[2 * m + 1][2], S[2 * m + 1][3])};
#pragma unroll
      for (int i = 0; i < D / 8; ++i) {
        const int j = i / V_EACH, n = i % V_EACH;
        mma(O[i], w, value_pair(v[m][0] + j * V_WORDS, v[m][1] + j * V_WORDS, n),
            value_pair(v[m][2] + j * V_WORDS, v[m][3] + j * V_WORDS, n));
      }
    }
  }

  // Merge the warps: column c of fragment i is number i % V_EACH of piece (i / V_EACH) 8 + c.
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] = quad_sum(sum[r]);
    if (t == 0) {
      tops[warp][g + 8 * r] = top[r];
      sums[warp][g + 8 * r] = sum[r];
    }
  }
  for (int i = threadIdx.x; i < 16 * D; i += THREADS) (&merged[0][0])[i] = 0.f;
  __syncthreads();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = g + 8 * r;
    float best = tops[0][row];
#pragma unroll
    for (int w = 1; w < WARPS; ++w) best = fmaxf(best, tops[w][row]);
    const float weight = top[r] == -INFINITY_F ? 0.f : exp2_approx(top[r] - best);
    if (row < group)
#pragma unroll
      for (int i = 0; i < D / 8; ++i)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int d = value_place((i / V_EACH) * 8 + 2 * t + e, i % V_EACH);
          atomicAdd(&merged[row][d], O[i][2 * r + e] * weight);
        }
  }
  __syncthreads();
  for (int at = threadIdx.x; at < group * D; at += THREADS) {
    const int row = at / D, d = at % D;
    float best = tops[0][row], all = 0.f;
    for (int w = 1; w < WARPS; ++w) best = fmaxf(best, tops[w][row]);
    for (int w = 0; w < WARPS; ++w)
      if (sums[w][row] > 0.f) all += sums[w][row] * exp2_approx(tops[w][row] - best);
    const long long query = head * group + row;
    if (splits == 1) {
      O_[query * D + d] = to_half(merged[row][d] / all);
    } else {
      partial[(query * splits + part) * D + d] = merged[row][d];
      if (d == 0) {
        statistics[(query * splits + part) * 2] = best;
        statistics[(query * splits + part) * 2 + 1] = all;
      }
    }
  }
}

// One block of D threads a query head.
extern "C" __global__ void __launch_bounds__(D)
    merge(const float* __restrict__ partial, const float* __restrict__ statistics,
          half_t* __restrict__ O_, int splits) {
  const long long query = blockIdx.x;
  const int d = threadIdx.x;
  const float* s = statistics + query * splits * 2;
  float best = -INFINITY_F;
  for (int i = 0; i < splits; ++i) best = fmaxf(best, s[2 * i]);
  float all = 0.f, sum = 0.f;
  for (int i = 0; i < splits; ++i) {
    const float weight = exp2_approx(s[2 * i] - best);
    sum += weight * s[2 * i + 1];
    all += weight * partial[(query * splits + i) * D + d];
  }
  O_[query * D + d] = to_half(all / sum);
}
