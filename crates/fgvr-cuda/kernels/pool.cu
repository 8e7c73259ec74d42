// Max, average and global pooling of channels-last maps, and their gradients. A thread keeps its channels
// and walks over places (columns.cuh): of the output going forward, of the input going back, where it
// gathers from the windows that read its place, so that nothing is added to from two threads.
// Places are counted in 31 bits.
#include "columns.cuh"

// Sides of the maps and of the windows.
struct Window {
  int height, width, out_height, out_width, kernel, stride, padding;
};

template <int V>
struct alignas(V) Bytes {
  u8 v[V];
};

// The number next to `i` that lies in [0, end).
DEVICE int nearest(int i, int end) { return i < 0 ? 0 : i < end ? i : end - 1; }

// f(tap, place, counts) for the taps of the window at `o`, in order. K is the window's side where it is known
// when compiling, so that all its loads are under way at once, else 0. Taps that do not count lie beside the
// map, and are given a place on it: with K, a load without a condition costs less than waiting for each.
template <int K, typename F>
DEVICE void each_tap(const Window& w, Place o, F f) {
  int kernel = K > 0 ? K : w.kernel;
  int top = o.row * w.stride - w.padding, left = o.column * w.stride - w.padding;
#pragma unroll(K > 0 ? K : 1)
  for (int ky = 0; ky < kernel; ky++)
#pragma unroll(K > 0 ? K : 1)
    for (int kx = 0; kx < kernel; kx++) {
      int y = top + ky, x = left + kx;
      int row = nearest(y, w.height), column = nearest(x, w.width);
      bool counts = y == row && x == column;
      if (K > 0 || counts) f(ky * kernel + kx, (o.image * w.height + row) * w.width + column, counts);
    }
}

// f(tap, output place, counts) for the windows that read place `i`, by rising tap. R is how many there can be
// along a side (kernel / stride, rounded up) where it is known when compiling, else 0; as in each_tap.
template <int R, typename F>
DEVICE void each_reader(const Window& w, Place i, F f) {
  int readers = R > 0 ? R : (w.kernel + w.stride - 1) / w.stride;
  int y = i.row + w.padding, x = i.column + w.padding;
  int last_row = y / w.stride, last_column = x / w.stride;
#pragma unroll(R > 0 ? R : 1)
  for (int up = 0; up < readers; up++)
#pragma unroll(R > 0 ? R : 1)
    for (int back = 0; back < readers; back++) {
      int row = nearest(last_row - up, w.out_height), column = nearest(last_column - back, w.out_width);
      int ky = y - row * w.stride, kx = x - column * w.stride;
      bool counts = row == last_row - up && column == last_column - back && ky < w.kernel && kx < w.kernel;
      if (R > 0 || counts) f(ky * w.kernel + kx, (i.image * w.out_height + row) * w.out_width + column, counts);
    }
}

template <int V, int K>
DEVICE void max_rows(const Real* x, Real* y, u8* taps, i64 rows, i64 slab, int channels, int columns, Window w) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  for (i64 row = t.first; row < t.last; row += t.step) {
    Place o = place(row, w.out_height, w.out_width);
    // The first tap on the map is taken even if it is minus infinity.
    int top = w.padding - o.row * w.stride, left = w.padding - o.column * w.stride;
    int first = (top > 0 ? top : 0) * w.kernel + (left > 0 ? left : 0);
    Values<V> most;
    int taken[V];
#pragma unroll
    for (int i = 0; i < V; i++) {
      most.v[i] = __uint_as_float(0xff800000u);
      taken[i] = first;
    }
    each_tap<K>(w, o, [&](int tap, int at, bool counts) {
      Values<V> v = read<V>(x, static_cast<i64>(at) * vectors + t.column);
#pragma unroll
      for (int i = 0; i < V; i++) {
        // The first of equal ones stays; what is no number is taken.
        if (counts && (v.v[i] > most.v[i] || v.v[i] != v.v[i])) {
          most.v[i] = v.v[i];
          taken[i] = tap;
        }
      }
    });
    i64 at = row * vectors + t.column;
    write<V>(y, at, most);
    Bytes<V> bytes;
#pragma unroll
    for (int i = 0; i < V; i++) bytes.v[i] = static_cast<u8>(taken[i]);
    reinterpret_cast<Bytes<V>*>(taps)[at] = bytes;
  }
}

// The largest value of each window, and the tap (row * kernel + column) it came from. Vectors of channels.
KERNEL(max_pool)(const Real* x, Real* y, u8* taps, i64 rows, i64 slab, int channels, int columns, int height,
                 int width, int out_height, int out_width, int kernel, int stride, int padding) {
  Window w = {height, width, out_height, out_width, kernel, stride, padding};
  if (kernel == 3) {
    max_rows<VECTOR, 3>(x, y, taps, rows, slab, channels, columns, w);
  } else {
    max_rows<VECTOR, 0>(x, y, taps, rows, slab, channels, columns, w);
  }
}

// As max_pool, for any number of channels.
KERNEL(max_pool_any)(const Real* x, Real* y, u8* taps, i64 rows, i64 slab, int channels, int columns, int height,
                     int width, int out_height, int out_width, int kernel, int stride, int padding) {
  Window w = {height, width, out_height, out_width, kernel, stride, padding};
  max_rows<1, 0>(x, y, taps, rows, slab, channels, columns, w);
}

template <int V, int R>
DEVICE void max_grad_rows(const Real* dy, const u8* taps, Real* dx, i64 rows, i64 slab, int channels, int columns,
                          Window w) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  for (i64 row = t.first; row < t.last; row += t.step) {
    Values<V> sum = {};
    each_reader<R>(w, place(row, w.height, w.width), [&](int tap, int out, bool counts) {
      i64 at = static_cast<i64>(out) * vectors + t.column;
      Values<V> d = read<V>(dy, at);
      Bytes<V> taken = reinterpret_cast<const Bytes<V>*>(taps)[at];
#pragma unroll
      for (int i = 0; i < V; i++)
        if (counts && taken.v[i] == tap) sum.v[i] += d.v[i];
    });
    write<V>(dx, row * vectors + t.column, sum);
  }
}

// The gradient of max_pool: to the tap that was taken. Vectors of channels.
KERNEL(max_pool_grad)(const Real* dy, const u8* taps, Real* dx, i64 rows, i64 slab, int channels, int columns,
                      int height, int width, int out_height, int out_width, int kernel, int stride, int padding) {
  Window w = {height, width, out_height, out_width, kernel, stride, padding};
  if ((kernel + stride - 1) / stride == 2) {
    max_grad_rows<VECTOR, 2>(dy, taps, dx, rows, slab, channels, columns, w);
  } else {
    max_grad_rows<VECTOR, 0>(dy, taps, dx, rows, slab, channels, columns, w);
  }
}

// As max_pool_grad, for any number of channels.
KERNEL(max_pool_grad_any)(const Real* dy, const u8* taps, Real* dx, i64 rows, i64 slab, int channels, int columns,
                          int height, int width, int out_height, int out_width, int kernel, int stride, int padding) {
  Window w = {height, width, out_height, out_width, kernel, stride, padding};
  max_grad_rows<1, 0>(dy, taps, dx, rows, slab, channels, columns, w);
}

// ---- average ----

template <int V>
DEVICE void add_share(Values<V>& sum, const Values<V>& v, float share, bool counts) {
#pragma unroll
  for (int i = 0; i < V; i++)
    if (counts) sum.v[i] += share * v.v[i];
}

template <int V, int K>
DEVICE void average_rows(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, Window w) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  float share = 1.0f / static_cast<float>(w.kernel * w.kernel);
  for (i64 row = t.first; row < t.last; row += t.step) {
    Values<V> sum = {};
    each_tap<K>(w, place(row, w.out_height, w.out_width), [&](int, int at, bool counts) {
      add_share<V>(sum, read<V>(x, static_cast<i64>(at) * vectors + t.column), share, counts);
    });
    write<V>(y, row * vectors + t.column, sum);
  }
}

// The mean of each window, places of the padding counted as zeros. Vectors of channels.
KERNEL(average_pool)(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int height, int width,
                     int out_height, int out_width, int kernel, int stride, int padding) {
  Window w = {height, width, out_height, out_width, kernel, stride, padding};
  if (kernel == 2) {
    average_rows<VECTOR, 2>(x, y, rows, slab, channels, columns, w);
  } else {
    average_rows<VECTOR, 0>(x, y, rows, slab, channels, columns, w);
  }
}

// As average_pool, for any number of channels.
KERNEL(average_pool_any)(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int height, int width,
                         int out_height, int out_width, int kernel, int stride, int padding) {
  Window w = {height, width, out_height, out_width, kernel, stride, padding};
  average_rows<1, 0>(x, y, rows, slab, channels, columns, w);
}

template <int V, int R>
DEVICE void average_grad_rows(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, Window w) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  float share = 1.0f / static_cast<float>(w.kernel * w.kernel);
  for (i64 row = t.first; row < t.last; row += t.step) {
    Values<V> sum = {};
    each_reader<R>(w, place(row, w.height, w.width), [&](int, int out, bool counts) {
      add_share<V>(sum, read<V>(dy, static_cast<i64>(out) * vectors + t.column), share, counts);
    });
    write<V>(dx, row * vectors + t.column, sum);
  }
}

// The gradient of average_pool: a share of each window that reads the place. Vectors of channels.
KERNEL(average_pool_grad)(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int height,
                          int width, int out_height, int out_width, int kernel, int stride, int padding) {
  Window w = {height, width, out_height, out_width, kernel, stride, padding};
  if ((kernel + stride - 1) / stride == 2) {
    average_grad_rows<VECTOR, 2>(dy, dx, rows, slab, channels, columns, w);
  } else {
    average_grad_rows<VECTOR, 0>(dy, dx, rows, slab, channels, columns, w);
  }
}

// As average_pool_grad, for any number of channels.
KERNEL(average_pool_grad_any)(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int height,
                              int width, int out_height, int out_width, int kernel, int stride, int padding) {
  Window w = {height, width, out_height, out_width, kernel, stride, padding};
  average_grad_rows<1, 0>(dy, dx, rows, slab, channels, columns, w);
}
