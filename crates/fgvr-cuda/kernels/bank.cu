// A ring of the last features, and what varies in it, channel by channel.
//
// Sums are f64 from the first value on, as on the CPU, and of differences from the row in the first slot: a
// small variance about a large mean does not cancel. A bank is small (a few thousand rows), so that this
// costs less than a second pass. A warp reads 32 channels of a row, 128 bytes; a block is 8 such warps, one
// below the other, over a slab of rows.
#include "common.cuh"

#define LINES (THREADS / WARP)

// Writes rows into the ring from slot `position` on, and 1 / |row| of each (0 for a row of zeros; null: not wanted). The last
// `capacity` of them only: two blocks never write one slot. One block a row.
KERNEL(bank_push)(const float* rows, float* bank, double* inverse_norms, i64 first, i64 position, i64 capacity,
                  int channels) {
  i64 row = first + blockIdx.x, slot = (position + row) % capacity;
  const float* from = rows + row * channels;
  float* to = bank + slot * channels;
  double square = 0.0;
  for (int channel = static_cast<int>(threadIdx.x); channel < channels; channel += static_cast<int>(blockDim.x)) {
    float v = from[channel];
    to[channel] = v;
    square += static_cast<double>(v) * v;
  }
  square = block_sum(square);
  // Written so that what is no number passes.
  if (threadIdx.x == 0 && inverse_norms != nullptr) inverse_norms[slot] = square == 0.0 ? 0.0 : 1.0 / sqrt(square);
}

// The sum over a block's lines of each channel, in line 0.
DEVICE double lines_sum(double v) {
  SHARED(double, room, THREADS);
  room[threadIdx.x] = v;
  __syncthreads();
  if (threadIdx.x < WARP)
    for (int line = 1; line < LINES; line++) v += room[line * WARP + threadIdx.x];
  __syncthreads();
  return v;
}

// Sums over each slab of rows of what differs from the first slot, and of its square: of the rows, and with
// norms of the rows divided by them. partial is (2 or 4, slabs, channels); grid (tiles of channels, slabs).
KERNEL(bank_moments)(const float* bank, const double* inverse_norms, double* partial, int len, int slab,
                     int channels) {
  int channel = static_cast<int>(blockIdx.x * WARP + threadIdx.x % WARP), line = static_cast<int>(threadIdx.x) / WARP;
  bool active = channel < channels, unit = inverse_norms != nullptr;
  int first = static_cast<int>(blockIdx.y) * slab, last = first + slab < len ? first + slab : len;
  double sums[4] = {};
  if (active) {
    double shift = bank[channel], unit_shift = unit ? inverse_norms[0] * shift : 0.0;
    for (int row = first + line; row < last; row += LINES) {
      double v = bank[static_cast<i64>(row) * channels + channel], off = v - shift;
      sums[0] += off;
      sums[1] += off * off;
      if (unit) {
        off = inverse_norms[row] * v - unit_shift;
        sums[2] += off;
        sums[3] += off * off;
      }
    }
  }
  i64 at = static_cast<i64>(blockIdx.y) * channels + channel, all = static_cast<i64>(gridDim.y) * channels;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if (i >= 2 && !unit) break;
    double sum = lines_sum(sums[i]);
    if (line == 0 && active) partial[i * all + at] = sum;
  }
}

// As Rust's max: what is below zero by rounding is 0, what is no number stays none.
DEVICE double not_negative(double v) { return v < 0.0 ? 0.0 : v; }

// Mean and standard deviation of each channel, its variance (with norms, of the rows divided by them), and
// whether it is zero in every row. One thread a channel.
KERNEL(bank_statistics)(const double* partial, const float* bank, float* mean, float* deviation, float* variance,
                        float* dead, int len, int slabs, int channels, int unit) {
  i64 channel = thread_index();
  if (channel >= channels) return;
  i64 all = static_cast<i64>(slabs) * channels;
  double sums[4] = {};
  for (int slab = 0; slab < slabs; slab++) {
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (i < 2 || unit != 0) sums[i] += partial[i * all + static_cast<i64>(slab) * channels + channel];
  }
  double n = len, off = sums[0] / n, shift = bank[channel];
  double raw = not_negative(sums[1] / n - off * off);
  mean[channel] = static_cast<float>(shift + off);
  deviation[channel] = static_cast<float>(sqrt(raw));
  dead[channel] = shift == 0.0 && sums[1] == 0.0 ? 1.0f : 0.0f;
  off = sums[2] / n;
  variance[channel] = static_cast<float>(unit != 0 ? not_negative(sums[3] / n - off * off) : raw);
}

// Sums over each slab of the differences of both views from their first slots, and of their product. partial
// is (3, slabs, channels); grid (tiles of channels, slabs).
KERNEL(bank_products)(const float* first_view, const float* second_view, double* partial, int len, int slab,
                      int channels) {
  int channel = static_cast<int>(blockIdx.x * WARP + threadIdx.x % WARP), line = static_cast<int>(threadIdx.x) / WARP;
  bool active = channel < channels;
  int first = static_cast<int>(blockIdx.y) * slab, last = first + slab < len ? first + slab : len;
  double sums[3] = {};
  if (active) {
    double shift_a = first_view[channel], shift_b = second_view[channel];
    for (int row = first + line; row < last; row += LINES) {
      i64 at = static_cast<i64>(row) * channels + channel;
      double a = first_view[at] - shift_a, b = second_view[at] - shift_b;
      sums[0] += a;
      sums[1] += b;
      sums[2] += a * b;
    }
  }
  i64 at = static_cast<i64>(blockIdx.y) * channels + channel, all = static_cast<i64>(gridDim.y) * channels;
#pragma unroll
  for (int i = 0; i < 3; i++) {
    double sum = lines_sum(sums[i]);
    if (line == 0 && active) partial[i * all + at] = sum;
  }
}

// Covariance of the two views of each channel over the square of its mean, 0 where that is 0. One thread a
// channel.
KERNEL(bank_between)(const double* partial, const float* first_view, const float* second_view, float* between,
                     int len, int slabs, int channels) {
  i64 channel = thread_index();
  if (channel >= channels) return;
  i64 all = static_cast<i64>(slabs) * channels;
  double sums[3] = {};
  for (int slab = 0; slab < slabs; slab++) {
#pragma unroll
    for (int i = 0; i < 3; i++) sums[i] += partial[i * all + static_cast<i64>(slab) * channels + channel];
  }
  double n = len, a = sums[0] / n, b = sums[1] / n;
  double mean = ((first_view[channel] + a) + (second_view[channel] + b)) / 2.0;
  between[channel] = mean == 0.0 ? 0.0f : static_cast<float>((sums[2] / n - a * b) / (mean * mean));
}
