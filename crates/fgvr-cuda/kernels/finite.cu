// Whether several arrays hold nothing but finite numbers, without the host waiting to know.
#include "common.cuh"

// Values of a block: 4 packs a thread. ops/finite.rs cuts by the same number.
#define CHUNK 4096

// An exponent of all ones: infinite or no number. By bits, as no compiler may assume it away.
DEVICE int finite(float v) { return (__float_as_uint(v) & 0x7f800000u) != 0x7f800000u ? 1 : 0; }

// Whether all of a chunk is finite, 1 or 0, for each chunk of up to 8 arrays: first those of a, then of b,
// and so on; they go to flags from `first` on. An array of no values has no chunk.
KERNEL(finite_chunks)(const float* a, const float* b, const float* c, const float* d, const float* e, const float* f,
                      const float* g, const float* h, i64 len_a, i64 len_b, i64 len_c, i64 len_d, i64 len_e,
                      i64 len_f, i64 len_g, i64 len_h, u32* flags, i64 first) {
  const float* arrays[] = {a, b, c, d, e, f, g, h};
  i64 lens[] = {len_a, len_b, len_c, len_d, len_e, len_f, len_g, len_h};
  const float* from = a;
  i64 left = 0, chunk = blockIdx.x;
  bool found = false;
  // Unrolled, so that the arrays of pointers are registers.
#pragma unroll
  for (int i = 0; i < 8; i++) {
    i64 chunks = (lens[i] + CHUNK - 1) / CHUNK;
    if (!found && chunk < chunks) {
      from = arrays[i] + chunk * CHUNK;
      left = lens[i] - chunk * CHUNK;
      found = true;
    }
    if (!found) chunk -= chunks;
  }
  int count = left < CHUNK ? static_cast<int>(left) : CHUNK;
  // An array may be a part of another.
  int packs = reinterpret_cast<u64>(from) % 16 == 0 ? count / Pack<float>::size : 0, all = 1;
#pragma unroll 4
  for (int at = static_cast<int>(threadIdx.x); at < packs; at += THREADS) {
    Lanes<float> lanes = load_pack(from, at);
#pragma unroll
    for (int i = 0; i < Pack<float>::size; i++) all &= finite(lanes.v[i]);
  }
  for (int at = packs * Pack<float>::size + static_cast<int>(threadIdx.x); at < count; at += THREADS)
    all &= finite(from[at]);
  int wrong = block_sum(1 - all);
  if (threadIdx.x == 0) flags[first + blockIdx.x] = wrong == 0 ? 1 : 0;
}

// Whether all of `count` flags are set, 1 or 0. One block.
KERNEL(finite_all)(const u32* flags, u32* all, i64 count) {
  int wrong = 0;
  for (i64 at = threadIdx.x; at < count; at += THREADS) wrong |= flags[at] == 0 ? 1 : 0;
  wrong = block_sum(wrong);
  if (threadIdx.x == 0) all[0] = wrong == 0 ? 1 : 0;
}
