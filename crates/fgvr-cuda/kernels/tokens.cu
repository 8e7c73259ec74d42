// Sequences of tokens (N, T, C): learnt tokens before those of the patches, a learnt embedding of positions,
// some tokens taken out, and the gradients. A row is one image's whole sequence, so that a thread
// (columns.cuh) keeps a token's channels and walks over images: what is learnt is read once, and its
// gradient, a sum over images, is a sum over rows. Vectors reach over no end of a token.
#include "columns.cuh"

// ---- learnt tokens and positions; offsets are counted in values ----

// Of a sequence: the first `first` values are those of one learnt array, the next `second` of another, the
// rest of the patches; the embedding of positions begins at `skip`.
struct Parts {
  int first, second, skip;
};

template <int V>
DEVICE void embed(const Real* x, const float* first, const float* second, const float* table, Real* y, i64 rows,
                  i64 slab, int channels, int columns, Parts p) {
  int vectors = channels / V, prefix = p.first + p.second;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  int at = t.column * V;
  Values<V> learnt = {};
  if (at < p.first) {
    learnt = read<V>(first, t.column);
  } else if (at < prefix) {
    learnt = read<V>(second, t.column - p.first / V);
  }
  if (table != nullptr && at >= p.skip) {
    Values<V> position = read<V>(table, t.column - p.skip / V);
#pragma unroll
    for (int i = 0; i < V; i++) learnt.v[i] += position.v[i];
  }
  int of_patches = (channels - prefix) / V, patch = t.column - prefix / V;
  for (i64 row = t.first; row < t.last; row += t.step) {
    Values<V> v = learnt;
    if (patch >= 0) {
      v = read<V>(x, row * of_patches + patch);
#pragma unroll
      for (int i = 0; i < V; i++) v.v[i] += learnt.v[i];
    }
    write<V>(y, row * vectors + t.column, v);
  }
}

// Learnt tokens, then those of the patches, all with their positions. Vectors of channels.
KERNEL(tokens_embed)(const Real* x, const float* first, const float* second, const float* table, Real* y, i64 rows,
                     i64 slab, int channels, int columns, int of_first, int of_second, int skip) {
  embed<VECTOR>(x, first, second, table, y, rows, slab, channels, columns, {of_first, of_second, skip});
}

// As tokens_embed, for any number of channels.
KERNEL(tokens_embed_any)(const Real* x, const float* first, const float* second, const float* table, Real* y,
                         i64 rows, i64 slab, int channels, int columns, int of_first, int of_second, int skip) {
  embed<1>(x, first, second, table, y, rows, slab, channels, columns, {of_first, of_second, skip});
}

template <int V>
DEVICE void embed_grad(const Real* dy, Real* dx, float* partial, i64 rows, i64 slab, int channels, int columns,
                       int prefix) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  Values<V> sum = {};
  if (t.active) {
    int of_patches = (channels - prefix) / V, patch = t.column - prefix / V;
    for (i64 row = t.first; row < t.last; row += t.step) {
      Values<V> d = read<V>(dy, row * vectors + t.column);
#pragma unroll
      for (int i = 0; i < V; i++) sum.v[i] += d.v[i];
      if (patch >= 0) write<V>(dx, row * of_patches + patch, d);
    }
  }
  write_slab_sums<V>(sum, t, partial, channels, columns);
}

// The gradient of the patches' tokens, and the sum of each value of a sequence over each slab of images.
// Vectors of channels.
KERNEL(tokens_embed_grad)(const Real* dy, Real* dx, float* partial, i64 rows, i64 slab, int channels, int columns,
                          int prefix) {
  embed_grad<VECTOR>(dy, dx, partial, rows, slab, channels, columns, prefix);
}

// As tokens_embed_grad, for any number of channels.
KERNEL(tokens_embed_grad_any)(const Real* dy, Real* dx, float* partial, i64 rows, i64 slab, int channels, int columns,
                              int prefix) {
  embed_grad<1>(dy, dx, partial, rows, slab, channels, columns, prefix);
}

// The gradients of what is learnt: sums over slabs. One thread a value: values are many, slabs few.
KERNEL(tokens_embed_finish)(const float* partial, float* first, float* second, float* table, int slabs, int channels,
                            int of_first, int of_second, int skip) {
  int at = static_cast<int>(thread_index());
  if (at >= channels) return;
  double sum = 0.0;
  for (int slab = 0; slab < slabs; slab++) sum += partial[static_cast<i64>(slab) * channels + at];
  float value = static_cast<float>(sum);
  if (at < of_first) {
    first[at] = value;
  } else if (at < of_first + of_second) {
    second[at - of_first] = value;
  }
  if (table != nullptr && at >= skip) table[at - skip] = value;
}

// ---- some tokens of a sequence ----

template <int V>
DEVICE void take(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int of_sequence, int start) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  for (i64 row = t.first; row < t.last; row += t.step)
    write<V>(y, row * vectors + t.column, read<V>(x, row * (of_sequence / V) + start / V + t.column));
}

// The tokens from `start` of each sequence. Vectors of channels.
KERNEL(tokens_take)(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int of_sequence,
                    int start) {
  take<VECTOR>(x, y, rows, slab, channels, columns, of_sequence, start);
}

// As tokens_take, for any number of channels.
KERNEL(tokens_take_any)(const Real* x, Real* y, i64 rows, i64 slab, int channels, int columns, int of_sequence,
                        int start) {
  take<1>(x, y, rows, slab, channels, columns, of_sequence, start);
}

template <int V>
DEVICE void take_grad(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int taken, int start) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  int from = t.column - start / V;
  bool inside = from >= 0 && from < taken / V;
  for (i64 row = t.first; row < t.last; row += t.step) {
    Values<V> d = {};
    if (inside) d = read<V>(dy, row * (taken / V) + from);
    write<V>(dx, row * vectors + t.column, d);
  }
}

// The gradient of tokens_take: zero at tokens that were not taken. Vectors of channels.
KERNEL(tokens_take_grad)(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int taken,
                         int start) {
  take_grad<VECTOR>(dy, dx, rows, slab, channels, columns, taken, start);
}

// As tokens_take_grad, for any number of channels.
KERNEL(tokens_take_grad_any)(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int taken,
                             int start) {
  take_grad<1>(dy, dx, rows, slab, channels, columns, taken, start);
}

template <int V>
DEVICE void add_taken(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int of_sequence,
                      int start) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  for (i64 row = t.first; row < t.last; row += t.step) {
    i64 to = row * (of_sequence / V) + start / V + t.column;
    Values<V> d = read<V>(dy, row * vectors + t.column), sum = read<V>(dx, to);
#pragma unroll
    for (int i = 0; i < V; i++) sum.v[i] += d.v[i];
    write<V>(dx, to, sum);
  }
}

// The gradient of tokens_take, added to one that is there. Vectors of channels.
KERNEL(tokens_add_taken)(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int of_sequence,
                         int start) {
  add_taken<VECTOR>(dy, dx, rows, slab, channels, columns, of_sequence, start);
}

// As tokens_add_taken, for any number of channels.
KERNEL(tokens_add_taken_any)(const Real* dy, Real* dx, i64 rows, i64 slab, int channels, int columns, int of_sequence,
                             int start) {
  add_taken<1>(dy, dx, rows, slab, channels, columns, of_sequence, start);
}
