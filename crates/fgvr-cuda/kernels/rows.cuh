// Rows of values: a warp that holds a short row in registers, a block that walks a long one.
#pragma once
#include "values.cuh"

// Values of a row that one lane holds: a warp holds rows of up to HELD * WARP.
#define HELD 32
#define WARPS (THREADS / WARP)

DEVICE float minus_infinity() { return __uint_as_float(0xff800000u); }

DEVICE int lane_index() { return static_cast<int>(threadIdx.x) % WARP; }
DEVICE int warp_index() { return static_cast<int>(threadIdx.x) / WARP; }

// ---- a warp a row: each value is read once and stays in a register ----

// What a lane holds of a row of `vectors` vectors: vectors lane, lane + 32, ...
template <int V>
struct Held {
  Values<V> part[HELD / V];
};

// f(part, vector) for each vector that this lane holds. Unrolled, so that parts are registers.
template <int V, typename F>
DEVICE void each_held(int vectors, F f) {
#pragma unroll
  for (int part = 0; part < HELD / V; part++) {
    int vector = part * WARP + lane_index();
    if (vector < vectors) f(part, vector);
  }
}

template <int V, typename T>
DEVICE void hold(Held<V>& held, const T* from, i64 row, int vectors) {
  each_held<V>(vectors, [&](int part, int vector) { held.part[part] = read<V>(from, row * vectors + vector); });
}

// ---- a block a row: read again in each pass, from a cache that has it still ----

template <int V, typename F>
DEVICE void each_walked(int vectors, F f) {
#pragma unroll 4
  for (int vector = static_cast<int>(threadIdx.x); vector < vectors; vector += static_cast<int>(blockDim.x)) f(vector);
}
