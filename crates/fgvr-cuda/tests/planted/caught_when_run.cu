// Errors that compile, for the emulator to find when the kernels run.
#include "common.cuh"

// A barrier that half of the block does not reach.
KERNEL(barrier_missed)(float* x) {
  if (threadIdx.x < blockDim.x / 2) __syncthreads();
  x[threadIdx.x] = 0.0f;
}

// A warp's exchange without its last lane.
KERNEL(lane_missing)(float* x) {
  if (threadIdx.x == blockDim.x - 1) return;
  x[threadIdx.x] = warp_sum(x[threadIdx.x]);
}

// One element too many.
KERNEL(write_beyond)(float* x) { x[threadIdx.x + 1] = 0.0f; }

// One element of shared memory too many.
KERNEL(shared_beyond)(float* x) {
  SHARED(float, room, 64);
  room[threadIdx.x + 1] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = room[threadIdx.x];
}

// A barrier left out: what a thread reads depends on who came first.
KERNEL(barrier_left_out)(float* x) {
  SHARED(float, room, 64);
  room[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] = room[blockDim.x - 1 - threadIdx.x];
}

// Half of the output is left as it was.
KERNEL(half_unwritten)(float* x) {
  if (threadIdx.x < blockDim.x / 2) x[threadIdx.x] = 1.0f;
}
