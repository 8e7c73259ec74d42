// What is done to each value, and to each row of channels: adding, ReLU and ReLU6, bias, layer scale, and the sums over
// rows that are the gradients of bias and layer scale.
#include "columns.cuh"

// ---- each value: packs of VECTOR, then what fills none ----

template <typename F>
DEVICE void each(i64 len, F f) {
  i64 step = thread_count(), vectors = len / VECTOR;
  for (i64 at = thread_index(); at < vectors; at += step) f(at, false);
  i64 rest = vectors * VECTOR + thread_index();
  if (rest < len) f(rest, true);
}

// y = f(a, b) of each value; y may be a or b.
template <typename F>
DEVICE void zip(const Real* a, const Real* b, Real* y, i64 len, F f) {
  each(len, [&](i64 at, bool alone) {
    if (alone) {
      store(y, at, f(load(a, at), load(b, at)));
      return;
    }
    Values<VECTOR> u = read<VECTOR>(a, at), v = read<VECTOR>(b, at);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) u.v[i] = f(u.v[i], v.v[i]);
    write<VECTOR>(y, at, u);
  });
}

template <typename F>
DEVICE void map(const Real* x, Real* y, i64 len, F f) {
  each(len, [&](i64 at, bool alone) {
    if (alone) {
      store(y, at, f(load(x, at)));
      return;
    }
    Values<VECTOR> v = read<VECTOR>(x, at);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) v.v[i] = f(v.v[i]);
    write<VECTOR>(y, at, v);
  });
}

// y += x: a gradient added to one that is there.
KERNEL(add_to)(Real* y, const Real* x, i64 len) {
  zip(y, x, y, len, [](float y, float x) { return y + x; });
}

// y = max(x, 0); y may be x.
KERNEL(relu)(const Real* x, Real* y, i64 len) {
  map(x, y, len, [](float v) { return activated(v, RELU); });
}

// The gradient of ReLU by its output: dy where y > 0; dx may be dy.
KERNEL(relu_grad)(const Real* dy, const Real* y, Real* dx, i64 len) {
  zip(dy, y, dx, len, [](float d, float y) { return cut_off(y, RELU) ? 0.0f : d; });
}

// y = min(max(x, 0), 6); y may be x.
KERNEL(relu6)(const Real* x, Real* y, i64 len) {
  map(x, y, len, [](float v) { return activated(v, RELU6); });
}

// The gradient of ReLU6 by its output: dy where 0 < y < 6; dx may be dy.
KERNEL(relu6_grad)(const Real* dy, const Real* y, Real* dx, i64 len) {
  zip(dy, y, dx, len, [](float d, float y) { return cut_off(y, RELU6) ? 0.0f : d; });
}

// y = x * factor; y may be x.
KERNEL(scale)(const Real* x, Real* y, float factor, i64 len) {
  map(x, y, len, [factor](float v) { return v * factor; });
}

// ---- each row of channels ----

template <int V>
DEVICE void bias(const Real* x, const float* bias, const Real* residual, Real* y, i64 rows, i64 slab, int channels,
                 int columns, int activation) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  Values<V> b = read<V>(bias, t.column);
  for (i64 row = t.first; row < t.last; row += t.step) {
    i64 at = row * vectors + t.column;
    Values<V> v = read<V>(x, at), r = {};
    if (residual != nullptr) r = read<V>(residual, at);
#pragma unroll
    for (int i = 0; i < V; i++) {
      float out = v.v[i] + b.v[i];
      if (residual != nullptr) out += r.v[i];
      v.v[i] = activated(out, activation);
    }
    write<V>(y, at, v);
  }
}

// y = x + bias of each row, plus a residual, then an activation. y may be x; vectors of channels.
KERNEL(bias_add)(const Real* x, const float* b, const Real* residual, Real* y, i64 rows, i64 slab, int channels,
                 int columns, int activation) {
  bias<VECTOR>(x, b, residual, y, rows, slab, channels, columns, activation);
}

// As bias_add, for any number of channels.
KERNEL(bias_add_any)(const Real* x, const float* b, const Real* residual, Real* y, i64 rows, i64 slab, int channels,
                     int columns, int activation) {
  bias<1>(x, b, residual, y, rows, slab, channels, columns, activation);
}

template <int V>
DEVICE void sums(const Real* x, float* partial, i64 rows, i64 slab, int channels, int columns) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  Values<V> sum = {};
  if (t.active)
    for (i64 row = t.first; row < t.last; row += t.step) {
      Values<V> v = read<V>(x, row * vectors + t.column);
#pragma unroll
      for (int i = 0; i < V; i++) sum.v[i] += v.v[i];
    }
  write_slab_sums<V>(sum, t, partial, channels, columns);
}

// The sum of each channel over each slab of rows. Vectors of channels.
KERNEL(row_sums)(const Real* x, float* partial, i64 rows, i64 slab, int channels, int columns) {
  sums<VECTOR>(x, partial, rows, slab, channels, columns);
}

// As row_sums, for any number of channels.
KERNEL(row_sums_any)(const Real* x, float* partial, i64 rows, i64 slab, int channels, int columns) {
  sums<1>(x, partial, rows, slab, channels, columns);
}

// The sum of each channel over all slabs. One warp a channel.
KERNEL(row_sums_finish)(const float* partial, float* sums, int slabs, int channels) {
  int channel = static_cast<int>(blockIdx.x) * (THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP;
  if (channel >= channels) return;  // whole warps
  float sum = sum_of_slabs(partial, channel, slabs, channels);
  if (threadIdx.x % WARP == 0) sums[channel] = sum;
}

template <int V>
DEVICE void layer_scale_rows(const Real* x, const float* gamma, Real* y, i64 rows, i64 slab, int channels,
                             int columns) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  Values<V> g = read<V>(gamma, t.column);
  for (i64 row = t.first; row < t.last; row += t.step) {
    i64 at = row * vectors + t.column;
    Values<V> v = read<V>(x, at);
#pragma unroll
    for (int i = 0; i < V; i++) v.v[i] *= g.v[i];
    write<V>(y, at, v);
  }
}

// y = x * gamma of each channel; y may be x. Vectors of channels.
KERNEL(layer_scale)(const Real* x, const float* gamma, Real* y, i64 rows, i64 slab, int channels, int columns) {
  layer_scale_rows<VECTOR>(x, gamma, y, rows, slab, channels, columns);
}

// As layer_scale, for any number of channels.
KERNEL(layer_scale_any)(const Real* x, const float* gamma, Real* y, i64 rows, i64 slab, int channels, int columns) {
  layer_scale_rows<1>(x, gamma, y, rows, slab, channels, columns);
}

template <int V>
DEVICE void layer_scale_grads(const Real* dy, const Real* x, const float* gamma, Real* dx, float* partial, i64 rows,
                              i64 slab, int channels, int columns) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  Values<V> sum = {};
  if (t.active) {
    Values<V> g = read<V>(gamma, t.column);
    for (i64 row = t.first; row < t.last; row += t.step) {
      i64 at = row * vectors + t.column;
      Values<V> d = read<V>(dy, at), v = read<V>(x, at);
#pragma unroll
      for (int i = 0; i < V; i++) {
        sum.v[i] += d.v[i] * v.v[i];
        d.v[i] *= g.v[i];
      }
      write<V>(dx, at, d);
    }
  }
  write_slab_sums<V>(sum, t, partial, channels, columns);
}

// dx = dy * gamma, and the sums of dy * x over each slab of rows. dx may be dy; vectors of channels.
KERNEL(layer_scale_grad)(const Real* dy, const Real* x, const float* gamma, Real* dx, float* partial, i64 rows,
                         i64 slab, int channels, int columns) {
  layer_scale_grads<VECTOR>(dy, x, gamma, dx, partial, rows, slab, channels, columns);
}

// As layer_scale_grad, for any number of channels.
KERNEL(layer_scale_grad_any)(const Real* dy, const Real* x, const float* gamma, Real* dx, float* partial, i64 rows,
                             i64 slab, int channels, int columns) {
  layer_scale_grads<1>(dy, x, gamma, dx, partial, rows, slab, channels, columns);
}
