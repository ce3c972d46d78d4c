// What measuring needs on the device: a delay, an L2 sweep, a clock probe, an empty kernel.
#include "common.cuh"

DEVICE u64 nanoseconds() {
  u64 t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  return t;
}

extern "C" __global__ void empty() {}

// Keeps the stream busy, so that what is enqueued behind it starts without a gap.
extern "C" __global__ void delay(u64 ns) {
  u64 end = nanoseconds() + ns;
  while (nanoseconds() < end) {
  }
}

// Reads a buffer, so that L2 holds it (clean) and nothing else.
extern "C" __global__ void sweep(const uint4* __restrict__ from, u64 count, u32* sink) {
  u32 x = 0;
  for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < count; i += (u64)gridDim.x * blockDim.x) {
    uint4 v = __ldcg(from + i);
    x ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  if (x == 0x9e3779b9u) *sink = x;
}

// Cycles and nanoseconds of one multiprocessor over about `ns`.
extern "C" __global__ void probe(u64 ns, u64* out) {
  u64 before = nanoseconds(), start;
  while ((start = nanoseconds()) == before) {
  }
  u64 cycles = clock64(), now;
  while ((now = nanoseconds()) < start + ns) {
  }
  out[0] = clock64() - cycles;
  out[1] = now - start;
}
