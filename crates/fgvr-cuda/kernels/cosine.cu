// How alike each row of predictions and its target are, as BYOL and SimSiam are trained by, with the gradient
// at the predictions. Rows shorter than a limit are taken for zero and get no gradient.
//
// A block takes a row, with as many threads as it has packs, up to 256. It reads both rows once for their
// lengths and their product, and once more, from a cache that has them still, for the gradient. Sums are f64
// as in l2_normalise.cu.
#include "rows.cuh"

// A row of length one, |q|^2 and |k|^2 being 1 or 0: loss = square (|q|^2 + |k|^2) + slope q k.
template <int V>
DEVICE void compare(const float* q, const float* k, float* gradient, float* loss, float* cosine, int width,
                    double shortest, double square, double slope, double share) {
  i64 row = blockIdx.x;
  q += row * width;
  k += row * width;
  gradient += row * width;
  int vectors = width / V;
  double of_q = 0.0, of_k = 0.0, product = 0.0;
  each_walked<V>(vectors, [&](int at) {
    Values<V> u = read<V>(q, at), v = read<V>(k, at);
#pragma unroll
    for (int i = 0; i < V; i++) {
      double a = u.v[i], b = v.v[i];
      of_q += a * a;
      of_k += b * b;
      product += a * b;
    }
  });
  of_q = block_sum(of_q);
  of_k = block_sum(of_k);
  product = block_sum(product);
  // Written so that what is no number passes.
  bool short_q = of_q <= shortest * shortest, short_k = of_k <= shortest * shortest;
  double by_q = short_q ? 0.0 : 1.0 / sqrt(of_q), by_k = short_k ? 0.0 : 1.0 / sqrt(of_k);
  double cos = product * by_q * by_k;
  if (threadIdx.x == 0) {
    loss[row] = static_cast<float>(square * ((short_q ? 0.0 : 1.0) + (short_k ? 0.0 : 1.0)) + slope * cos);
    cosine[row] = static_cast<float>(cos);
  }
  // slope share (k/|k| - cos q/|q|) / |q|: a small difference of much alike rows.
  double scale = slope * share * by_q, along_q = cos * by_q;
  each_walked<V>(vectors, [&](int at) {
    Values<V> u = read<V>(q, at), v = read<V>(k, at);
#pragma unroll
    for (int i = 0; i < V; i++) u.v[i] = static_cast<float>((v.v[i] * by_k - u.v[i] * along_q) * scale);
    write<V>(gradient, at, u);
  });
}

// Loss and cosine of each row q with its target k, and the gradient of the losses' sum times `share` at q. One block a
// row; widths of packs. The loss is `square` for each of q and k that is not zero, plus `slope` cosines.
KERNEL(cosine)(const float* q, const float* k, float* gradient, float* loss, float* cosine, int width,
               double shortest, double square, double slope, double share) {
  compare<Pack<float>::size>(q, k, gradient, loss, cosine, width, shortest, square, slope, share);
}

// As cosine, for any width.
KERNEL(cosine_any)(const float* q, const float* k, float* gradient, float* loss, float* cosine, int width,
                   double shortest, double square, double slope, double share) {
  compare<1>(q, k, gradient, loss, cosine, width, shortest, square, slope, share);
}

// The means over rows of losses and of cosines. One block for each.
KERNEL(cosine_means)(const float* loss, const float* cosine, float* mean_loss, float* mean_cosine, int rows) {
  const float* from = blockIdx.x == 0 ? loss : cosine;
  double sum = 0.0;
  for (int row = static_cast<int>(threadIdx.x); row < rows; row += static_cast<int>(blockDim.x)) sum += from[row];
  sum = block_sum(sum);
  if (threadIdx.x == 0) (blockIdx.x == 0 ? mean_loss : mean_cosine)[0] = static_cast<float>(sum / rows);
}
