// Shared by the kernels: 16-bit types, asynchronous copies, ldmatrix and mma.sync.
//
// No CUDA header is included, so that NVRTC needs no include path.  BF16 (1: bfloat16, 0: float16)
// chooses the 16-bit type; it is stored as unsigned short everywhere.
#pragma once

#ifndef BF16
#define BF16 1
#endif

typedef unsigned short half_t;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__
#define INFINITY_F __int_as_float(0x7f800000)

// MARKS: one thread of each block notes where it ran and when it came to places of the kernel, eight
// numbers a block: its multiprocessor, nanoseconds and cycles at its start, cycles at three places
// (its first tile is there, worked on; its walk is over), cycles and nanoseconds at its end.
#ifdef MARKS
extern "C" {
__device__ u64 marks[MARKS * 8];
}
DEVICE u64* own_marks() {
  return marks + 8 * (blockIdx.x + (u64)gridDim.x * (blockIdx.y + (u64)gridDim.y * blockIdx.z));
}
DEVICE void mark_nanoseconds(int place) {
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(own_marks()[place]));
}
DEVICE void mark(int place, bool speaks) {
  if (speaks) own_marks()[place] = clock64();
}
DEVICE void mark_start(bool speaks) {
  u32 unit;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(unit));
  if (!speaks) return;
  own_marks()[0] = unit;
  mark_nanoseconds(1);
  mark(2, true);
}
DEVICE void mark_end(bool speaks) {
  mark(6, speaks);
  if (speaks) mark_nanoseconds(7);
}
#else
DEVICE void mark(int, bool) {}
DEVICE void mark_start(bool) {}
DEVICE void mark_end(bool) {}
#endif

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// Two floats to a pair of 16-bit numbers, the first in the low half.
DEVICE u32 pack(float low, float high) {
  u32 r;
#if BF16
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
#else
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
#endif
  return r;
}

DEVICE float to_float(half_t x) {
#if BF16
  return __int_as_float((u32)x << 16);
#else
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
  return r;
#endif
}

DEVICE half_t to_half(float x) { return (half_t)(pack(x, 0.f) & 0xffffu); }

// The two floats of a pair.
DEVICE float2 unpack(u32 x) {
  return make_float2(to_float((half_t)(x & 0xffffu)), to_float((half_t)(x >> 16)));
}

DEVICE float exp2_approx(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

// 16 bytes from global to shared memory, zeros where `keep` is false.
DEVICE void copy16(u32 to, const void* from, bool keep) {
  int bytes = keep ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

DEVICE void ldmatrix4(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}
DEVICE void ldmatrix4_transposed(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

// c += a b, a 16x16, b 16x8, c 16x8 in float32.
DEVICE void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if BF16
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
#endif
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
DEVICE float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// A tile in shared memory: rows of WIDTH 16-bit numbers, 16-byte chunks permuted by row so that
// eight rows of one chunk column lie in eight different bank groups (WIDTH 64, 128: all 8 chunks
// of a 128-byte group; WIDTH 96: 4 of 12).
template <int WIDTH>
struct Tile {
  static constexpr int ROW_BYTES = WIDTH * 2;
  static constexpr int CHUNKS = WIDTH / 8;
  static constexpr int SPAN = WIDTH % 64 == 0 ? 7 : 3;
  static_assert(WIDTH % 64 == 0 || WIDTH % 64 == 32, "rows of 64, 96, 128, ... numbers");

  static DEVICE int permute(int row) { return SPAN == 7 ? row & 7 : (row >> 1) & 3; }
  // Byte offset of a chunk.
  static DEVICE u32 offset(int row, int chunk) {
    return row * ROW_BYTES + (((chunk & ~SPAN) | ((chunk ^ permute(row)) & SPAN)) << 4);
  }
  // From a lane's offset of chunk (0 or 1) to that of chunk + 2 k.
  static DEVICE u32 step(u32 base, int k) {
    return (base ^ (((2 * k) & SPAN) << 4)) + (((2 * k) & ~SPAN) << 4);
  }
};
