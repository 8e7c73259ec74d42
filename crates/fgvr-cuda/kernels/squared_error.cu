// Mean of squared differences of two maps, and its gradient: what a reconstruction is trained by. Both maps are
// read once, for both.
#include "values.cuh"

// The gradient at a, (a - b) * factor, and each block's sum of (a - b)^2. partial is (blocks).
KERNEL(squared_error)(const Real* a, const Real* b, Real* gradient, double* partial, i64 len, float factor) {
  i64 step = thread_count(), vectors = len / VECTOR;
  double sum = 0.0;
#pragma unroll 2
  for (i64 at = thread_index(); at < vectors; at += step) {
    Values<VECTOR> u = read<VECTOR>(a, at), v = read<VECTOR>(b, at);
    float few = 0.0f;
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
      float off = u.v[i] - v.v[i];
      few += off * off;
      u.v[i] = off * factor;
    }
    write<VECTOR>(gradient, at, u);
    sum += few;
  }
  i64 rest = vectors * VECTOR + thread_index();
  if (rest < len) {
    float off = load(a, rest) - load(b, rest);
    sum += off * off;
    store(gradient, rest, off * factor);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// Each block's sum of |a - b|. partial is (blocks).
KERNEL(absolute_error)(const Real* a, const Real* b, double* partial, i64 len) {
  i64 step = thread_count(), vectors = len / VECTOR;
  double sum = 0.0;
#pragma unroll 2
  for (i64 at = thread_index(); at < vectors; at += step) {
    Values<VECTOR> u = read<VECTOR>(a, at), v = read<VECTOR>(b, at);
    float few = 0.0f;
#pragma unroll
    for (int i = 0; i < VECTOR; i++) few += fabsf(u.v[i] - v.v[i]);
    sum += few;
  }
  i64 rest = vectors * VECTOR + thread_index();
  if (rest < len) sum += fabsf(load(a, rest) - load(b, rest));
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// The mean from the sums of `blocks`. One block.
KERNEL(squared_error_finish)(const double* partial, float* mean, int blocks, double len) {
  double sum = 0.0;
  for (int at = static_cast<int>(threadIdx.x); at < blocks; at += static_cast<int>(blockDim.x)) sum += partial[at];
  sum = block_sum(sum);
  if (threadIdx.x == 0) mean[0] = static_cast<float>(sum / len);
}
