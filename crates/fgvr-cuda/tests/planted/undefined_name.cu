// An error for `kernels check` to find: a name that nothing defines, in line 5.
#include "common.cuh"

KERNEL(undefined_name)(float* x) {
  x[thread_index()] = scale_of_nothing;
}
