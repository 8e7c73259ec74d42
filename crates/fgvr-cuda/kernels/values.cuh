// The values that a thread reads, keeps and writes at once.
#pragma once
#include "common.cuh"

// As many as fit 16 bytes of activations.
static constexpr int VECTOR = Pack<Real>::size;

// V values from vector `at`.
template <int V>
struct Values {
  float v[V];
};
template <int V, typename T>
DEVICE Values<V> read(const T* from, i64 at) {
  Values<V> out;
  if constexpr (V == 1) {
    out.v[0] = load(from, at);
  } else {
#pragma unroll
    for (int part = 0; part < V / Pack<T>::size; part++) {
      Lanes<T> lanes = load_pack(from, at * (V / Pack<T>::size) + part);
#pragma unroll
      for (int i = 0; i < Pack<T>::size; i++) out.v[part * Pack<T>::size + i] = lanes.v[i];
    }
  }
  return out;
}
template <int V, typename T>
DEVICE void write(T* to, i64 at, const Values<V>& values) {
  if constexpr (V == 1) {
    store(to, at, values.v[0]);
  } else {
#pragma unroll
    for (int part = 0; part < V / Pack<T>::size; part++) {
      Lanes<T> lanes;
#pragma unroll
      for (int i = 0; i < Pack<T>::size; i++) lanes.v[i] = values.v[part * Pack<T>::size + i];
      store_pack(to, at * (V / Pack<T>::size) + part, lanes);
    }
  }
}

// ---- activations: none, ReLU, ReLU6 ----

enum Activation { IDENTITY = 0, RELU = 1, RELU6 = 2 };

// Written so that what is no number passes.
DEVICE float activated(float v, int activation) {
  if (activation != IDENTITY && v < 0.0f) return 0.0f;
  return activation == RELU6 && v > 6.0f ? 6.0f : v;
}

// Whether the activation of v, or of what it made of v, has no gradient.
DEVICE bool cut_off(float v, int activation) {
  return activation != IDENTITY && (v <= 0.0f || (activation == RELU6 && v >= 6.0f));
}
