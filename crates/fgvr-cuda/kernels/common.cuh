// What every kernel is written with: types, loads and stores, sums over a warp and a block.
//
// A file is compiled once for each type of its activations, `Real` (float or bf16); kernels are named
// KERNEL(name), which appends the type. Arithmetic is f32 throughout: bf16 is a way to store.
//
// No header of the toolkit is included, so that NVRTC needs nothing but itself. The emulator
// (src/emulator/emulate.h) defines the same words for a C++ compiler.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// At most this many threads a block, in every kernel.
#define THREADS 256
#define WARP 32

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

#ifndef EMULATED
#define DEVICE __device__ __forceinline__
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(THREADS) JOIN(name, SUFFIX)
// An array in shared memory, of a size known when compiling.
#define SHARED(type, name, count) __shared__ type name[count]
// The shared memory whose size is given at launch; one a kernel.
#define DYNAMIC_SHARED(type, name)                    \
  extern __shared__ __align__(16) u8 dynamic_shared[]; \
  type* name = reinterpret_cast<type*>(dynamic_shared)
#endif

// ---- bf16: the upper half of an f32 ----

struct bf16 {
  u16 bits;
};

DEVICE float to_float(float v) { return v; }
DEVICE float to_float(bf16 v) {
  return __uint_as_float(static_cast<u32>(v.bits) << 16);
}

template <typename T>
DEVICE T from_float(float v);
template <>
DEVICE float from_float<float>(float v) {
  return v;
}
// Round to nearest, ties to even; what is no number stays none.
template <>
DEVICE bf16 from_float<bf16>(float v) {
  u32 bits = __float_as_uint(v);
  bf16 out;
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    out.bits = static_cast<u16>((bits >> 16) | 0x40u);
  } else {
    out.bits = static_cast<u16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
  return out;
}

#ifndef REAL_BF16
typedef float Real;
#ifndef SUFFIX
#define SUFFIX _f32
#endif
#else
typedef bf16 Real;
#define SUFFIX _bf16
#endif

// ---- 16 bytes at a time: 4 floats or 8 bf16 ----

template <typename T>
struct alignas(16) Pack {
  static constexpr int size = 16 / sizeof(T);
  T values[size];
};

// Values of one pack as floats.
template <typename T>
struct Lanes {
  static constexpr int size = Pack<T>::size;
  float v[size];
};

// `at` counts packs.
template <typename T>
DEVICE Lanes<T> load_pack(const T* from, i64 at) {
  Pack<T> pack = reinterpret_cast<const Pack<T>*>(from)[at];
  Lanes<T> lanes;
#pragma unroll
  for (int i = 0; i < Pack<T>::size; i++) lanes.v[i] = to_float(pack.values[i]);
  return lanes;
}

template <typename T>
DEVICE void store_pack(T* to, i64 at, const Lanes<T>& lanes) {
  Pack<T> pack;
#pragma unroll
  for (int i = 0; i < Pack<T>::size; i++) pack.values[i] = from_float<T>(lanes.v[i]);
  reinterpret_cast<Pack<T>*>(to)[at] = pack;
}

template <typename T>
DEVICE float load(const T* from, i64 at) {
  return to_float(from[at]);
}
template <typename T>
DEVICE void store(T* to, i64 at, float v) {
  to[at] = from_float<T>(v);
}

// ---- where a thread is ----

DEVICE i64 thread_index() { return static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; }
DEVICE i64 thread_count() { return static_cast<i64>(gridDim.x) * blockDim.x; }

// ---- sums in an order that depends on nothing but the shape ----

// The sum over a warp, in every lane of it. All 32 lanes must call.
template <typename V>
DEVICE V warp_sum(V v) {
#pragma unroll
  for (int lane = WARP / 2; lane > 0; lane /= 2) v += __shfl_xor_sync(0xffffffffu, v, lane);
  return v;
}

DEVICE float warp_max(float v) {
#pragma unroll
  for (int lane = WARP / 2; lane > 0; lane /= 2) {
    float other = __shfl_xor_sync(0xffffffffu, v, lane);
    v = other > v ? other : v;
  }
  return v;
}

// The sum over a block, in every thread of it; blockDim.x is a multiple of 32. All threads must call,
// and the room is free again when it returns.
template <typename V>
DEVICE V block_sum(V v) {
  SHARED(V, room, THREADS / WARP);
  v = warp_sum(v);
  int warp = threadIdx.x / WARP;
  if (threadIdx.x % WARP == 0) room[warp] = v;
  __syncthreads();
  V sum = V(0);
  for (int i = 0; i < static_cast<int>(blockDim.x) / WARP; i++) sum += room[i];
  __syncthreads();
  return sum;
}

DEVICE float block_max(float v) {
  SHARED(float, room, THREADS / WARP);
  v = warp_max(v);
  int warp = threadIdx.x / WARP;
  if (threadIdx.x % WARP == 0) room[warp] = v;
  __syncthreads();
  float largest = room[0];
  for (int i = 1; i < static_cast<int>(blockDim.x) / WARP; i++) largest = room[i] > largest ? room[i] : largest;
  __syncthreads();
  return largest;
}
