// Batch norm over rows of channels: y = (x - mean) * scale + shift, with a residual and an activation,
// and its gradients. Rows are N*H*W of a channels-last map, in equal groups that have statistics of their own.
// Threads are laid out as columns.cuh says.
#include "columns.cuh"

// ---- statistics ----

// Mean and sum of squared deviations of some values; count may be 0.
struct Moments {
  float count, mean, m2;
};

// Chan's update; the order of the two matters to the last bit only.
DEVICE Moments merge(Moments a, Moments b) {
  if (b.count == 0.0f) return a;
  if (a.count == 0.0f) return b;
  float count = a.count + b.count, delta = b.mean - a.mean, share = b.count / count;
  return {count, a.mean + delta * share, a.m2 + b.m2 + delta * delta * a.count * share};
}

// partial is (3, groups, slabs, channels): count, mean and m2 of each slab.
template <int V>
DEVICE void moments(const Real* x, float* partial, i64 rows, i64 slab, int channels, int columns) {
  SHARED(Moments, room, THREADS * V);
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  Moments own[V];
#pragma unroll
  for (int i = 0; i < V; i++) own[i] = {0.0f, 0.0f, 0.0f};
  if (t.active && t.first < t.last) {
    // Differences from the first row: a mean far from zero costs no accuracy.
    Values<V> pivot = read<V>(x, t.first * vectors + t.column);
    float sum[V] = {}, square[V] = {};
    float count = 0.0f;
    for (i64 row = t.first; row < t.last; row += t.step) {
      Values<V> v = read<V>(x, row * vectors + t.column);
#pragma unroll
      for (int i = 0; i < V; i++) {
        float d = v.v[i] - pivot.v[i];
        sum[i] += d;
        square[i] += d * d;
      }
      count += 1.0f;
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
      float mean = sum[i] / count, m2 = square[i] - sum[i] * mean;
      // Rounding may leave a sum of squares below zero; what is no number stays none.
      own[i] = {count, pivot.v[i] + mean, m2 < 0.0f ? 0.0f : m2};
    }
  }
#pragma unroll
  for (int i = 0; i < V; i++) room[threadIdx.x * V + i] = own[i];
  __syncthreads();
  if (t.line != 0 || !t.active) return;
  i64 all = static_cast<i64>(gridDim.z) * gridDim.y * channels;
  i64 at = (static_cast<i64>(blockIdx.z) * gridDim.y + blockIdx.y) * channels + static_cast<i64>(t.column) * V;
  for (int i = 0; i < V; i++) {
    Moments sum = own[i];
    for (int line = 1; line < t.step; line++) sum = merge(sum, room[(threadIdx.x + line * columns) * V + i]);
    partial[at + i] = sum.count;
    partial[all + at + i] = sum.mean;
    partial[2 * all + at + i] = sum.m2;
  }
}

// Count, mean and squared deviations of each channel over each slab of rows. Vectors of channels.
KERNEL(norm_moments)(const Real* x, float* partial, i64 rows, i64 slab, int channels, int columns) {
  moments<VECTOR>(x, partial, rows, slab, channels, columns);
}

// As norm_moments, for any number of channels.
KERNEL(norm_moments_any)(const Real* x, float* partial, i64 rows, i64 slab, int channels, int columns) {
  moments<1>(x, partial, rows, slab, channels, columns);
}

// Mean, variance, inverse deviation and scale of each channel from the moments of slabs. One warp a
// channel; grid (warps of channels, groups).
KERNEL(norm_statistics)(const float* partial, const float* weight, float* mean, float* variance, float* inverse,
                        float* scale, int slabs, int channels, double eps) {
  int channel = static_cast<int>(blockIdx.x) * (THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP;
  int lane = static_cast<int>(threadIdx.x) % WARP, group = static_cast<int>(blockIdx.y);
  if (channel >= channels) return;  // whole warps
  i64 all = static_cast<i64>(gridDim.y) * slabs * channels;
  double count = 0.0, center = 0.0, m2 = 0.0;
  auto add = [&](double n, double m, double s) {
    if (n == 0.0) return;
    double both = count + n, delta = m - center;
    center += delta * (n / both);
    m2 += s + delta * delta * (count * n / both);
    count = both;
  };
  for (int slab = lane; slab < slabs; slab += WARP) {
    i64 at = (static_cast<i64>(group) * slabs + slab) * channels + channel;
    add(partial[at], partial[all + at], partial[2 * all + at]);
  }
  for (int step = WARP / 2; step > 0; step /= 2) {
    double n = __shfl_down_sync(0xffffffffu, count, step);
    double m = __shfl_down_sync(0xffffffffu, center, step);
    double s = __shfl_down_sync(0xffffffffu, m2, step);
    if (lane < step) add(n, m, s);
  }
  if (lane != 0) return;
  double v = m2 / count, inv = rsqrt(v + eps);
  int at = group * channels + channel;
  mean[at] = static_cast<float>(center);
  variance[at] = static_cast<float>(v);
  inverse[at] = static_cast<float>(inv);
  scale[at] = static_cast<float>(inv * weight[channel]);
}

// Inverse deviation and scale of each channel from a variance that is a constant.
KERNEL(norm_constant)(const float* variance, const float* weight, float* inverse, float* scale, int channels,
                      double eps) {
  i64 channel = thread_index();
  if (channel >= channels) return;
  double inv = rsqrt(static_cast<double>(variance[channel]) + eps);
  inverse[channel] = static_cast<float>(inv);
  scale[channel] = static_cast<float>(inv * weight[channel]);
}

// The running statistics move towards the mean over groups of the batch's; variance without bias.
KERNEL(norm_running)(const float* mean, const float* variance, float* running_mean, float* running_variance,
                     int groups, int channels, float momentum, float unbias) {
  i64 channel = thread_index();
  if (channel >= channels) return;
  float m = 0.0f, v = 0.0f;
  for (int group = 0; group < groups; group++) {
    m += mean[static_cast<i64>(group) * channels + channel];
    v += variance[static_cast<i64>(group) * channels + channel];
  }
  m /= static_cast<float>(groups);
  v *= unbias / static_cast<float>(groups);
  running_mean[channel] = (1.0f - momentum) * running_mean[channel] + momentum * m;
  running_variance[channel] = (1.0f - momentum) * running_variance[channel] + momentum * v;
}

// ---- forward ----

// What becomes of a channel: (x - mean) * scale + shift.
template <int V>
struct Affine {
  Values<V> mean, scale, shift;
};
template <int V>
DEVICE Affine<V> affine(const float* mean, const float* scale, const float* shift, int vectors, int column) {
  i64 at = static_cast<i64>(blockIdx.z) * vectors + column;
  return {read<V>(mean, at), read<V>(scale, at), read<V>(shift, column)};
}

template <int V>
DEVICE void apply(const Real* x, const float* mean, const float* scale, const float* shift, const Real* residual,
                  const float* other_mean, const float* other_scale, const float* other_shift, Real* y, i64 rows,
                  i64 slab, int channels, int columns, int activation) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  Affine<V> a = affine<V>(mean, scale, shift, vectors, t.column), b = a;
  if (other_mean != nullptr) b = affine<V>(other_mean, other_scale, other_shift, vectors, t.column);
  for (i64 row = t.first; row < t.last; row += t.step) {
    i64 at = row * vectors + t.column;
    Values<V> v = read<V>(x, at), r = {};
    if (residual != nullptr) r = read<V>(residual, at);
#pragma unroll
    for (int i = 0; i < V; i++) {
      float out = (v.v[i] - a.mean.v[i]) * a.scale.v[i] + a.shift.v[i];
      if (other_mean != nullptr) {
        out += (r.v[i] - b.mean.v[i]) * b.scale.v[i] + b.shift.v[i];
      } else {
        out += r.v[i];
      }
      v.v[i] = activated(out, activation);
    }
    write<V>(y, at, v);
  }
}

// y = norm(x), plus a residual or its norm, then its activation. Vectors of channels.
KERNEL(norm_apply)(const Real* x, const float* mean, const float* scale, const float* shift, const Real* residual,
                   const float* other_mean, const float* other_scale, const float* other_shift, Real* y, i64 rows,
                   i64 slab, int channels, int columns, int activation) {
  apply<VECTOR>(x, mean, scale, shift, residual, other_mean, other_scale, other_shift, y, rows, slab, channels,
                columns, activation);
}

// As norm_apply, for any number of channels.
KERNEL(norm_apply_any)(const Real* x, const float* mean, const float* scale, const float* shift, const Real* residual,
                       const float* other_mean, const float* other_scale, const float* other_shift, Real* y, i64 rows,
                       i64 slab, int channels, int columns, int activation) {
  apply<1>(x, mean, scale, shift, residual, other_mean, other_scale, other_shift, y, rows, slab, channels, columns,
           activation);
}

// ---- backward ----

// How what follows the norm masks the gradient: an activation of it, by the norm's output recomputed from x;
// or a ReLU after a residual, by the output y.
enum Mask { BY_OUTPUT = 3 };

template <int V>
DEVICE Values<V> masked(Values<V> g, const Values<V>& x, const Affine<V>& a, int mask, const Real* y, i64 at) {
  if (mask == BY_OUTPUT) {
    Values<V> out = read<V>(y, at);
#pragma unroll
    for (int i = 0; i < V; i++)
      if (out.v[i] <= 0.0f) g.v[i] = 0.0f;
  } else if (mask != IDENTITY) {
#pragma unroll
    for (int i = 0; i < V; i++)
      if (cut_off((x.v[i] - a.mean.v[i]) * a.scale.v[i] + a.shift.v[i], mask)) g.v[i] = 0.0f;
  }
  return g;
}

// partial is (2, groups, slabs, channels): sums of g and of g * (x - mean) of each slab.
template <int V>
DEVICE void grad_sums(const Real* dy, const Real* x, const float* mean, const float* scale, const float* shift,
                      const Real* y, Real* masked_dy, float* partial, i64 rows, i64 slab, int channels, int columns,
                      int mask) {
  SHARED(float, room, 2 * THREADS * V);
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  float sum[V] = {}, product[V] = {};
  if (t.active) {
    Affine<V> a = affine<V>(mean, scale, shift, vectors, t.column);
    for (i64 row = t.first; row < t.last; row += t.step) {
      i64 at = row * vectors + t.column;
      Values<V> v = read<V>(x, at);
      Values<V> g = masked<V>(read<V>(dy, at), v, a, mask, y, at);
#pragma unroll
      for (int i = 0; i < V; i++) {
        sum[i] += g.v[i];
        product[i] += g.v[i] * (v.v[i] - a.mean.v[i]);
      }
      if (masked_dy != nullptr) write<V>(masked_dy, at, g);
    }
  }
#pragma unroll
  for (int i = 0; i < V; i++) {
    room[(threadIdx.x * V + i) * 2] = sum[i];
    room[(threadIdx.x * V + i) * 2 + 1] = product[i];
  }
  __syncthreads();
  if (t.line != 0 || !t.active) return;
  i64 all = static_cast<i64>(gridDim.z) * gridDim.y * channels;
  i64 at = (static_cast<i64>(blockIdx.z) * gridDim.y + blockIdx.y) * channels + static_cast<i64>(t.column) * V;
  for (int i = 0; i < V; i++) {
    for (int line = 1; line < t.step; line++) {
      sum[i] += room[((threadIdx.x + line * columns) * V + i) * 2];
      product[i] += room[((threadIdx.x + line * columns) * V + i) * 2 + 1];
    }
    partial[at + i] = sum[i];
    partial[all + at + i] = product[i];
  }
}

// The two sums per channel that batch norm's gradient needs, over each slab. Optionally writes the masked
// gradient. Vectors of channels.
KERNEL(norm_grad_sums)(const Real* dy, const Real* x, const float* mean, const float* scale, const float* shift,
                       const Real* y, Real* masked_dy, float* partial, i64 rows, i64 slab, int channels, int columns,
                       int mask) {
  grad_sums<VECTOR>(dy, x, mean, scale, shift, y, masked_dy, partial, rows, slab, channels, columns, mask);
}

// As norm_grad_sums, for any number of channels.
KERNEL(norm_grad_sums_any)(const Real* dy, const Real* x, const float* mean, const float* scale, const float* shift,
                           const Real* y, Real* masked_dy, float* partial, i64 rows, i64 slab, int channels,
                           int columns, int mask) {
  grad_sums<1>(dy, x, mean, scale, shift, y, masked_dy, partial, rows, slab, channels, columns, mask);
}

// Gradients of weight and bias, and what turns a gradient into that of x: its mean, and a slope in
// (x - mean). One warp a channel, over all groups. Without statistics of the batch both are 0.
KERNEL(norm_grad_finish)(const float* partial, const float* inverse, const float* scale, float* grad_weight,
                         float* grad_bias, float* mean_grad, float* slope, int groups, int slabs, int channels,
                         double rows, int of_batch) {
  int channel = static_cast<int>(blockIdx.x) * (THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP;
  int lane = static_cast<int>(threadIdx.x) % WARP;
  if (channel >= channels) return;  // whole warps
  i64 all = static_cast<i64>(groups) * slabs * channels;
  double weight = 0.0, bias = 0.0;
  for (int group = 0; group < groups; group++) {
    double sum = 0.0, product = 0.0;
    for (int slab = lane; slab < slabs; slab += WARP) {
      i64 at = (static_cast<i64>(group) * slabs + slab) * channels + channel;
      sum += partial[at];
      product += partial[all + at];
    }
    sum = warp_sum(sum);
    product = warp_sum(product);
    int at = group * channels + channel;
    double inv = inverse[at];
    bias += sum;
    weight += product * inv;
    if (lane == 0) {
      mean_grad[at] = of_batch != 0 ? static_cast<float>(sum / rows) : 0.0f;
      slope[at] = of_batch != 0 ? static_cast<float>(product / rows * inv * inv * scale[at]) : 0.0f;
    }
  }
  if (lane == 0) {
    grad_weight[channel] = static_cast<float>(weight);
    grad_bias[channel] = static_cast<float>(bias);
  }
}

template <int V>
DEVICE void grad_input(const Real* dy, const Real* x, const float* mean, const float* scale, const float* shift,
                       const float* mean_grad, const float* slope, Real* dx, i64 rows, i64 slab, int channels,
                       int columns, int mask) {
  int vectors = channels / V;
  Tile t = tile(rows, slab, columns, vectors);
  if (!t.active) return;
  Affine<V> a = affine<V>(mean, scale, shift, vectors, t.column);
  i64 of_group = static_cast<i64>(blockIdx.z) * vectors + t.column;
  Values<V> g_mean = read<V>(mean_grad, of_group), b = read<V>(slope, of_group);
  for (i64 row = t.first; row < t.last; row += t.step) {
    i64 at = row * vectors + t.column;
    Values<V> v = read<V>(x, at);
    Values<V> g = masked<V>(read<V>(dy, at), v, a, mask, nullptr, at);
#pragma unroll
    for (int i = 0; i < V; i++)
      g.v[i] = (g.v[i] - g_mean.v[i]) * a.scale.v[i] - (v.v[i] - a.mean.v[i]) * b.v[i];
    write<V>(dx, at, g);
  }
}

// The gradient of x: (g - mean_grad) * scale - (x - mean) * slope; dx may be dy. Vectors of channels.
KERNEL(norm_grad_input)(const Real* dy, const Real* x, const float* mean, const float* scale, const float* shift,
                        const float* mean_grad, const float* slope, Real* dx, i64 rows, i64 slab, int channels,
                        int columns, int mask) {
  grad_input<VECTOR>(dy, x, mean, scale, shift, mean_grad, slope, dx, rows, slab, channels, columns, mask);
}

// As norm_grad_input, for any number of channels.
KERNEL(norm_grad_input_any)(const Real* dy, const Real* x, const float* mean, const float* scale, const float* shift,
                            const float* mean_grad, const float* slope, Real* dx, i64 rows, i64 slab, int channels,
                            int columns, int mask) {
  grad_input<1>(dy, x, mean, scale, shift, mean_grad, slope, dx, rows, slab, channels, columns, mask);
}
