// Depthwise convolutions of channels-last maps, and their gradients: each channel by itself, with 3x3 or 5x5
// weights (k*k, C) of f32. A thread keeps its channels and walks over places (columns.cuh): of the output
// going forward, of the input going back, where it gathers from the windows that read its place, so that
// nothing is added to from two threads. Places are counted in 31 bits.
#include "columns.cuh"

// Sides of the maps, and how windows lie on the input.
struct Windows {
  int height, width, out_height, out_width, stride, top, left;
};

// The number next to `i` that lies in [0, end).
DEVICE int nearest(int i, int end) { return i < 0 ? 0 : i < end ? i : end - 1; }

// sum += v * w of each channel, where it counts: a load without a condition costs less than waiting for each.
template <int V>
DEVICE void add_product(Values<V>& sum, const Values<V>& v, const Values<V>& w, bool counts) {
#pragma unroll
  for (int i = 0; i < V; i++) sum.v[i] += counts ? v.v[i] * w.v[i] : 0.0f;
}

template <int V, int K>
DEVICE void forward_rows(const Real* x, const float* weight, Real* y, i64 rows, i64 slab, int channels, int columns,
                         Windows w) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  for (i64 row = t.first; row < t.last; row += t.step) {
    Place o = place(row, w.out_height, w.out_width);
    int top = o.row * w.stride - w.top, left = o.column * w.stride - w.left;
    Values<V> sum = {};
#pragma unroll
    for (int ky = 0; ky < K; ky++)
#pragma unroll
      for (int kx = 0; kx < K; kx++) {
        int i = nearest(top + ky, w.height), j = nearest(left + kx, w.width);
        bool counts = i == top + ky && j == left + kx;
        i64 at = (static_cast<i64>(o.image) * w.height + i) * w.width + j;
        add_product<V>(sum, read<V>(x, at * vectors + t.column), read<V>(weight, (ky * K + kx) * vectors + t.column),
                       counts);
      }
    write<V>(y, row * vectors + t.column, sum);
  }
}

// y of x. Vectors of channels.
KERNEL(depthwise)(const Real* x, const float* weight, Real* y, i64 rows, i64 slab, int channels, int columns,
                  int height, int width, int out_height, int out_width, int stride, int top, int left, int kernel) {
  Windows w = {height, width, out_height, out_width, stride, top, left};
  if (kernel == 3) {
    forward_rows<VECTOR, 3>(x, weight, y, rows, slab, channels, columns, w);
  } else {
    forward_rows<VECTOR, 5>(x, weight, y, rows, slab, channels, columns, w);
  }
}

// As depthwise, for any number of channels.
KERNEL(depthwise_any)(const Real* x, const float* weight, Real* y, i64 rows, i64 slab, int channels, int columns,
                      int height, int width, int out_height, int out_width, int stride, int top, int left,
                      int kernel) {
  Windows w = {height, width, out_height, out_width, stride, top, left};
  if (kernel == 3) {
    forward_rows<1, 3>(x, weight, y, rows, slab, channels, columns, w);
  } else {
    forward_rows<1, 5>(x, weight, y, rows, slab, channels, columns, w);
  }
}

template <int V, int K>
DEVICE void grad_input_rows(const Real* dy, const float* weight, Real* dx, i64 rows, i64 slab, int channels,
                            int columns, Windows w) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  for (i64 row = t.first; row < t.last; row += t.step) {
    Place p = place(row, w.height, w.width);
    Values<V> sum = {};
#pragma unroll
    for (int ky = 0; ky < K; ky++)
#pragma unroll
      for (int kx = 0; kx < K; kx++) {
        // The window that reads this place by tap (ky, kx), if there is one.
        int down = p.row + w.top - ky, right = p.column + w.left - kx;
        int i = nearest(down / w.stride, w.out_height), j = nearest(right / w.stride, w.out_width);
        bool counts = i * w.stride == down && j * w.stride == right;
        i64 at = (static_cast<i64>(p.image) * w.out_height + i) * w.out_width + j;
        add_product<V>(sum, read<V>(dy, at * vectors + t.column), read<V>(weight, (ky * K + kx) * vectors + t.column),
                       counts);
      }
    write<V>(dx, row * vectors + t.column, sum);
  }
}

// dx of dy. Vectors of channels.
KERNEL(depthwise_grad_input)(const Real* dy, const float* weight, Real* dx, i64 rows, i64 slab, int channels,
                             int columns, int height, int width, int out_height, int out_width, int stride, int top,
                             int left, int kernel) {
  Windows w = {height, width, out_height, out_width, stride, top, left};
  if (kernel == 3) {
    grad_input_rows<VECTOR, 3>(dy, weight, dx, rows, slab, channels, columns, w);
  } else {
    grad_input_rows<VECTOR, 5>(dy, weight, dx, rows, slab, channels, columns, w);
  }
}

// As depthwise_grad_input, for any number of channels.
KERNEL(depthwise_grad_input_any)(const Real* dy, const float* weight, Real* dx, i64 rows, i64 slab, int channels,
                                 int columns, int height, int width, int out_height, int out_width, int stride,
                                 int top, int left, int kernel) {
  Windows w = {height, width, out_height, out_width, stride, top, left};
  if (kernel == 3) {
    grad_input_rows<1, 3>(dy, weight, dx, rows, slab, channels, columns, w);
  } else {
    grad_input_rows<1, 5>(dy, weight, dx, rows, slab, channels, columns, w);
  }
}

// partial is (K, slabs, channels): the sums of one row of taps over each slab of places of the output.
template <int V, int K>
DEVICE void grad_weight_rows(const Real* x, const Real* dy, float* partial, i64 rows, i64 slab, int channels,
                             int columns, Windows w, int ky) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  Values<V> sums[K] = {};
  if (t.active)
    for (i64 row = t.first; row < t.last; row += t.step) {
      Place o = place(row, w.out_height, w.out_width);
      int down = o.row * w.stride - w.top + ky, left = o.column * w.stride - w.left;
      int i = nearest(down, w.height);
      Values<V> g = read<V>(dy, row * vectors + t.column);
#pragma unroll
      for (int kx = 0; kx < K; kx++) {
        int j = nearest(left + kx, w.width);
        i64 at = (static_cast<i64>(o.image) * w.height + i) * w.width + j;
        add_product<V>(sums[kx], read<V>(x, at * vectors + t.column), g, i == down && j == left + kx);
      }
    }
  i64 size = static_cast<i64>(gridDim.y) * channels;
#pragma unroll
  for (int kx = 0; kx < K; kx++) {
    write_slab_sums<V>(sums[kx], t, partial + kx * size, channels, columns);
    __syncthreads();  // its room is used again
  }
}

// The sums of dy * x of one row of taps, ky, over each slab of places. Vectors of channels.
KERNEL(depthwise_grad_weight)(const Real* x, const Real* dy, float* partial, i64 rows, i64 slab, int channels,
                              int columns, int height, int width, int out_height, int out_width, int stride, int top,
                              int left, int kernel, int ky) {
  Windows w = {height, width, out_height, out_width, stride, top, left};
  if (kernel == 3) {
    grad_weight_rows<VECTOR, 3>(x, dy, partial, rows, slab, channels, columns, w, ky);
  } else {
    grad_weight_rows<VECTOR, 5>(x, dy, partial, rows, slab, channels, columns, w, ky);
  }
}

// As depthwise_grad_weight, for any number of channels.
KERNEL(depthwise_grad_weight_any)(const Real* x, const Real* dy, float* partial, i64 rows, i64 slab, int channels,
                                  int columns, int height, int width, int out_height, int out_width, int stride,
                                  int top, int left, int kernel, int ky) {
  Windows w = {height, width, out_height, out_width, stride, top, left};
  if (kernel == 3) {
    grad_weight_rows<1, 3>(x, dy, partial, rows, slab, channels, columns, w, ky);
  } else {
    grad_weight_rows<1, 5>(x, dy, partial, rows, slab, channels, columns, w, ky);
  }
}

// dw (K*K, channels): the sum of each channel over all slabs of one row of taps, ky. One warp a channel; grid
// (warps of channels, taps of the row).
KERNEL(depthwise_grad_weight_finish)(const float* partial, float* dw, int slabs, int channels, int kernel, int ky) {
  int channel = static_cast<int>(blockIdx.x) * (THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP;
  if (channel >= channels) return;  // whole warps
  int kx = static_cast<int>(blockIdx.y);
  const float* of_tap = partial + static_cast<i64>(kx) * slabs * channels;
  float sum = sum_of_slabs(of_tap, channel, slabs, channels);
  if (threadIdx.x % WARP == 0) dw[static_cast<i64>(ky * kernel + kx) * channels + channel] = sum;
}
