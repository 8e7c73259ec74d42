// Softmax over rows, and its gradient. A row of equal values gets equal shares; one with what is no number,
// with +infinity, or with -infinity alone becomes no number.
//
// Rows of up to 1024 values are held by a warp each; longer ones take a block, which finds maximum and sum in
// one reading and writes in a second.
#include "log_sum.cuh"

template <int V>
DEVICE void forward(const Real* x, Real* y, i64 rows, int channels) {
  i64 row = static_cast<i64>(blockIdx.x) * WARPS + warp_index();
  if (row >= rows) return;  // whole warps
  int vectors = channels / V;
  Held<V> held;
  hold<V>(held, x, row, vectors);
  float top = minus_infinity(), sum = 0.0f;
  each_held<V>(vectors, [&](int part, int) {
#pragma unroll
    for (int i = 0; i < V; i++) top = held.part[part].v[i] > top ? held.part[part].v[i] : top;
  });
  top = warp_max(top);
  each_held<V>(vectors, [&](int part, int) {
#pragma unroll
    for (int i = 0; i < V; i++) {
      held.part[part].v[i] = expf(held.part[part].v[i] - top);
      sum += held.part[part].v[i];
    }
  });
  float share = 1.0f / warp_sum(sum);
  each_held<V>(vectors, [&](int part, int vector) {
#pragma unroll
    for (int i = 0; i < V; i++) held.part[part].v[i] *= share;
    write<V>(y, row * vectors + vector, held.part[part]);
  });
}

// Softmax of rows of up to 1024 values. One warp a row; y may be x.
KERNEL(softmax)(const Real* x, Real* y, i64 rows, int channels) {
  if (channels % VECTOR == 0) {
    forward<VECTOR>(x, y, rows, channels);
  } else {
    forward<1>(x, y, rows, channels);
  }
}

template <int V>
DEVICE void forward_long(const Real* x, Real* y, int channels) {
  int vectors = channels / V;
  LogSum own = empty_sum();
  each_walked<V>(vectors, [&](int vector) { add(own, read<V>(x, vector)); });
  LogSum all = block_log_sum(own);
  float share = 1.0f / all.sum;
  each_walked<V>(vectors, [&](int vector) {
    Values<V> v = read<V>(x, vector);
#pragma unroll
    for (int i = 0; i < V; i++) v.v[i] = expf(v.v[i] - all.top) * share;
    write<V>(y, vector, v);
  });
}

// Softmax of rows of any length. One block a row; y may be x.
KERNEL(softmax_long)(const Real* x, Real* y, i64 rows, int channels) {
  i64 start = static_cast<i64>(blockIdx.x) * channels;
  if (channels % VECTOR == 0) {
    forward_long<VECTOR>(x + start, y + start, channels);
  } else {
    forward_long<1>(x + start, y + start, channels);
  }
}

template <int V>
DEVICE void backward(const Real* dy, const Real* y, Real* dx, i64 rows, int channels) {
  i64 row = static_cast<i64>(blockIdx.x) * WARPS + warp_index();
  if (row >= rows) return;  // whole warps
  int vectors = channels / V;
  Held<V> g, held;
  hold<V>(g, dy, row, vectors);
  hold<V>(held, y, row, vectors);
  float sum = 0.0f;
  each_held<V>(vectors, [&](int part, int) {
#pragma unroll
    for (int i = 0; i < V; i++) sum += g.part[part].v[i] * held.part[part].v[i];
  });
  sum = warp_sum(sum);
  each_held<V>(vectors, [&](int part, int vector) {
    Values<V> out;
#pragma unroll
    for (int i = 0; i < V; i++) out.v[i] = held.part[part].v[i] * (g.part[part].v[i] - sum);
    write<V>(dx, row * vectors + vector, out);
  });
}

// dx = y (dy - sum dy y) for rows of up to 1024 values. One warp a row; dx may be dy.
KERNEL(softmax_backward)(const Real* dy, const Real* y, Real* dx, i64 rows, int channels) {
  if (channels % VECTOR == 0) {
    backward<VECTOR>(dy, y, dx, rows, channels);
  } else {
    backward<1>(dy, y, dx, rows, channels);
  }
}

template <int V>
DEVICE void backward_long(const Real* dy, const Real* y, Real* dx, int channels) {
  int vectors = channels / V;
  float sum = 0.0f;
  each_walked<V>(vectors, [&](int vector) {
    Values<V> g = read<V>(dy, vector), v = read<V>(y, vector);
#pragma unroll
    for (int i = 0; i < V; i++) sum += g.v[i] * v.v[i];
  });
  sum = block_sum(sum);
  each_walked<V>(vectors, [&](int vector) {
    Values<V> g = read<V>(dy, vector), v = read<V>(y, vector);
#pragma unroll
    for (int i = 0; i < V; i++) v.v[i] *= g.v[i] - sum;
    write<V>(dx, vector, v);
  });
}

// dx = y (dy - sum dy y) for rows of any length. One block a row; dx may be dy.
KERNEL(softmax_backward_long)(const Real* dy, const Real* y, Real* dx, i64 rows, int channels) {
  i64 start = static_cast<i64>(blockIdx.x) * channels;
  if (channels % VECTOR == 0) {
    backward_long<VECTOR>(dy + start, y + start, dx + start, channels);
  } else {
    backward_long<1>(dy + start, y + start, dx + start, channels);
  }
}
