// Layer norm over rows of channels: y = (x - mean) * inverse * weight + bias with the row's own mean and
// inverse deviation, and its gradients.
//
// Rows of up to 1024 channels, those of vision transformers among them, are held by a warp each: what is
// read once serves the mean, the deviations from it and the result. Longer and odd rows take a block.
#include "rows.cuh"

DEVICE float inverse_deviation(float square, float rest, int channels, double eps) {
  double n = channels, off = rest / n, variance = square / n - off * off;
  // Rounding may leave a negative zero variance; what is no number stays none.
  return static_cast<float>(rsqrt((variance < 0.0 ? 0.0 : variance) + eps));
}

// Layer norm of rows of up to 1024 channels that fill packs, with mean and inverse deviation of each. One warp a row.
KERNEL(layer_norm)(const Real* x, const float* weight, const float* bias, Real* y, float* mean, float* inverse,
                   i64 rows, int channels, double eps) {
  constexpr int V = VECTOR;
  i64 row = static_cast<i64>(blockIdx.x) * WARPS + warp_index();
  if (row >= rows) return;  // whole warps
  int vectors = channels / V;
  Held<V> held;
  hold<V>(held, x, row, vectors);
  // Differences from the row's first value: a mean far from zero costs no accuracy.
  float pivot = __shfl_sync(0xffffffffu, held.part[0].v[0], 0);
  float sum = 0.0f;
  each_held<V>(vectors, [&](int part, int) {
#pragma unroll
    for (int i = 0; i < V; i++) sum += held.part[part].v[i] - pivot;
  });
  float m = pivot + warp_sum(sum) / static_cast<float>(channels);
  float rest = 0.0f, square = 0.0f;
  each_held<V>(vectors, [&](int part, int) {
#pragma unroll
    for (int i = 0; i < V; i++) {
      float d = held.part[part].v[i] - m;
      held.part[part].v[i] = d;
      rest += d;
      square += d * d;
    }
  });
  float inv = inverse_deviation(warp_sum(square), warp_sum(rest), channels, eps);
  if (lane_index() == 0) {
    mean[row] = m;
    inverse[row] = inv;
  }
  each_held<V>(vectors, [&](int part, int vector) {
    Values<V> w = read<V>(weight, vector), b = read<V>(bias, vector), out;
#pragma unroll
    for (int i = 0; i < V; i++) out.v[i] = held.part[part].v[i] * inv * w.v[i] + b.v[i];
    write<V>(y, row * vectors + vector, out);
  });
}

template <int V>
DEVICE void forward_long(const Real* x, const float* weight, const float* bias, Real* y, float* mean, float* inverse,
                         int channels, double eps) {
  i64 row = blockIdx.x;
  int vectors = channels / V;
  float pivot = load(x, row * channels), sum = 0.0f;
  each_walked<V>(vectors, [&](int vector) {
    Values<V> v = read<V>(x, row * vectors + vector);
#pragma unroll
    for (int i = 0; i < V; i++) sum += v.v[i] - pivot;
  });
  float m = pivot + block_sum(sum) / static_cast<float>(channels);
  float rest = 0.0f, square = 0.0f;
  each_walked<V>(vectors, [&](int vector) {
    Values<V> v = read<V>(x, row * vectors + vector);
#pragma unroll
    for (int i = 0; i < V; i++) {
      float d = v.v[i] - m;
      rest += d;
      square += d * d;
    }
  });
  square = block_sum(square);
  float inv = inverse_deviation(square, block_sum(rest), channels, eps);
  if (threadIdx.x == 0) {
    mean[row] = m;
    inverse[row] = inv;
  }
  each_walked<V>(vectors, [&](int vector) {
    Values<V> v = read<V>(x, row * vectors + vector), w = read<V>(weight, vector), b = read<V>(bias, vector);
#pragma unroll
    for (int i = 0; i < V; i++) v.v[i] = (v.v[i] - m) * inv * w.v[i] + b.v[i];
    write<V>(y, row * vectors + vector, v);
  });
}

// As layer_norm, for rows of any length. One block a row.
KERNEL(layer_norm_long)(const Real* x, const float* weight, const float* bias, Real* y, float* mean, float* inverse,
                        i64 rows, int channels, double eps) {
  if (channels % VECTOR == 0) {
    forward_long<VECTOR>(x, weight, bias, y, mean, inverse, channels, eps);
  } else {
    forward_long<1>(x, weight, bias, y, mean, inverse, channels, eps);
  }
}

// ---- backward: g = dy weight, h = (x - mean) inverse, dx = (g - mean(g) - h mean(g h)) inverse ----

// Gradient of x, and sums over slabs of rows for those of weight and bias. Rows of up to 1024 channels that
// fill packs. Each warp walks rows of its block's slab and keeps sums over them of its channels, so that dy
// and x are read once for all three gradients; dx may be dy. partial is (2, slabs, channels): of weight, of
// bias.
KERNEL(layer_norm_backward)(const Real* dy, const Real* x, const float* weight, const float* mean,
                            const float* inverse, Real* dx, float* partial, i64 rows, i64 slab, int channels) {
  constexpr int V = VECTOR;
  SHARED(float, room, WARP * HELD * 2);
  int vectors = channels / V;
  Held<V> of_weight = {}, of_bias = {};
  i64 first = static_cast<i64>(blockIdx.x) * slab, last = first + slab < rows ? first + slab : rows;
  for (i64 row = first + warp_index(); row < last; row += WARPS) {
    float m = mean[row], inv = inverse[row], sum = 0.0f, product = 0.0f;
    Held<V> g, h;
    hold<V>(g, dy, row, vectors);
    hold<V>(h, x, row, vectors);
    each_held<V>(vectors, [&](int part, int vector) {
      Values<V> w = read<V>(weight, vector);
#pragma unroll
      for (int i = 0; i < V; i++) {
        float d = g.part[part].v[i], hat = (h.part[part].v[i] - m) * inv;
        of_weight.part[part].v[i] += d * hat;
        of_bias.part[part].v[i] += d;
        d *= w.v[i];
        sum += d;
        product += d * hat;
        g.part[part].v[i] = d;
        h.part[part].v[i] = hat;
      }
    });
    float average = warp_sum(sum) / static_cast<float>(channels);
    float slope = warp_sum(product) / static_cast<float>(channels);
    each_held<V>(vectors, [&](int part, int vector) {
      Values<V> out;
#pragma unroll
      for (int i = 0; i < V; i++) out.v[i] = (g.part[part].v[i] - average - h.part[part].v[i] * slope) * inv;
      write<V>(dx, row * vectors + vector, out);
    });
  }
  // The warps add theirs one after the other, in their order.
  for (int turn = 0; turn < WARPS; turn++) {
    if (warp_index() == turn) {
      each_held<V>(vectors, [&](int part, int) {
#pragma unroll
        for (int i = 0; i < V; i++) {
          int at = (part * V + i) * WARP + lane_index();  // neighbours in neighbouring banks
          float before[2] = {0.0f, 0.0f};
          if (turn > 0) {
            before[0] = room[at];
            before[1] = room[WARP * HELD + at];
          }
          room[at] = before[0] + of_weight.part[part].v[i];
          room[WARP * HELD + at] = before[1] + of_bias.part[part].v[i];
        }
      });
    }
    __syncthreads();
  }
  i64 all = static_cast<i64>(gridDim.x) * channels, to = static_cast<i64>(blockIdx.x) * channels;
  for (int channel = static_cast<int>(threadIdx.x); channel < channels; channel += THREADS) {
    int vector = channel / V, at = (vector / WARP * V + channel % V) * WARP + vector % WARP;
    partial[to + channel] = room[at];
    partial[all + to + channel] = room[WARP * HELD + at];
  }
}

template <int V>
DEVICE void grad_input_long(const Real* dy, const Real* x, const float* weight, const float* mean,
                            const float* inverse, Real* dx, int channels) {
  i64 row = blockIdx.x;
  int vectors = channels / V;
  float m = mean[row], inv = inverse[row], sum = 0.0f, product = 0.0f;
  each_walked<V>(vectors, [&](int vector) {
    Values<V> g = read<V>(dy, row * vectors + vector), v = read<V>(x, row * vectors + vector);
    Values<V> w = read<V>(weight, vector);
#pragma unroll
    for (int i = 0; i < V; i++) {
      sum += g.v[i] * w.v[i];
      product += g.v[i] * w.v[i] * ((v.v[i] - m) * inv);
    }
  });
  float average = block_sum(sum) / static_cast<float>(channels);
  float slope = block_sum(product) / static_cast<float>(channels);
  each_walked<V>(vectors, [&](int vector) {
    Values<V> g = read<V>(dy, row * vectors + vector), v = read<V>(x, row * vectors + vector);
    Values<V> w = read<V>(weight, vector);
#pragma unroll
    for (int i = 0; i < V; i++) v.v[i] = (g.v[i] * w.v[i] - average - (v.v[i] - m) * inv * slope) * inv;
    write<V>(dx, row * vectors + vector, v);
  });
}

// Gradient of x for rows of any length. One block a row; dx may be dy.
KERNEL(layer_norm_grad_input_long)(const Real* dy, const Real* x, const float* weight, const float* mean,
                                   const float* inverse, Real* dx, i64 rows, int channels) {
  if (channels % VECTOR == 0) {
    grad_input_long<VECTOR>(dy, x, weight, mean, inverse, dx, channels);
  } else {
    grad_input_long<1>(dy, x, weight, mean, inverse, dx, channels);
  }
}

// Sums over slabs of rows for the gradients of weight and bias. Rows of any length; a block is 32 channels
// across and 8 rows down.
KERNEL(layer_norm_grad_sums_long)(const Real* dy, const Real* x, const float* mean, const float* inverse,
                                  float* partial, i64 rows, i64 slab, int channels) {
  SHARED(float, room, 2 * THREADS);
  int channel = static_cast<int>(blockIdx.x) * WARP + lane_index();
  i64 first = static_cast<i64>(blockIdx.y) * slab, last = first + slab < rows ? first + slab : rows;
  float of_weight = 0.0f, of_bias = 0.0f;
  if (channel < channels) {
#pragma unroll 4
    for (i64 row = first + warp_index(); row < last; row += WARPS) {
      float g = load(dy, row * channels + channel);
      of_weight += g * ((load(x, row * channels + channel) - mean[row]) * inverse[row]);
      of_bias += g;
    }
  }
  room[threadIdx.x] = of_weight;
  room[THREADS + threadIdx.x] = of_bias;
  __syncthreads();
  if (warp_index() != 0 || channel >= channels) return;
  for (int line = 1; line < WARPS; line++) {
    of_weight += room[line * WARP + threadIdx.x];
    of_bias += room[THREADS + line * WARP + threadIdx.x];
  }
  i64 all = static_cast<i64>(gridDim.y) * channels, at = static_cast<i64>(blockIdx.y) * channels + channel;
  partial[at] = of_weight;
  partial[all + at] = of_bias;
}

// Gradients of weight and bias from their sums over slabs, in f64. A block is 32 channels across and 8
// slabs down.
KERNEL(layer_norm_grad_finish)(const float* partial, float* grad_weight, float* grad_bias, int slabs, int channels) {
  SHARED(double, room, 2 * THREADS);
  int channel = static_cast<int>(blockIdx.x) * WARP + lane_index();
  i64 all = static_cast<i64>(slabs) * channels;
  double of_weight = 0.0, of_bias = 0.0;
  if (channel < channels) {
    for (int slab = warp_index(); slab < slabs; slab += WARPS) {
      i64 at = static_cast<i64>(slab) * channels + channel;
      of_weight += partial[at];
      of_bias += partial[all + at];
    }
  }
  room[threadIdx.x] = of_weight;
  room[THREADS + threadIdx.x] = of_bias;
  __syncthreads();
  if (warp_index() != 0 || channel >= channels) return;
  for (int line = 1; line < WARPS; line++) {
    of_weight += room[line * WARP + threadIdx.x];
    of_bias += room[THREADS + line * WARP + threadIdx.x];
  }
  grad_weight[channel] = static_cast<float>(of_weight);
  grad_bias[channel] = static_cast<float>(of_bias);
}
