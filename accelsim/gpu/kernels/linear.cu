// Causal linear attention with decay, in chunks:
//
//   O[z, p, :] = sum_{m <= p} lambda_z^(p - m) (Q[z, p, :] . K[z, m, :]) V[z, m, :]
//
// A sequence is cut into segments of `chunks` chunks of 64.  states (OUTPUT 0): the state that each
// segment alone would leave, sum_m lambda^(end - m) K[m, :]^T V[m, :].  prefix: the states that
// segments start from.  outputs (OUTPUT 1): a block walks over the chunks of a segment with its
// state, D x FS of it in float32 registers and a 16-bit copy in shared memory for mma.
//
// A block has 4 warps and FS columns of V; warp w owns 16 rows of a chunk's output and D / 4 rows
// of the state.
#include "common.cuh"

#ifndef D
#define D 128
#define OUTPUT 1
#endif

#define THREADS 128
#define C 64
#define FS (D == 96 ? 32 : 64)
// Rows of the state: 16-row tiles, dealt to the warps in turn.
#define STATE_TILES (D / 16)
#define OWN_TILES ((STATE_TILES + 3) / 4)

typedef Tile<D> TD;
typedef Tile<FS> TF;

template <int WIDTH>
DEVICE void load_tile(u32 to, const half_t* from, int pitch, int rows, int thread) {
#pragma unroll
  for (int i = 0; i < C * WIDTH / 8 / THREADS; ++i) {
    int at = thread + i * THREADS, row = at / (WIDTH / 8), chunk = at % (WIDTH / 8);
    copy16(to + Tile<WIDTH>::offset(row, chunk), from + (row < rows ? row : 0) * pitch + chunk * 8,
           row < rows);
  }
}

DEVICE u32 multiply2(u32 a, u32 b) {
  u32 r;
#if BF16
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
#else
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
#endif
  return r;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    chunks(const half_t* __restrict__ Q, const half_t* __restrict__ K, const half_t* __restrict__ V,
           const float* __restrict__ log2_decay, float* __restrict__ states, half_t* __restrict__ O_,
           int M, int heads, int per_segment) {
  extern __shared__ __align__(128) unsigned char memory[];
  constexpr u32 Q_BYTES = C * TD::ROW_BYTES, V_BYTES = C * TF::ROW_BYTES;
  constexpr u32 STAGE = (OUTPUT ? 2 : 1) * Q_BYTES + V_BYTES;  // K, V, and Q
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31, g = lane >> 2, t = lane & 3;
  mark_start(thread == 0);
  const int column0 = blockIdx.x * FS, segment = blockIdx.y, segments = gridDim.y;
  const long long z = blockIdx.z;
  const float rate = log2_decay[z % heads];
  const int first = segment * per_segment * C;
  const int count = min(per_segment, (M - first + C - 1) / C);
  const u32 base = shared_address(memory);
  Q += z * M * D;
  K += z * M * D;
  V += z * M * D + column0;
  states += ((z * segments + segment) * D) * D + column0;

  auto fetch = [&](int j) {
    const u32 to = base + (j & 1) * STAGE;
    const int row = first + j * C;
    load_tile<D>(to, K + (long long)row * D, D, M - row, thread);
    load_tile<FS>(to + Q_BYTES, V + (long long)row * D, D, M - row, thread);
    if (OUTPUT) load_tile<D>(to + Q_BYTES + V_BYTES, Q + (long long)row * D, D, M - row, thread);
  };
  fetch(0);
  copy_commit();

  // The state's rows (tile * 16 + g and + 8), tile = warp + 4 i, and columns 8 n + 2 t.
  float state[OWN_TILES][FS / 8][4];
#pragma unroll
  for (int i = 0; i < OWN_TILES; ++i)
#pragma unroll
    for (int n = 0; n < FS / 8; ++n)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row = (warp + 4 * i) * 16 + g + 8 * r;
        float2 x = make_float2(0.f, 0.f);
        if (OUTPUT && row < D) x = *(const float2*)(states + (long long)row * D + n * 8 + 2 * t);
        state[i][n][2 * r] = x.x;
        state[i][n][2 * r + 1] = x.y;
      }

  // K^T by transposed ldmatrix (rows of K are the contraction); the rest as in attention.
  const int flip = lane >> 3;
  const u32 kt_row = (lane & 7) + (flip >> 1) * 8, kt_chunk = flip & 1;
  const u32 k_lane = TD::offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
  const u32 q_lane = TD::offset(warp * 16 + (lane & 15), lane >> 4);
  const u32 v_lane = TF::offset(lane & 15, lane >> 4);
  const u32 state_shared = base + 2 * STAGE;
  const float whole = exp2_approx(rate * C);
  u32 decay[C / 16][2];  // lambda^(C - 1 - m) for the thread's keys 2 t, 2 t + 1 and those + 8
#pragma unroll
  for (int m = 0; m < C / 16; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int key = m * 16 + h * 8 + 2 * t;
      decay[m][h] = pack(exp2_approx(rate * (C - 1 - key)), exp2_approx(rate * (C - 2 - key)));
    }

  for (int j = 0; j < count; ++j) {
    copy_wait<0>();
    __syncthreads();
    if (j == 0) mark(3, thread == 0);
    if (j == 1) mark(4, thread == 0);
    if (j + 1 < count) fetch(j + 1);
    copy_commit();
    const u32 k = base + (j & 1) * STAGE, v = k + Q_BYTES, q = v + V_BYTES;
    unsigned char* q_memory = memory + (j & 1) * STAGE + Q_BYTES + V_BYTES;

    if (OUTPUT) {
      // The state at the chunk's start, rounded, for all warps.
#pragma unroll
      for (int i = 0; i < OWN_TILES; ++i)
#pragma unroll
        for (int n = 0; n < FS / 8; ++n)
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const int row = (warp + 4 * i) * 16 + g + 8 * r;
            if (row < D)
              *(u32*)(memory + 2 * STAGE + TF::offset(row, n) + t * 4) =
                  pack(state[i][n][2 * r], state[i][n][2 * r + 1]);
          }
      __syncthreads();

      float S[C / 8][4] = {}, O[FS / 8][4] = {};
#pragma unroll
      for (int d = 0; d < D / 16; ++d) {
        u32 a[4], b[4];
        ldmatrix4(a, TD::step(q + q_lane, d));
#pragma unroll
        for (int n = 0; n < C / 16; ++n) {
          ldmatrix4(b, TD::step(k + k_lane, d) + n * 16 * TD::ROW_BYTES);
          mma(S[2 * n], a, b[0], b[1]);
          mma(S[2 * n + 1], a, b[2], b[3]);
        }
#pragma unroll
        for (int n = 0; n < FS / 16; ++n) {
          ldmatrix4_transposed(b, TF::step(state_shared + v_lane, n) + d * 16 * TF::ROW_BYTES);
          mma(O[2 * n], a, b[0], b[1]);
          mma(O[2 * n + 1], a, b[2], b[3]);
        }
      }
      const int row = warp * 16 + g;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float since = exp2_approx(rate * (row + 8 * r + 1));
#pragma unroll
        for (int n = 0; n < FS / 8; ++n) {
          O[n][2 * r] *= since;
          O[n][2 * r + 1] *= since;
        }
      }
#pragma unroll
      for (int n = 0; n < C / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int behind = row + (e >> 1) * 8 - (n * 8 + t * 2 + (e & 1));
          S[n][e] = behind < 0 ? 0.f : S[n][e] * exp2_approx(rate * behind);
        }
#pragma unroll
      for (int m = 0; m < C / 16; ++m) {
        const u32 w[4] = {pack(S[2 * m][0], S[2 * m][1]), pack(S[2 * m][2], S[2 * m][3]),
                          pack(S[2 * m + 1][0], S[2 * m + 1][1]),
                          pack(S[2 * m + 1][2], S[2 * m + 1][3])};
#pragma unroll
        for (int n = 0; n < FS / 16; ++n) {
          u32 b[4];
          ldmatrix4_transposed(b, TF::step(v + v_lane, n) + m * 16 * TF::ROW_BYTES);
          mma(O[2 * n], w, b[0], b[1]);
          mma(O[2 * n + 1], w, b[2], b[3]);
        }
      }
      // Through the warp's own rows of Q's tile.
      __syncwarp();
#pragma unroll
      for (int r = 0; r < 2; ++r)
#pragma unroll
        for (int n = 0; n < FS / 8; ++n)
          *(u32*)(q_memory + TD::offset(row + 8 * r, n) + t * 4) =
              pack(O[n][2 * r], O[n][2 * r + 1]);
      __syncwarp();
#pragma unroll
      for (int i = 0; i < 16 * FS / 8 / 32; ++i) {
        const int at = lane + i * 32, line = warp * 16 + at / (FS / 8), chunk = at % (FS / 8);
        const int p = first + j * C + line;
        if (p < M)
          *(uint4*)(O_ + (z * M + p) * D + column0 + chunk * 8) =
              *(const uint4*)(q_memory + TD::offset(line, chunk));
      }
    }

    // state = lambda^C state + (lambda^(C-1-m) K[m])^T V
#pragma unroll
    for (int i = 0; i < OWN_TILES; ++i)
#pragma unroll
      for (int n = 0; n < FS / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) state[i][n][e] *= whole;
#pragma unroll
    for (int m = 0; m < C / 16; ++m) {
      u32 a[OWN_TILES][4];
#pragma unroll
      for (int i = 0; i < OWN_TILES; ++i) {
        const int tile = min(warp + 4 * i, STATE_TILES - 1);
        ldmatrix4_transposed(a[i], k + TD::offset(m * 16 + kt_row, tile * 2 + kt_chunk));
        a[i][0] = multiply2(a[i][0], decay[m][0]);
        a[i][1] = multiply2(a[i][1], decay[m][0]);
        a[i][2] = multiply2(a[i][2], decay[m][1]);
        a[i][3] = multiply2(a[i][3], decay[m][1]);
      }
#pragma unroll
      for (int n = 0; n < FS / 16; ++n) {
        u32 b[4];
        ldmatrix4_transposed(b, TF::step(v + v_lane, n) + m * 16 * TF::ROW_BYTES);
#pragma unroll
        for (int i = 0; i < OWN_TILES; ++i) {
          mma(state[i][2 * n], a[i], b[0], b[1]);
          mma(state[i][2 * n + 1], a[i], b[2], b[3]);
        }
      }
    }
  }
  copy_wait<0>();
  mark(5, thread == 0);
  if (!OUTPUT)
#pragma unroll
    for (int i = 0; i < OWN_TILES; ++i)
#pragma unroll
      for (int n = 0; n < FS / 8; ++n)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int row = (warp + 4 * i) * 16 + g + 8 * r;
          if (row < D)
            *(float2*)(states + (long long)row * D + n * 8 + 2 * t) =
                make_float2(state[i][n][2 * r], state[i][n][2 * r + 1]);
        }
  mark_end(thread == 0);
}

// States left by segments to states that segments start from, in place; a thread four elements,
// which asks for those of AHEAD segments at once.
#define AHEAD 8
extern "C" __global__ void prefix(float4* __restrict__ states,
                                  const float* __restrict__ log2_decay, int heads, int segments,
                                  int length) {
  mark_start(threadIdx.x == 0);
  constexpr int QUADS = D * D / 4;
  const long long z = blockIdx.y;
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= QUADS) return;
  const float whole = exp2_approx(log2_decay[z % heads] * length);
  float4* s = states + z * segments * QUADS + at;
  float4 carried = make_float4(0.f, 0.f, 0.f, 0.f);
  for (int i = 0; i < segments; i += AHEAD) {
    float4 left[AHEAD];
#pragma unroll
    for (int k = 0; k < AHEAD; ++k)
      if (i + k < segments) left[k] = s[(long long)(i + k) * QUADS];
#pragma unroll
    for (int k = 0; k < AHEAD; ++k)
      if (i + k < segments) {
        s[(long long)(i + k) * QUADS] = carried;
        carried.x = carried.x * whole + left[k].x;
        carried.y = carried.y * whole + left[k].y;
        carried.z = carried.z * whole + left[k].z;
        carried.w = carried.w * whole + left[k].w;
      }
  }
  mark_end(threadIdx.x == 0);
}
