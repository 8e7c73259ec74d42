// The sum of exponentials of what one reading finds, scaled by the largest so far.
#pragma once
#include "rows.cuh"

struct LogSum {
  float top, sum;  // largest value, sum of exp((value - top) * scale)
};

DEVICE LogSum empty_sum() { return {minus_infinity(), 0.0f}; }

// A value is scaled down when a larger one comes. What is no number passes: the comparison keeps it out of
// `top`, and its exponential spoils the sum.
template <int V>
DEVICE void add(LogSum& own, const Values<V>& values, float scale = 1.0f) {
  float top = own.top;
#pragma unroll
  for (int i = 0; i < V; i++) top = values.v[i] > top ? values.v[i] : top;
  // -infinity less itself would be no number.
  float sum = own.top == top ? own.sum : own.sum * expf((own.top - top) * scale);
#pragma unroll
  for (int i = 0; i < V; i++) {
    // -infinity adds nothing, also where nothing larger was seen.
    if (!(values.v[i] == minus_infinity())) sum += expf((values.v[i] - top) * scale);
  }
  own.top = top;
  own.sum = sum;
}

// In every thread of the block. Of nothing but -infinity, top is that and the sum 0.
DEVICE LogSum block_log_sum(LogSum own, float scale = 1.0f) {
  float top = block_max(own.top);
  float part = own.top == top ? own.sum : own.sum * expf((own.top - top) * scale);
  return {top, block_sum(part)};
}
