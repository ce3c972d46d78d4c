// One-pass attention on Hopper's wgmma, fed by the bulk tensor copy engine.
//
// A block is one producer warpgroup and CONSUMERS warpgroups of 64 query rows each.  The producer
// keeps STAGES tiles of BN keys in flight.  A consumer issues the scores of the next tile together
// with the product of this one, so that its exponentials run beside its own tensor work; with
// TURNS the consumers also take turns in issuing, so that one computes exponentials while the
// other's matrices run (the two overlaps of FlashAttention-3, Shah et al. 2024).
//
// SPARSE: the key tiles of a query tile come from a list: tiles[starts[h, t] .. starts[h, t + 1]].
// PERSISTENT: a block takes query tiles one after the other from a queue; the next tile's first
// keys are on their way while this one's output is written.
//
// Tiles lie in shared memory as panels of 64 columns, 128-byte swizzled, which the copy engine
// writes and wgmma reads.
#include "hopper.cuh"

#ifndef D
#define D 128
#define BN 128
#define CONSUMERS 2
#define STAGES 2
#define TURNS 1
#define CAUSAL 0
#define WINDOW 0
#define SPARSE 0
#define PERSISTENT 0
#define BLOCKS 1
#endif

#define BM (64 * CONSUMERS)
#define THREADS (128 * (CONSUMERS + 1))
#define PANELS ((D + 63) / 64)
// With BLOCKS 2 two blocks of one consumer share a multiprocessor's registers.
#define PRODUCER_REGISTERS (CONSUMERS == 3 ? 32 : CONSUMERS == 2 || BLOCKS == 2 ? 24 : 56)
#define CONSUMER_REGISTERS (CONSUMERS == 3 ? 160 : BLOCKS == 2 ? 232 : 240)

// A query tile of a head of a batch, and its key tiles.
struct Part {
  int q0, head, batch, first, count;
  const int* tiles;
};

struct Bounds {
  int keys, offset, window;
  DEVICE bool some_out(int first, int last, int from) const {
    return from + BN > keys || (CAUSAL && from + BN - 1 > first + offset) ||
           (WINDOW && from <= last + offset - window);
  }
  DEVICE bool out(int row, int key) const {
    return key >= keys || (CAUSAL && key > row + offset) ||
           (WINDOW && key <= row + offset - window);
  }
};

// The new maxima, and S replaced by exp2(scale (S - maximum)); returns the corrections.
DEVICE void weigh(float (&S)[BN / 2], float (&top)[2], float (&sum)[2], float (&correction)[2],
                  float scale) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float now = top[r];
#pragma unroll
    for (int n = 0; n < BN / 8; ++n) now = fmaxf(now, fmaxf(S[4 * n + 2 * r], S[4 * n + 2 * r + 1]));
    now = quad_max(now);
    float scaled = now == -INFINITY_F ? 0.f : now * scale;
    correction[r] = exp2_approx(fmaf(top[r], scale, -scaled));
    top[r] = now;
    float part0 = 0.f, part1 = 0.f;
#pragma unroll
    for (int n = 0; n < BN / 8; ++n) {
      float& a = S[4 * n + 2 * r];
      float& b = S[4 * n + 2 * r + 1];
      a = exp2_approx(fmaf(a, scale, -scaled));
      b = exp2_approx(fmaf(b, scale, -scaled));
      part0 += a;
      part1 += b;
    }
    sum[r] = sum[r] * correction[r] + (part0 + part1);
  }
}

DEVICE void exclude(float (&S)[BN / 2], const Bounds& bounds, int row, int key) {
#pragma unroll
  for (int n = 0; n < BN / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (bounds.out(row + (e >> 1) * 8, key + n * 8 + (e & 1))) S[4 * n + e] = -INFINITY_F;
}

DEVICE void round_weights(u32 (&W)[BN / 4], const float (&S)[BN / 2]) {
#pragma unroll
  for (int i = 0; i < BN / 4; ++i) W[i] = pack(S[2 * i], S[2 * i + 1]);
}

DEVICE void issue_scores(float (&S)[BN / 2], u64 q, u64 k) {
#pragma unroll
  for (int d = 0; d < D / 16; ++d) {
    constexpr u32 Q_PANEL = BM * 128 >> 4, K_PANEL = BN * 128 >> 4;
    Wgmma<BN>::shared(S, q + (d / 4) * Q_PANEL + (d % 4) * 2, k + (d / 4) * K_PANEL + (d % 4) * 2,
                      d > 0);
  }
}

DEVICE void issue_product(float (&O)[D / 2], const u32 (&W)[BN / 4], u64 v) {
#pragma unroll
  for (int m = 0; m < BN / 16; ++m) Wgmma<D>::registers(O, W + 4 * m, v + m * (2048 >> 4));
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    attention(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map,
              const __grid_constant__ TensorMap v_map, half_t* __restrict__ O_, int P, int M,
              int group, float scale, int offset, int window, const int* __restrict__ starts,
              const int* __restrict__ tiles
#if PERSISTENT
              ,
              int query_tiles, int heads, int parts, int* __restrict__ queue
#endif
    ) {
#if !PERSISTENT
  const int query_tiles = gridDim.x, heads = gridDim.y;
#endif
  extern __shared__ unsigned char memory[];
  constexpr u32 Q_BYTES = BM * 128 * PANELS, TILE_BYTES = BN * 128 * PANELS;
  const u32 q_shared = (shared_address(memory) + 1023) & ~1023u;
  unsigned char* q_memory = memory + (q_shared - shared_address(memory));
  const u32 k_shared = q_shared + Q_BYTES, v_shared = k_shared + STAGES * TILE_BYTES;
  const u32 q_full = v_shared + STAGES * TILE_BYTES;
  auto k_full = [&](int s) { return q_full + 8 + s * 32; };
  auto k_empty = [&](int s) { return q_full + 16 + s * 32; };
  auto v_full = [&](int s) { return q_full + 24 + s * 32; };
  auto v_empty = [&](int s) { return q_full + 32 + s * 32; };
  const u32 q_empty = q_full + 8 + STAGES * 32;  // where PERSISTENT; and the number of the part
  volatile int* number = (volatile int*)(memory + (q_empty + 8 - shared_address(memory)));

  const int thread = threadIdx.x, warpgroup = __shfl_sync(0xffffffffu, thread >> 7, 0);
  mark_start(thread == 128);
  auto part_of = [&](int x, int y, int z) {
    const int query_tile = CAUSAL ? query_tiles - 1 - x : x, q0 = query_tile * BM;
    int first = 0, end = M;
    if (CAUSAL) end = min(end, q0 + BM + offset);
    if (WINDOW) first = max(0, q0 + offset - window + 1) / BN;
    Part part = {q0, y, z, first, max(0, (end + BN - 1) / BN - first), tiles};
    if (SPARSE) {
      const int* at = starts + y * (query_tiles + 1) + query_tile;
      part.tiles += at[0];
      part.count = at[1] - at[0];
    }
    return part;
  };
#if PERSISTENT
  auto numbered = [&](int n) {
    return part_of(n % query_tiles, n / query_tiles % heads, n / query_tiles / heads);
  };
#endif
  auto first_key = [&](const Part& part, int j) {
    return (SPARSE ? part.tiles[j] : part.first + j) * BN;
  };

  if (thread == 0) {
    barrier_init(q_full, 1);
    if (PERSISTENT) barrier_init(q_empty, CONSUMERS * 4);
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(k_full(s), 1);
      barrier_init(v_full(s), 1);
      barrier_init(k_empty(s), CONSUMERS * 4);
      barrier_init(v_empty(s), CONSUMERS * 4);
    }
    barrier_init_fence();
  }
  __syncthreads();

  if (warpgroup == 0) {
    registers_lower<PRODUCER_REGISTERS>();
    if (thread == 0) {
      int taken = 0;  // key tiles before this part
      for (int round = 0;; ++round) {
#if PERSISTENT
        const int n = atomicAdd(queue, 1);
        if (n >= parts) {
          barrier_wait(q_empty, (round & 1) ^ 1);
          *number = -1;
          barrier_arrive(q_full);
          break;
        }
        const Part part = numbered(n);
#else
        const Part part = part_of(blockIdx.x, blockIdx.y, blockIdx.z);
#endif
        const int q_head = part.batch * heads + part.head;
        const int k_head = part.batch * (heads / group) + part.head / group;
        auto load_queries = [&] {
#if PERSISTENT
          barrier_wait(q_empty, (round & 1) ^ 1);
          *number = n;
#endif
          barrier_expect(q_full, Q_BYTES);
          for (int p = 0; p < PANELS; ++p)
            tensor_load(q_shared + p * BM * 128, &q_map, p * 64, part.q0, q_head, q_full);
        };
        if (!PERSISTENT || part.count == 0) load_queries();
        for (int j = 0; j < part.count; ++j) {
          const int s = (taken + j) % STAGES, parity = (((taken + j) / STAGES) & 1) ^ 1;
          const int key0 = first_key(part, j);
          barrier_wait(k_empty(s), parity);
          barrier_expect(k_full(s), TILE_BYTES);
          for (int p = 0; p < PANELS; ++p)
            tensor_load(k_shared + s * TILE_BYTES + p * BN * 128, &k_map, p * 64, key0, k_head,
                        k_full(s));
          if (PERSISTENT && j == 0) load_queries();
          barrier_wait(v_empty(s), parity);
          barrier_expect(v_full(s), TILE_BYTES);
          for (int p = 0; p < PANELS; ++p)
            tensor_load(v_shared + s * TILE_BYTES + p * BN * 128, &v_map, p * 64, key0, k_head,
                        v_full(s));
        }
        if (!PERSISTENT) break;
        taken += part.count;
      }
#if PERSISTENT
      if (atomicAdd(queue + 1, 1) == gridDim.x - 1) queue[0] = queue[1] = 0;  // for the next launch
#endif
    }
  } else {
    registers_raise<CONSUMER_REGISTERS>();
    const int consumer = warpgroup - 1, lane = thread & 31, warp = (thread >> 5) & 3;
    const bool speaks = lane == 0;
    const int column = (lane & 3) * 2;
    const Bounds bounds = {M, offset, window};
    const u64 q = descriptor(q_shared + consumer * 64 * 128, 16);
    const u64 k = descriptor(k_shared, 16), v = descriptor(v_shared, BN * 128);
    const int own_turn = 1 + consumer, next_turn = 1 + (consumer + 1) % CONSUMERS;

    int taken = 0;
    for (int round = 0;; ++round) {
#if PERSISTENT
      barrier_wait(q_full, round & 1);
      const int n = *number;
      if (n < 0) break;
      const Part part = numbered(n);
#else
      const Part part = part_of(blockIdx.x, blockIdx.y, blockIdx.z);
#endif
      const int count = part.count;
      const int row0 = part.q0 + consumer * 64 + warp * 16;  // the warp's first query
      const int row = row0 + (lane >> 2);
      float S[BN / 2], O[D / 2], top[2] = {-INFINITY_F, -INFINITY_F}, sum[2] = {0.f, 0.f};
      u32 W[BN / 4];
#pragma unroll
      for (int i = 0; i < D / 2; ++i) O[i] = 0.f;

      if (count > 0) {
        if (TURNS && consumer == CONSUMERS - 1) named_arrive(1, 256);
        float correction[2];
        if (!PERSISTENT) barrier_wait(q_full, 0);
        const int s0 = taken % STAGES;
        barrier_wait(k_full(s0), (taken / STAGES) & 1);
        mark(3, thread == 128);
        wgmma_fence();
        issue_scores(S, q, k + s0 * (TILE_BYTES >> 4));
        wgmma_commit();
        wgmma_wait<0>();
        pin(S);
        if (speaks) barrier_arrive(k_empty(s0));
        if (bounds.some_out(row0, row0 + 15, first_key(part, 0)))
          exclude(S, bounds, row, first_key(part, 0) + column);
        weigh(S, top, sum, correction, scale);
        round_weights(W, S);
        mark(4, thread == 128);

#pragma unroll 1
        for (int j = 1; j < count; ++j) {
          const int at = taken + j, s = at % STAGES, before = (at - 1) % STAGES;
          const int key0 = first_key(part, j);
          barrier_wait(k_full(s), (at / STAGES) & 1);
          if (TURNS) named_sync(own_turn, 256);
          pin(S);
          pin(O);
          wgmma_fence();
          issue_scores(S, q, k + s * (TILE_BYTES >> 4));
          wgmma_commit();
          barrier_wait(v_full(before), ((at - 1) / STAGES) & 1);
          wgmma_fence();
          issue_product(O, W, v + before * (TILE_BYTES >> 4));
          wgmma_commit();
          if (TURNS) named_arrive(next_turn, 256);
          wgmma_wait<1>();
          pin(S);
          if (speaks) barrier_arrive(k_empty(s));
          if (bounds.some_out(row0, row0 + 15, key0)) exclude(S, bounds, row, key0 + column);
          weigh(S, top, sum, correction, scale);
          wgmma_wait<0>();
          pin(O);
          if (speaks) barrier_arrive(v_empty(before));
#pragma unroll
          for (int i = 0; i < D / 2; ++i) O[i] *= correction[(i >> 1) & 1];
          round_weights(W, S);
        }
        mark(5, thread == 128);
        const int end = taken + count - 1, last = end % STAGES;
        barrier_wait(v_full(last), (end / STAGES) & 1);
        pin(O);
        wgmma_fence();
        issue_product(O, W, v + last * (TILE_BYTES >> 4));
        wgmma_commit();
        wgmma_wait<0>();
        pin(O);
        if (PERSISTENT && speaks) barrier_arrive(v_empty(last));
        if (TURNS && consumer == 0) named_sync(1, 256);  // the arrival that nobody took
      } else if (!PERSISTENT) {
        barrier_wait(q_full, 0);
      }

      // Normalise; through this warpgroup's rows of Q's tile to rows of 16-byte stores.
      named_sync(5 + consumer, 128);
      unsigned char* own = q_memory + consumer * 64 * 128;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float inverse = 1.f / quad_sum(sum[r]);
        const int at = warp * 16 + r * 8 + (lane >> 2);
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
          *(u32*)(own + (n / 8) * BM * 128 + at * 128 + (((n & 7) ^ (at & 7)) << 4) + column * 2) =
              pack(O[4 * n + 2 * r] * inverse, O[4 * n + 2 * r + 1] * inverse);
      }
      __syncwarp();
      constexpr int CHUNKS = D / 8;
      half_t* to =
          O_ + ((long long)(part.batch * heads + part.head) * P + part.q0 + consumer * 64) * D;
#pragma unroll
      for (int i = 0; i < 16 * CHUNKS / 32; ++i) {
        const int n = lane + i * 32, at = warp * 16 + n / CHUNKS, chunk = n % CHUNKS;
        if (part.q0 + consumer * 64 + at < P)
          *(uint4*)(to + (long long)at * D + chunk * 8) = *(const uint4*)(
              own + (chunk / 8) * BM * 128 + at * 128 + (((chunk & 7) ^ (at & 7)) << 4));
      }
      mark_end(thread == 128);
      if (!PERSISTENT) break;
      taken += count;
      async_fence();  // this warp's numbers in Q's tile before the next queries
      __syncwarp();
      if (speaks) barrier_arrive(q_empty);
    }
  }
}
