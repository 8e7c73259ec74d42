// InfoNCE (arXiv:1911.05722, eq. 1) of similarities s: -log of the positive's share in
// exp(s_positive / T) + sum over negatives of exp(s / T), and the gradient of its mean over rows.
//
// A block takes a row, of up to as many negatives as a queue has: one reading finds maximum and sum, a
// second, of what a cache may still have, writes the gradient, in place if wanted. `Real` is the gradient's
// type; similarities are f32, straight from a product that sums in f32.
#include "log_sum.cuh"

// V values of one kind, loaded at once.
template <int V, typename T>
struct alignas(V * sizeof(T)) Together {
  T v[V];
};

// Which columns of this block's row are negatives.
struct Row {
  const u32* images;  // of the columns; null where no column is left out for its image
  u32 image;          // of the row
  int positive, own;  // columns that are no negatives, -1 where there is none
};

template <int V>
DEVICE Values<V> negatives(const Row& row, const float* similarity, int vector) {
  Together<V, float> s = reinterpret_cast<const Together<V, float>*>(similarity)[vector];
  Together<V, u32> images = {};
  if (row.images != nullptr) images = reinterpret_cast<const Together<V, u32>*>(row.images)[vector];
  Values<V> out;
#pragma unroll
  for (int i = 0; i < V; i++) {
    int column = vector * V + i;
    bool left_out = column == row.positive || column == row.own || (row.images != nullptr && images.v[i] == row.image);
    out.v[i] = left_out ? minus_infinity() : s.v[i];
  }
  return out;
}

// Vectors that a thread loads before it stores the first: the gradient may lie where the similarities do,
// so that the compiler cannot tell.
#define AHEAD 4

template <int V>
DEVICE void contrast(const Row& row, float positive, const float* similarity, Real* grad_positive, Real* gradient,
                     float* found, int rows, int columns, float scale, float share) {
  int vectors = columns / V, step = static_cast<int>(blockDim.x);
  LogSum own = empty_sum();
  float sum = 0.0f, count = 0.0f;
  each_walked<V>(vectors, [&](int vector) {
    Values<V> s = negatives<V>(row, similarity, vector);
    add(own, s, scale);
#pragma unroll
    for (int i = 0; i < V; i++) {
      bool negative = !(s.v[i] == minus_infinity());
      sum += negative ? s.v[i] : 0.0f;
      count += negative ? 1.0f : 0.0f;
    }
  });
  LogSum all = block_log_sum(own, scale);
  sum = block_sum(sum);
  count = block_sum(count);
  float top = positive > all.top ? positive : all.top;
  // The negatives' part and the positive's, of exp((s - top) / T).
  float rest = all.top == top ? all.sum : all.sum * expf((all.top - top) * scale);
  float part = expf((positive - top) * scale);
  float whole = 1.0f / (rest + part);
  if (threadIdx.x == 0) {
    i64 at = blockIdx.x;
    // log(1 + rest) keeps what a small rest adds.
    float loss = positive == top ? log1pf(rest) : logf(rest + part) + (top - positive) * scale;
    found[at] = loss;
    found[rows + at] = positive > all.top ? 1.0f : 0.0f;
    found[2 * static_cast<i64>(rows) + at] = positive;
    found[3 * static_cast<i64>(rows) + at] = sum;
    found[4 * static_cast<i64>(rows) + at] = count;
    if (grad_positive != nullptr) store(grad_positive, at, -rest * whole * scale * share);
  }
  if (gradient == nullptr) return;
  float factor = whole * scale * share;
  for (int start = static_cast<int>(threadIdx.x); start < vectors; start += AHEAD * step) {
    Values<V> s[AHEAD];
#pragma unroll
    for (int k = 0; k < AHEAD; k++)
      if (start + k * step < vectors) s[k] = negatives<V>(row, similarity, start + k * step);
#pragma unroll
    for (int k = 0; k < AHEAD; k++) {
      int vector = start + k * step;
      if (vector >= vectors) continue;
      Together<V, Real> out;
#pragma unroll
      for (int i = 0; i < V; i++) {
        float g = s[k].v[i] == minus_infinity() ? 0.0f : expf((s[k].v[i] - top) * scale) * factor;
        out.v[i] = from_float<Real>(vector * V + i == row.positive ? -rest * whole * scale * share : g);
      }
      reinterpret_cast<Together<V, Real>*>(gradient)[vector] = out;
    }
  }
}

// InfoNCE of each row, and the gradient of similarities: share / T times that of the row's loss. One block a
// row. The positive stands beside the negatives (positive, grad_positive) or is one of the columns
// (positive_column); no negatives are own_column and columns of the row's image. found is (5, rows): loss,
// 1 where the positive is above all negatives, positive, sum and number of negatives.
KERNEL(info_nce)(const float* positive, const float* similarity, const u32* positive_column, const u32* own_column,
                 const u32* row_images, const u32* column_images, Real* grad_positive, Real* gradient, float* found,
                 int rows, int columns, float scale, float share) {
  i64 at = blockIdx.x, start = at * columns;
  Row row = {column_images, 0, -1, -1};
  if (row_images != nullptr) row.image = row_images[at];
  if (positive_column != nullptr) row.positive = static_cast<int>(positive_column[at]);
  if (own_column != nullptr) row.own = static_cast<int>(own_column[at]);
  float s = positive_column != nullptr ? similarity[start + row.positive] : positive[at];
  // All have read the positive before its place may be written: sums over the block lie between.
  Real* to = gradient == nullptr ? nullptr : gradient + start;
  if (columns % 4 == 0) {
    contrast<4>(row, s, similarity + start, grad_positive, to, found, rows, columns, scale, share);
  } else {
    contrast<1>(row, s, similarity + start, grad_positive, to, found, rows, columns, scale, share);
  }
}

// Means over rows: of loss, of how often the positive is above all negatives, of positives, of negatives (no
// number where there is none). One block.
KERNEL(info_nce_finish)(const float* found, float* means, int rows) {
  double sums[5];
  for (int of = 0; of < 5; of++) {
    double sum = 0.0;
    for (int row = static_cast<int>(threadIdx.x); row < rows; row += static_cast<int>(blockDim.x))
      sum += found[static_cast<i64>(of) * rows + row];
    sums[of] = block_sum(sum);
  }
  if (threadIdx.x != 0) return;
  for (int of = 0; of < 3; of++) means[of] = static_cast<float>(sums[of] / rows);
  means[3] = static_cast<float>(sums[3] / sums[4]);
}
