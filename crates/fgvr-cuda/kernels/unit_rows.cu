// Rows of length one for a contrast between them: what heads give, normalised in f32 whatever the type of maps, and the
// way back through the normalisation from the two places where a contrast reads its queries. Rows shorter than a limit
// become zero and get no gradient.
//
// A block takes a row, which it reads once for its sums and once more, from a cache that has it still.
#include "rows.cuh"

// unit = z / |z|, and by_length = 1 / |z|, or 0 for both where |z| <= shortest. One block a row.
KERNEL(unit_rows)(const Real* z, float* unit, float* by_length, int width, double shortest) {
  i64 row = blockIdx.x;
  z += row * width;
  unit += row * width;
  double square = 0.0;
  each_walked<1>(width, [&](int at) {
    double v = load(z, at);
    square += v * v;
  });
  square = block_sum(square);
  // Written so that what is no number passes.
  double share = square <= shortest * shortest ? 0.0 : 1.0 / sqrt(square);
  each_walked<1>(width, [&](int at) { unit[at] = static_cast<float>(load(z, at) * share); });
  if (threadIdx.x == 0) by_length[row] = static_cast<float>(share);
}

// dz = (g - u (u . g)) by_length with g = gradient + shares keys, u the unit row. One block a row.
KERNEL(unit_rows_grad)(const float* unit, const float* by_length, const float* gradient, const float* shares,
                       const float* keys, Real* dz, int width) {
  i64 row = blockIdx.x;
  unit += row * width;
  dz += row * width;
  const float* of_row = gradient == nullptr ? nullptr : gradient + row * width;
  const float* key = keys + row * width;
  float share = shares[row];
  auto sum_at = [&](int at) { return (of_row == nullptr ? 0.0f : of_row[at]) + share * key[at]; };
  double along = 0.0;
  each_walked<1>(width, [&](int at) { along += static_cast<double>(unit[at]) * sum_at(at); });
  along = block_sum(along);
  double scale = by_length[row];
  each_walked<1>(width, [&](int at) { store(dz, at, static_cast<float>((sum_at(at) - unit[at] * along) * scale)); });
}

// The product of each row of a with that of b. One block a row.
KERNEL(row_products)(const float* a, const float* b, float* products, int width) {
  i64 row = blockIdx.x;
  double product = 0.0;
  each_walked<1>(width, [&](int at) { product += static_cast<double>(a[row * width + at]) * b[row * width + at]; });
  product = block_sum(product);
  if (threadIdx.x == 0) products[row] = static_cast<float>(product);
}
