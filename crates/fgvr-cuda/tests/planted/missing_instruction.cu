// An error for `kernels check` to find: an instruction of sm_90a that sm_80 lacks, in line 5.
#include "common.cuh"

KERNEL(missing_instruction)(float* x) {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  x[thread_index()] = 0.0f;
}
