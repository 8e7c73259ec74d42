// Rows scaled to a Euclidean length of one, and the gradient. Squares are summed in f64, as those of 1e-20
// and 1e20 are no floats.
//
// Rows of up to 1024 channels are held by a warp each and read once; longer and odd ones take a block.
#include "rows.cuh"

// y = x / max(|x|, eps) for rows of up to 1024 channels that fill packs. One warp a row.
KERNEL(l2_normalise)(const Real* x, Real* y, i64 rows, int channels, double eps) {
  constexpr int V = VECTOR;
  i64 row = static_cast<i64>(blockIdx.x) * WARPS + warp_index();
  if (row >= rows) return;  // whole warps
  int vectors = channels / V;
  Held<V> held;
  hold<V>(held, x, row, vectors);
  double square = 0.0;
  each_held<V>(vectors, [&](int part, int) {
#pragma unroll
    for (int i = 0; i < V; i++) square += static_cast<double>(held.part[part].v[i]) * held.part[part].v[i];
  });
  double norm = sqrt(warp_sum(square)), share = 1.0 / (norm < eps ? eps : norm);
  each_held<V>(vectors, [&](int part, int vector) {
    Values<V> out;
#pragma unroll
    for (int i = 0; i < V; i++) out.v[i] = static_cast<float>(held.part[part].v[i] * share);
    write<V>(y, row * vectors + vector, out);
  });
}

// As l2_normalise, for rows of any length. One block a row.
KERNEL(l2_normalise_long)(const Real* x, Real* y, i64 rows, int channels, double eps) {
  x += static_cast<i64>(blockIdx.x) * channels;
  y += static_cast<i64>(blockIdx.x) * channels;
  double square = 0.0;
  each_walked<1>(channels, [&](int at) {
    double v = load(x, at);
    square += v * v;
  });
  double norm = sqrt(block_sum(square)), share = 1.0 / (norm < eps ? eps : norm);
  each_walked<1>(channels, [&](int at) { store(y, at, static_cast<float>(load(x, at) * share)); });
}

// dx = (dy - along * x) * scale.
struct Slope {
  double scale, along;
};
// From the sums over a row of x^2 and of dy x.
DEVICE Slope slope(double square, double product, double eps) {
  double norm = sqrt(square);
  // A norm that eps replaces is a constant, also at eps itself.
  if (norm <= eps) return {1.0 / eps, 0.0};
  return {1.0 / norm, product / (norm * norm)};
}

// dx = (dy - y (y . dy)) / |x|, or dy / eps where |x| <= eps; dx may be dy. Rows of up to 1024 channels that
// fill packs, one warp a row.
KERNEL(l2_normalise_backward)(const Real* dy, const Real* x, Real* dx, i64 rows, int channels, double eps) {
  constexpr int V = VECTOR;
  i64 row = static_cast<i64>(blockIdx.x) * WARPS + warp_index();
  if (row >= rows) return;  // whole warps
  int vectors = channels / V;
  Held<V> g, held;
  hold<V>(g, dy, row, vectors);
  hold<V>(held, x, row, vectors);
  double square = 0.0, product = 0.0;
  each_held<V>(vectors, [&](int part, int) {
#pragma unroll
    for (int i = 0; i < V; i++) {
      double v = held.part[part].v[i];
      square += v * v;
      product += v * g.part[part].v[i];
    }
  });
  square = warp_sum(square);
  Slope s = slope(square, warp_sum(product), eps);
  each_held<V>(vectors, [&](int part, int vector) {
    Values<V> out;
#pragma unroll
    for (int i = 0; i < V; i++)
      out.v[i] = static_cast<float>((g.part[part].v[i] - s.along * held.part[part].v[i]) * s.scale);
    write<V>(dx, row * vectors + vector, out);
  });
}

// As l2_normalise_backward, for rows of any length. One block a row.
KERNEL(l2_normalise_backward_long)(const Real* dy, const Real* x, Real* dx, i64 rows, int channels, double eps) {
  i64 start = static_cast<i64>(blockIdx.x) * channels;
  double square = 0.0, product = 0.0;
  each_walked<1>(channels, [&](int at) {
    double v = load(x, start + at);
    square += v * v;
    product += v * load(dy, start + at);
  });
  square = block_sum(square);
  Slope s = slope(square, block_sum(product), eps);
  each_walked<1>(channels, [&](int at) {
    store(dx, start + at, static_cast<float>((load(dy, start + at) - s.along * load(x, start + at)) * s.scale));
  });
}
