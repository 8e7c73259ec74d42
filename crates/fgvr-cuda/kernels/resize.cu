// Nearest and bilinear resizing of channels-last maps, and their gradients. A thread keeps its channels and
// walks over places (columns.cuh): of the output going forward, of the input going back, where it gathers
// from the places that read its own, so that nothing is added to from two threads. Neighbouring lines of a
// block share what they read in the cache.
//
// Positions are whole numbers of 1 / (2 * to): the half-pixel rule (o + 0.5) * from / to - 0.5 without
// rounding.
#include "columns.cuh"

struct Sides {
  int height, width, out_height, out_width;
};

// Where output `o` of `to` lies among `from` inputs, times 2 * to, not beyond the first and the last.
DEVICE int position(int o, int from, int to) {
  int at = (2 * o + 1) * from - to, last = 2 * to * (from - 1);
  return at < 0 ? 0 : at < last ? at : last;
}

// The two inputs that an output reads, and the weight of the second.
struct Taps {
  int low, high;
  float weight;
};
DEVICE Taps taps(int o, int from, int to) {
  int at = position(o, from, to), unit = 2 * to, low = at / unit;
  return {low, low + 1 < from ? low + 1 : low, static_cast<float>(at - low * unit) / static_cast<float>(unit)};
}

// The outputs that read input `i`: from the first to the last, which may be before it.
struct Readers {
  int first, last;
};
DEVICE Readers readers(int i, int from, int to) {
  int last = (to * (2 * i + 3) / from + 1) / 2 - 1;
  return {i == 0 ? 0 : (to * (2 * i - 1) / from + 1) / 2, last < to ? last : to - 1};
}
// The weight by which output `o` reads input `i`.
DEVICE float reads(int o, int i, int from, int to) {
  int unit = 2 * to, off = position(o, from, to) - unit * i;
  off = off < 0 ? -off : off;
  return off < unit ? static_cast<float>(unit - off) / static_cast<float>(unit) : 0.0f;
}

template <int V>
DEVICE void bilinear_rows(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, Sides s) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  for (i64 row = t.first; row < t.last; row += t.step) {
    Place o = place(row, s.out_height, s.out_width);
    Taps down = taps(o.row, s.height, s.out_height), across = taps(o.column, s.width, s.out_width);
    int top = (o.image * s.height + down.low) * s.width, bottom = (o.image * s.height + down.high) * s.width;
    auto at = [&](int place) { return read<V>(x, static_cast<i64>(place) * vectors + t.column); };
    Values<V> a = at(top + across.low), b = at(top + across.high);
    Values<V> c = at(bottom + across.low), d = at(bottom + across.high);
#pragma unroll
    for (int i = 0; i < V; i++) {
      float above = (1.0f - across.weight) * a.v[i] + across.weight * b.v[i];
      float below = (1.0f - across.weight) * c.v[i] + across.weight * d.v[i];
      a.v[i] = (1.0f - down.weight) * above + down.weight * below;
    }
    write<V>(y, row * vectors + t.column, a);
  }
}

// Maps resized bilinearly, without antialiasing. Vectors of channels.
KERNEL(bilinear)(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int height, int width,
                 int out_height, int out_width) {
  bilinear_rows<VECTOR>(x, y, rows, slab, channels, columns, {height, width, out_height, out_width});
}

// As bilinear, for any number of channels.
KERNEL(bilinear_any)(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int height, int width,
                     int out_height, int out_width) {
  bilinear_rows<1>(x, y, rows, slab, channels, columns, {height, width, out_height, out_width});
}

template <int V>
DEVICE void bilinear_grad_rows(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, Sides s) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  for (i64 row = t.first; row < t.last; row += t.step) {
    Place p = place(row, s.height, s.width);
    Readers down = readers(p.row, s.height, s.out_height), across = readers(p.column, s.width, s.out_width);
    Values<V> sum = {};
    for (int oy = down.first; oy <= down.last; oy++) {
      float wy = reads(oy, p.row, s.height, s.out_height);
      int start = (p.image * s.out_height + oy) * s.out_width;
#pragma unroll 2
      for (int ox = across.first; ox <= across.last; ox++) {
        float weight = wy * reads(ox, p.column, s.width, s.out_width);
        Values<V> d = read<V>(dy, static_cast<i64>(start + ox) * vectors + t.column);
#pragma unroll
        for (int i = 0; i < V; i++) sum.v[i] += weight * d.v[i];
      }
    }
    write<V>(dx, row * vectors + t.column, sum);
  }
}

// The gradient of bilinear. Vectors of channels.
KERNEL(bilinear_grad)(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int height, int width,
                      int out_height, int out_width) {
  bilinear_grad_rows<VECTOR>(dy, dx, rows, slab, channels, columns, {height, width, out_height, out_width});
}

// As bilinear_grad, for any number of channels.
KERNEL(bilinear_grad_any)(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int height,
                          int width, int out_height, int out_width) {
  bilinear_grad_rows<1>(dy, dx, rows, slab, channels, columns, {height, width, out_height, out_width});
}

// ---- nearest, by a whole factor ----

template <int V>
DEVICE void nearest_rows(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int height, int width,
                         int factor) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  for (i64 row = t.first; row < t.last; row += t.step) {
    Place o = place(row, height * factor, width * factor);
    int from = (o.image * height + o.row / factor) * width + o.column / factor;
    write<V>(y, row * vectors + t.column, read<V>(x, static_cast<i64>(from) * vectors + t.column));
  }
}

// Each place repeated along both sides. Vectors of channels.
KERNEL(nearest)(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int height, int width,
                int factor) {
  nearest_rows<VECTOR>(x, y, rows, slab, channels, columns, height, width, factor);
}

// As nearest, for any number of channels.
KERNEL(nearest_any)(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int height, int width,
                    int factor) {
  nearest_rows<1>(x, y, rows, slab, channels, columns, height, width, factor);
}

template <int V>
DEVICE void nearest_grad_rows(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int height,
                              int width, int factor) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  for (i64 row = t.first; row < t.last; row += t.step) {
    Place p = place(row, height, width);
    Values<V> sum = {};
    for (int down = 0; down < factor; down++) {
      int start = ((p.image * height + p.row) * factor + down) * width * factor + p.column * factor;
#pragma unroll 4
      for (int across = 0; across < factor; across++) {
        Values<V> d = read<V>(dy, static_cast<i64>(start + across) * vectors + t.column);
#pragma unroll
        for (int i = 0; i < V; i++) sum.v[i] += d.v[i];
      }
    }
    write<V>(dx, row * vectors + t.column, sum);
  }
}

// The gradient of nearest: the sum over the places that repeat one. Vectors of channels.
KERNEL(nearest_grad)(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int height, int width,
                     int factor) {
  nearest_grad_rows<VECTOR>(dy, dx, rows, slab, channels, columns, height, width, factor);
}

// As nearest_grad, for any number of channels.
KERNEL(nearest_grad_any)(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int height,
                         int width, int factor) {
  nearest_grad_rows<1>(dy, dx, rows, slab, channels, columns, height, width, factor);
}
