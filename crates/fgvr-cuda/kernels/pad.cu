// A border of zeros around channels-last maps, and taking it away again: for convolutions whose zeros are not
// the same on each side. A thread keeps its channels and walks over places (columns.cuh), counted in 31 bits.
#include "columns.cuh"

template <int V>
DEVICE void pad_rows(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int height, int width,
                     int out_height, int out_width, int top, int left) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  for (i64 row = t.first; row < t.last; row += t.step) {
    Place o = place(row, out_height, out_width);
    int i = o.row - top, j = o.column - left;
    Values<V> v = {};
    if (i >= 0 && i < height && j >= 0 && j < width)
      v = read<V>(x, ((static_cast<i64>(o.image) * height + i) * width + j) * vectors + t.column);
    write<V>(y, row * vectors + t.column, v);
  }
}

// y is x with zeros around it; a negative top and left cut off instead. Vectors of channels.
KERNEL(pad)(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int height, int width,
            int out_height, int out_width, int top, int left) {
  pad_rows<VECTOR>(x, y, rows, slab, channels, columns, height, width, out_height, out_width, top, left);
}

// As pad, for any number of channels.
KERNEL(pad_any)(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int height, int width,
                int out_height, int out_width, int top, int left) {
  pad_rows<1>(x, y, rows, slab, channels, columns, height, width, out_height, out_width, top, left);
}
