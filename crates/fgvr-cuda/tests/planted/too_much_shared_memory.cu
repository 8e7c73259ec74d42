// An error for `kernels check` to find: 64 KiB of shared memory, where sm_80 allows 48, in line 4.
#include "common.cuh"

KERNEL(too_much_shared_memory)(float* x) {
  SHARED(float, room, 16384);
  room[threadIdx.x] = x[thread_index()];
  __syncthreads();
  x[thread_index()] = room[blockDim.x - 1 - threadIdx.x];
}
