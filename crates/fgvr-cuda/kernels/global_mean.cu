// The mean over all places of each image, channels-last, and its gradient.
#include "columns.cuh"

// Rows that a thread sums in f32 before the sum goes to f64.
#define BLOCK_ROWS 64

// A block takes `columns` vectors of channels of one image; grid (images, tiles of columns). Few columns, so
// that narrow and wide maps alike make many blocks of several lines.
template <int V>
DEVICE void mean(const Real* x, Real* y, i64 places, int channels, int columns) {
  SHARED(double, room, THREADS * V);
  int vectors = channels / V, line = static_cast<int>(threadIdx.x) / columns, lines = THREADS / columns;
  int column = static_cast<int>(blockIdx.y) * columns + static_cast<int>(threadIdx.x) % columns;
  bool active = column < vectors && line < lines;
  i64 image = blockIdx.x;
  double sum[V] = {};
  if (active)
    for (i64 first = line; first < places; first += static_cast<i64>(BLOCK_ROWS) * lines) {
      float block[V] = {};
      i64 end = first + static_cast<i64>(BLOCK_ROWS) * lines;
#pragma unroll 4
      for (i64 place = first; place < (end < places ? end : places); place += lines) {
        Values<V> v = read<V>(x, (image * places + place) * vectors + column);
#pragma unroll
        for (int i = 0; i < V; i++) block[i] += v.v[i];
      }
#pragma unroll
      for (int i = 0; i < V; i++) sum[i] += block[i];
    }
#pragma unroll
  for (int i = 0; i < V; i++) room[i * THREADS + threadIdx.x] = sum[i];
  __syncthreads();
  if (line != 0 || !active) return;
  Values<V> out;
#pragma unroll
  for (int i = 0; i < V; i++) {
    for (int other = 1; other < lines; other++) sum[i] += room[i * THREADS + threadIdx.x + other * columns];
    out.v[i] = static_cast<float>(sum[i] / static_cast<double>(places));
  }
  write<V>(y, image * vectors + column, out);
}

// The mean over the places of each image. Vectors of channels.
KERNEL(global_mean)(const Real* x, Real* y, i64 places, int channels, int columns) {
  mean<VECTOR>(x, y, places, channels, columns);
}

// As global_mean, for any number of channels.
KERNEL(global_mean_any)(const Real* x, Real* y, i64 places, int channels, int columns) {
  mean<1>(x, y, places, channels, columns);
}

template <int V>
DEVICE void mean_grad(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int places) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  float share = 1.0f / static_cast<float>(places);
  for (i64 row = t.first; row < t.last; row += t.step) {
    Values<V> d = read<V>(dy, static_cast<i64>(static_cast<u32>(row) / places) * vectors + t.column);
#pragma unroll
    for (int i = 0; i < V; i++) d.v[i] *= share;
    write<V>(dx, row * vectors + t.column, d);
  }
}

// The gradient of global_mean: an equal share for each place. Vectors of channels.
KERNEL(global_mean_grad)(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int places) {
  mean_grad<VECTOR>(dy, dx, rows, slab, channels, columns, places);
}

// As global_mean_grad, for any number of channels.
KERNEL(global_mean_grad_any)(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int places) {
  mean_grad<1>(dy, dx, rows, slab, channels, columns, places);
}
