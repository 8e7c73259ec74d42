// Rows in another order: images of a batch, features, keys. A row may be longer than a block's share, so that a
// block takes a piece of one row: 8 packs a thread, which are read before the first is written, and enough
// blocks for images of which there are few.
#include "common.cuh"

// Vectors of a thread.
#define EACH 8

// Vector `at` of a row, whatever it holds; one of NaN.
template <int V>
struct Moved;
template <>
struct Moved<1> {
  typedef Real Type;
  DEVICE static Type none() { return from_float<Real>(__uint_as_float(0x7fc00000u)); }
};
template <>
struct Moved<Pack<Real>::size> {
  typedef Pack<Real> Type;
  DEVICE static Type none() {
    Type pack;
#pragma unroll
    for (int i = 0; i < Pack<Real>::size; i++) pack.values[i] = Moved<1>::none();
    return pack;
  }
};

template <int V>
DEVICE void gather(const Real* x, const u32* index, Real* y, u32 rows, int vectors, int tiles) {
  typedef typename Moved<V>::Type Vector;
  u32 row = blockIdx.x / static_cast<u32>(tiles), tile = blockIdx.x - row * static_cast<u32>(tiles), from = index[row];
  int first = static_cast<int>(tile * blockDim.x * EACH + threadIdx.x), step = static_cast<int>(blockDim.x);
  const Vector* source = reinterpret_cast<const Vector*>(x) + static_cast<i64>(from) * vectors;
  Vector* target = reinterpret_cast<Vector*>(y) + static_cast<i64>(row) * vectors;
  Vector held[EACH];
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    int at = first + i * step;
    // Reads nothing for an index beyond the rows: what is no number shows, another row's values would not.
    if (at < vectors) held[i] = from < rows ? source[at] : Moved<V>::none();
  }
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    int at = first + i * step;
    if (at < vectors) target[at] = held[i];
  }
}

// Row i of the result is row index[i]. Rows are whole packs.
KERNEL(gather_rows)(const Real* x, const u32* index, Real* y, u32 rows, int vectors, int tiles) {
  gather<Pack<Real>::size>(x, index, y, rows, vectors, tiles);
}

// As gather_rows, for rows of any length.
KERNEL(gather_rows_any)(const Real* x, const u32* index, Real* y, u32 rows, int vectors, int tiles) {
  gather<1>(x, index, y, rows, vectors, tiles);
}
