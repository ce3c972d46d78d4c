// Softmax, RMSNorm and LayerNorm of the rows of a matrix of 16-bit numbers, one block a row.
//
// OP 0: softmax; 1: RMSNorm, times weight; 2: LayerNorm, times weight plus bias.
// FORM 0: as the textbook has it, a pass over the row for each statistic and one to write.
// FORM 1: the derived form, all statistics in one pass (softmax: maximum and denominator kept
//         running; LayerNorm: the first two moments), then one to write.
// FORM 2: the row is kept in registers as it was read, HELD chunks of 8 a thread: read once.
// CAUSAL: row i of each `period` has min(columns, i + 1 + offset) numbers; zeros are written from
//         there to where the last row of its `fill` rows ends.
#include "common.cuh"

#ifndef OP
#define OP 0
#define FORM 2
#define THREADS 256
#define HELD 2
#define CAUSAL 0
#endif

struct Eight { float x[8]; };

DEVICE Eight widened(const uint4& v) {
  Eight r;
  const u32 w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float2 f = unpack(w[i]);
    r.x[2 * i] = f.x;
    r.x[2 * i + 1] = f.y;
  }
  return r;
}
DEVICE Eight load8(const half_t* p) { return widened(*(const uint4*)p); }
DEVICE void store8(half_t* p, const Eight& r) {
  *(uint4*)p = make_uint4(pack(r.x[0], r.x[1]), pack(r.x[2], r.x[3]), pack(r.x[4], r.x[5]),
                          pack(r.x[6], r.x[7]));
}

template <bool MAXIMUM>
DEVICE float block_reduce(float x) {
  __shared__ float part[32];
#pragma unroll
  for (int i = 16; i; i >>= 1) {
    float y = __shfl_xor_sync(0xffffffffu, x, i);
    x = MAXIMUM ? fmaxf(x, y) : x + y;
  }
  __syncthreads();  // the readers of the last reduction
  if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = x;
  __syncthreads();
  x = part[0];
#pragma unroll
  for (int i = 1; i < THREADS / 32; ++i) x = MAXIMUM ? fmaxf(x, part[i]) : x + part[i];
  return x;
}

#define LOG2E 1.4426950408889634f

extern "C" __global__ void __launch_bounds__(THREADS)
    rows(const half_t* __restrict__ in, half_t* __restrict__ out, const half_t* __restrict__ weight,
         const half_t* __restrict__ bias, int columns, int pitch, float epsilon, int period,
         int offset, int fill) {
  const long long row = blockIdx.x;
  const half_t* x = in + row * pitch;
  half_t* y = out + row * pitch;
  int n = columns;
  if (CAUSAL) n = min(columns, (int)(row % period) + 1 + offset);
  const int chunks = (n + 7) / 8;

  // The chunk at c as it lies in memory, numbers past the row's end replaced: of softmax by -inf.
  auto chunk = [&](int c) {
    uint4 v = *(const uint4*)(x + c * 8);
    if (c * 8 + 8 > n) {
      constexpr u32 missing = OP == 0 ? (BF16 ? 0xff80u : 0xfc00u) : 0u;
      u32* w = (u32*)&v;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (c * 8 + 2 * i >= n) w[i] = (w[i] & 0xffff0000u) | missing;
        if (c * 8 + 2 * i + 1 >= n) w[i] = (w[i] & 0xffffu) | missing << 16;
      }
    }
    return v;
  };

  uint4 held[FORM == 2 ? HELD : 1];
  if (FORM == 2) {
#pragma unroll
    for (int j = 0; j < HELD; ++j) {
      int c = threadIdx.x + j * THREADS;
      if (c < chunks) held[j] = chunk(c);
    }
  }
  // `body` on each chunk that this thread owns, from registers or from memory.
  auto each = [&](auto body) {
    if (FORM == 2) {
#pragma unroll
      for (int j = 0; j < HELD; ++j) {
        int c = threadIdx.x + j * THREADS;
        if (c < chunks) body(c, widened(held[j]));
      }
    } else {
      for (int c = threadIdx.x; c < chunks; c += THREADS) body(c, widened(chunk(c)));
    }
  };

  if (OP == 0) {
    float top = -INFINITY_F, sum = 0.f;
    if (FORM == 1) {
      each([&](int, const Eight& r) {
        float now = top;
#pragma unroll
        for (int i = 0; i < 8; ++i) now = fmaxf(now, r.x[i]);
        float part = 0.f;
#pragma unroll
        for (int i = 0; i < 8; ++i) part += exp2_approx((r.x[i] - now) * LOG2E);
        sum = sum * exp2_approx((top - now) * LOG2E) + part;
        top = now;
      });
      float all = block_reduce<true>(top);
      sum = block_reduce<false>(top == -INFINITY_F ? 0.f : sum * exp2_approx((top - all) * LOG2E));
      top = all;
    } else {
      each([&](int, const Eight& r) {
#pragma unroll
        for (int i = 0; i < 8; ++i) top = fmaxf(top, r.x[i]);
      });
      top = block_reduce<true>(top);
      each([&](int, const Eight& r) {
#pragma unroll
        for (int i = 0; i < 8; ++i) sum += exp2_approx((r.x[i] - top) * LOG2E);
      });
      sum = block_reduce<false>(sum);
    }
    const float inverse = 1.f / sum;
    each([&](int c, const Eight& r) {
      Eight w;
#pragma unroll
      for (int i = 0; i < 8; ++i) w.x[i] = exp2_approx((r.x[i] - top) * LOG2E) * inverse;
      store8(y + c * 8, w);
    });
    if (CAUSAL) {
      const int last = ((int)(row % period) / fill + 1) * fill + offset;
      const int end = (min(columns, last) + 7) / 8;
      for (int c = chunks + threadIdx.x; c < end; c += THREADS)
        *(uint4*)(y + c * 8) = make_uint4(0, 0, 0, 0);
    }
  } else {
    float mean = 0.f, square = 0.f;
    if (OP == 2) {
      each([&](int, const Eight& r) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          mean += r.x[i];
          if (FORM == 1) square += r.x[i] * r.x[i];
        }
      });
      mean = block_reduce<false>(mean) / columns;
    }
    if (OP == 2 && FORM == 1) {
      square = block_reduce<false>(square) / columns - mean * mean;
    } else {
      each([&](int c, const Eight& r) {
#pragma unroll
        for (int i = 0; i < 8; ++i)
          if (c * 8 + i < n) square += (r.x[i] - mean) * (r.x[i] - mean);
      });
      square = block_reduce<false>(square) / columns;
    }
    const float scale = rsqrtf(square + epsilon);
    each([&](int c, const Eight& r) {
      Eight w = load8(weight + c * 8);
#pragma unroll
      for (int i = 0; i < 8; ++i) w.x[i] *= (r.x[i] - mean) * scale;
      if (OP == 2) {
        Eight b = load8(bias + c * 8);
#pragma unroll
        for (int i = 0; i < 8; ++i) w.x[i] += b.x[i];
      }
      store8(y + c * 8, w);
    });
  }
}
