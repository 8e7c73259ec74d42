// From the layout and type of images, weights and gradients outside (channels first, f32) to that of
// activations (channels last, Real), and back: matrices (rows, columns) written as (columns, rows). A map
// (N, C, H, W) is N matrices (C, H*W); a convolution's weight (O, I, k, k) is O matrices (I, k*k).
//
// Everything passes through shared memory, so that reads and writes are both of neighbours; its rows have
// an odd length, so that a warp that walks down a column meets 32 banks.
#include "common.cuh"

// Side of a tile of a large matrix.
#define SIDE 64
// Values of a block of a matrix that has few rows or few columns.
#define ROOM 4096

// Reads V values from vector `at` into room[0], room[stride], ...
template <int V, typename T>
DEVICE void read_strided(const T* from, i64 at, float* room, int stride) {
  if constexpr (V == 1) {
    room[0] = load(from, at);
  } else {
    Lanes<T> lanes = load_pack(from, at);
#pragma unroll
    for (int i = 0; i < V; i++) room[i * stride] = lanes.v[i];
  }
}

template <int V, typename T>
DEVICE void write_strided(T* to, i64 at, const float* room, int stride) {
  if constexpr (V == 1) {
    store(to, at, room[0]);
  } else {
    Lanes<T> lanes;
#pragma unroll
    for (int i = 0; i < V; i++) lanes.v[i] = room[i * stride];
    store_pack(to, at, lanes);
  }
}

// ---- many rows and many columns: square tiles; grid (matrices * tiles of columns, tiles of rows) ----

template <int VF, int VT, typename From, typename To>
DEVICE void tiles(const From* x, To* y, int rows, int columns, int tiles_across) {
  SHARED(float, room, SIDE * (SIDE + 1));
  i64 matrix = blockIdx.x / tiles_across;
  int left = static_cast<int>(blockIdx.x % tiles_across) * SIDE, top = static_cast<int>(blockIdx.y) * SIDE;
  i64 start = matrix * rows * columns;
  int thread = static_cast<int>(threadIdx.x);
#pragma unroll 4
  for (int i = thread; i < SIDE * SIDE / VF; i += THREADS) {
    int row = i / (SIDE / VF), column = i % (SIDE / VF) * VF;
    if (top + row < rows && left + column < columns)
      read_strided<VF>(x, (start + static_cast<i64>(top + row) * columns + left + column) / VF,
                       room + row * (SIDE + 1) + column, 1);
  }
  __syncthreads();
#pragma unroll 4
  for (int i = thread; i < SIDE * SIDE / VT; i += THREADS) {
    int column = i / (SIDE / VT), row = i % (SIDE / VT) * VT;
    if (top + row < rows && left + column < columns)
      write_strided<VT>(y, (start + static_cast<i64>(left + column) * rows + top + row) / VT,
                        room + row * (SIDE + 1) + column, SIDE + 1);
  }
}

// Matrices of f32, transposed to activations. Square tiles; rows and columns are whole packs.
KERNEL(layout_tiles_in)(const float* x, Real* y, int rows, int columns, int tiles_across) {
  tiles<Pack<float>::size, Pack<Real>::size>(x, y, rows, columns, tiles_across);
}

// As layout_tiles_in, for any rows and columns.
KERNEL(layout_tiles_in_any)(const float* x, Real* y, int rows, int columns, int tiles_across) {
  tiles<1, 1>(x, y, rows, columns, tiles_across);
}

// Matrices of activations, transposed to f32. Square tiles; rows and columns are whole packs.
KERNEL(layout_tiles_out)(const Real* x, float* y, int rows, int columns, int tiles_across) {
  tiles<Pack<Real>::size, Pack<float>::size>(x, y, rows, columns, tiles_across);
}

// As layout_tiles_out, for any rows and columns.
KERNEL(layout_tiles_out_any)(const Real* x, float* y, int rows, int columns, int tiles_across) {
  tiles<1, 1>(x, y, rows, columns, tiles_across);
}

// ---- few rows (the channels of images, the places of a weight's gradient): a block takes all rows of
// `width` columns and writes one run of values; grid (matrices * tiles of columns) ----

template <int VF, int VT, typename From, typename To>
DEVICE void few_rows(const From* x, To* y, int rows, int columns, int width, int tiles_across) {
  SHARED(float, room, ROOM);
  i64 matrix = blockIdx.x / tiles_across;
  int left = static_cast<int>(blockIdx.x % tiles_across) * width, stride = rows | 1;
  int across = left + width < columns ? width : columns - left;
  i64 start = matrix * rows * columns;
  int thread = static_cast<int>(threadIdx.x);
  for (int row = 0; row < rows; row++)
    for (int column = thread * VF; column < across; column += THREADS * VF)
      read_strided<VF>(x, (start + static_cast<i64>(row) * columns + left + column) / VF,
                       room + column * stride + row, stride);
  __syncthreads();
  i64 to = (start + static_cast<i64>(left) * rows) / VT;
#pragma unroll 1
  for (int i = thread; i < across * rows / VT; i += THREADS) {
    int column = i * VT / rows, row = i * VT - column * rows;
    float values[VT];
#pragma unroll
    for (int k = 0; k < VT; k++) {
      values[k] = room[column * stride + row];
      if (++row == rows) row = 0, column++;
    }
    write_strided<VT>(y, to + i, values, 1);
  }
}

// Matrices of f32 with few rows, transposed to activations. Columns are whole packs.
KERNEL(layout_few_rows_in)(const float* x, Real* y, int rows, int columns, int width, int tiles_across) {
  few_rows<Pack<float>::size, Pack<Real>::size>(x, y, rows, columns, width, tiles_across);
}

// As layout_few_rows_in, for any number of columns.
KERNEL(layout_few_rows_in_any)(const float* x, Real* y, int rows, int columns, int width, int tiles_across) {
  few_rows<1, 1>(x, y, rows, columns, width, tiles_across);
}

// Matrices of activations with few rows, transposed to f32. Columns are whole packs.
KERNEL(layout_few_rows_out)(const Real* x, float* y, int rows, int columns, int width, int tiles_across) {
  few_rows<Pack<Real>::size, Pack<float>::size>(x, y, rows, columns, width, tiles_across);
}

// As layout_few_rows_out, for any number of columns.
KERNEL(layout_few_rows_out_any)(const Real* x, float* y, int rows, int columns, int width, int tiles_across) {
  few_rows<1, 1>(x, y, rows, columns, width, tiles_across);
}

// ---- few columns (the places of a weight, the channels of the gradient of images): the reverse; a block
// takes `height` rows, which are one run of values; grid (matrices * tiles of rows) ----

template <int VF, int VT, typename From, typename To>
DEVICE void few_columns(const From* x, To* y, int rows, int columns, int height, int tiles_down) {
  SHARED(float, room, ROOM);
  i64 matrix = blockIdx.x / tiles_down;
  int top = static_cast<int>(blockIdx.x % tiles_down) * height, stride = columns | 1;
  int down = top + height < rows ? height : rows - top;
  i64 start = matrix * rows * columns;
  int thread = static_cast<int>(threadIdx.x);
  i64 from = (start + static_cast<i64>(top) * columns) / VF;
  for (int i = thread; i < down * columns / VF; i += THREADS) {
    float values[VF];
    read_strided<VF>(x, from + i, values, 1);
    int row = i * VF / columns, column = i * VF - row * columns;
#pragma unroll
    for (int k = 0; k < VF; k++) {
      room[row * stride + column] = values[k];
      if (++column == columns) column = 0, row++;
    }
  }
  __syncthreads();
  for (int column = 0; column < columns; column++)
    for (int row = thread * VT; row < down; row += THREADS * VT)
      write_strided<VT>(y, (start + static_cast<i64>(column) * rows + top + row) / VT, room + row * stride + column,
                        stride);
}

// Matrices of f32 with few columns, transposed to activations. Rows are whole packs.
KERNEL(layout_few_columns_in)(const float* x, Real* y, int rows, int columns, int height, int tiles_down) {
  few_columns<Pack<float>::size, Pack<Real>::size>(x, y, rows, columns, height, tiles_down);
}

// As layout_few_columns_in, for any number of rows.
KERNEL(layout_few_columns_in_any)(const float* x, Real* y, int rows, int columns, int height, int tiles_down) {
  few_columns<1, 1>(x, y, rows, columns, height, tiles_down);
}

// Matrices of activations with few columns, transposed to f32. Rows are whole packs.
KERNEL(layout_few_columns_out)(const Real* x, float* y, int rows, int columns, int height, int tiles_down) {
  few_columns<Pack<Real>::size, Pack<float>::size>(x, y, rows, columns, height, tiles_down);
}

// As layout_few_columns_out, for any number of rows.
KERNEL(layout_few_columns_out_any)(const Real* x, float* y, int rows, int columns, int height, int tiles_down) {
  few_columns<1, 1>(x, y, rows, columns, height, tiles_down);
}

// ---- the type alone ----

// VECTOR values a step: the wider type in one or two packs.
template <typename From, typename To>
DEVICE void cast(const From* x, To* y, i64 len) {
  constexpr int V = Pack<Real>::size;
  i64 step = thread_count();
  for (i64 at = thread_index(); at < len / V; at += step) {
    float values[V];
#pragma unroll
    for (int part = 0; part < V / Pack<From>::size; part++)
      read_strided<Pack<From>::size>(x, at * (V / Pack<From>::size) + part, values + part * Pack<From>::size, 1);
#pragma unroll
    for (int part = 0; part < V / Pack<To>::size; part++)
      write_strided<Pack<To>::size>(y, at * (V / Pack<To>::size) + part, values + part * Pack<To>::size, 1);
  }
  // What fills no vector.
  i64 rest = len / V * V + thread_index();
  if (rest < len) store(y, rest, load(x, rest));
}

// f32 values as activations.
KERNEL(cast_in)(const float* x, Real* y, i64 len) { cast(x, y, len); }

// Activations as f32.
KERNEL(cast_out)(const Real* x, float* y, i64 len) { cast(x, y, len); }

// The same value everywhere.
KERNEL(fill)(Real* y, float value, i64 len) {
  constexpr int V = Pack<Real>::size;
  Lanes<Real> lanes;
#pragma unroll
  for (int i = 0; i < V; i++) lanes.v[i] = value;
  i64 step = thread_count();
  for (i64 at = thread_index(); at < len / V; at += step) store_pack(y, at, lanes);
  i64 rest = len / V * V + thread_index();
  if (rest < len) store(y, rest, value);
}
