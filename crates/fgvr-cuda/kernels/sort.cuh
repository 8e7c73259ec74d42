// Sorting in shared memory by one block.
#pragma once
#include "common.cuh"

// A number of the same order as the value: Rust's total_cmp, with -0 made the equal of 0.
DEVICE u64 ordered(double v) {
  if (v == 0.0) v = 0.0;
  u64 bits = static_cast<u64>(__double_as_longlong(v));
  return (bits >> 63) != 0 ? ~bits : bits | (1ull << 63);
}

// Above the key of every value but one NaN: what fills up to a power of two comes last.
#define LAST_KEY (~0ull)

// Bitonic sort of `size` keys, a power of two, and the items that go with them, ascending; before(a, b) orders
// the items of equal keys, and no two items are equal. All threads must call, with the pairs written but no
// barrier yet; sorted for all when it returns.
template <typename F>
DEVICE void sort_pairs(u64* keys, u32* items, int size, F before) {
  __syncthreads();
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      for (int i = static_cast<int>(threadIdx.x); i < size / 2; i += static_cast<int>(blockDim.x)) {
        int low = 2 * i - (i & (step - 1)), high = low + step;
        bool up = (low & run) == 0;
        u64 a = keys[low], b = keys[high];
        u32 of_a = items[low], of_b = items[high];
        bool wrong = b < a || (a == b && before(of_b, of_a));
        if (wrong == up) {
          keys[low] = b;
          keys[high] = a;
          items[low] = of_b;
          items[high] = of_a;
        }
      }
      __syncthreads();
    }
  }
}
