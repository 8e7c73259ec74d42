// An error for `kernels check` to find: an instruction that does not exist, in line 7.
#include "common.cuh"

KERNEL(bad_ptx)(float* x) {
  float v = x[thread_index()];
  float w;
  asm("frobnicate.f32 %0, %1;" : "=f"(w) : "f"(v));
  x[thread_index()] = w;
}
