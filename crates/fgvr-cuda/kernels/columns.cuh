// Rows of channels, a thread to some channels: it keeps them (a pack of them, VECTOR) and walks down the rows
// of its slab, so that what belongs to a channel is read once. A block is `columns` threads across and
// THREADS / columns rows down; gridDim is (tiles of columns, slabs, groups).
#pragma once
#include "values.cuh"

struct Tile {
  i64 first, last;  // rows of this thread, within the whole map
  int step;         // from one of its rows to the next
  int column;       // its first channel, counted in vectors
  int line;         // its row within the block
  bool active;
};

// `rows` and `slab` are rows of a group and of a slab in it.
DEVICE Tile tile(i64 rows, i64 slab, int columns, int vectors) {
  Tile t;
  int column = static_cast<int>(threadIdx.x) % columns;
  t.line = static_cast<int>(threadIdx.x) / columns;
  t.step = THREADS / columns;
  t.column = static_cast<int>(blockIdx.x) * columns + column;
  t.active = t.column < vectors && t.line < t.step;
  i64 start = static_cast<i64>(blockIdx.z) * rows, end = start + rows;
  t.first = start + static_cast<i64>(blockIdx.y) * slab;
  t.last = t.first + slab < end ? t.first + slab : end;
  t.first += t.line;
  return t;
}

// ---- sums over rows: of each slab in f32, over the slabs in f64 ----

// Adds what the lines of a block have summed of their channels, and writes it as slab blockIdx.y of
// partial (slabs, channels). All threads must call.
template <int V>
DEVICE void write_slab_sums(Values<V> sum, const Tile& t, float* partial, int channels, int columns) {
  SHARED(float, room, THREADS * V);
#pragma unroll
  for (int i = 0; i < V; i++) room[i * THREADS + threadIdx.x] = sum.v[i];
  __syncthreads();
  if (t.line != 0 || !t.active) return;
  for (int line = 1; line < t.step; line++)
#pragma unroll
    for (int i = 0; i < V; i++) sum.v[i] += room[i * THREADS + threadIdx.x + line * columns];
  write<V>(partial, static_cast<i64>(blockIdx.y) * (channels / V) + t.column, sum);
}

// The sum of `values` at `channel` over all slabs, in every lane of a warp.
DEVICE float sum_of_slabs(const float* partial, int channel, int slabs, int channels) {
  double sum = 0.0;
  for (int slab = static_cast<int>(threadIdx.x) % WARP; slab < slabs; slab += WARP)
    sum += partial[static_cast<i64>(slab) * channels + channel];
  return static_cast<float>(warp_sum(sum));
}

// ---- places of maps, counted in 31 bits ----

// Which image, row and column a place is.
struct Place {
  int image, row, column;
};
DEVICE Place place(i64 index, int height, int width) {
  u32 at = static_cast<u32>(index), row = at / width;
  return {static_cast<int>(row / height), static_cast<int>(row % height), static_cast<int>(at - row * width)};
}
