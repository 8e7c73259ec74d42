// Steps of the optimisers over all parameters in one launch, and the norm of all gradients together.
//
// A tensor's arrays are its value, its gradient and its moments. Each is read once and written once: an
// update is bound by memory, so nothing but the fusion matters. `factor` is one number in memory that
// gradients are multiplied by as they are read (null: 1), so that clipping costs no pass and no wait.
#include "tensors.cuh"

enum Option { DECAYS = 1, ADAPTS = 2 };
enum Array { VALUE = 1, GRADIENT = 2, FIRST = 4, SECOND = 8 };

DEVICE float factor_of(const float* factor) { return factor == nullptr ? 1.0f : factor[0]; }

DEVICE float decay_of(const Part& p, float decay) { return (p.options & DECAYS) != 0 ? decay : 0.0f; }

// SGD with momentum: v = momentum v + (g + decay p), p = p - lr v. One block a chunk.
KERNEL(sgd_step)(const Tensor* tensors, const u32* chunks, const float* factor, float lr, float momentum,
                 float decay) {
  Part p = part(tensors, chunks);
  float scale = factor_of(factor), own = decay_of(p, decay);
  each<VALUE | GRADIENT | FIRST, VALUE | FIRST>(p, [&](float* v) {
    v[2] = momentum * v[2] + (v[1] * scale + own * v[0]);
    v[0] -= lr * v[2];
  });
}

// AdamW: m and v follow g and g^2, p = keep p - rate m / (sqrt(v) / root + eps). The corrections of both
// moments' start are in rate and root.
KERNEL(adam_step)(const Tensor* tensors, const u32* chunks, const float* factor, float beta1, float beta2,
                  float rest1, float rest2, float eps, float keep, float rate, float root) {
  Part p = part(tensors, chunks);
  float scale = factor_of(factor), own = (p.options & DECAYS) != 0 ? keep : 1.0f;
  each<VALUE | GRADIENT | FIRST | SECOND, VALUE | FIRST | SECOND>(p, [&](float* v) {
    float g = v[1] * scale;
    v[2] = beta1 * v[2] + rest1 * g;
    v[3] = beta2 * v[3] + rest2 * (g * g);
    v[0] = own * v[0] - rate * v[2] / (sqrtf(v[3]) / root + eps);
  });
}

// Sums of p^2 and of (g + decay p)^2 of each chunk whose tensor adapts its rate. In f64: squares of small
// gradients are no floats. partial is (chunks, 2).
KERNEL(lars_squares)(const Tensor* tensors, const u32* chunks, const float* factor, double* partial, float decay) {
  Part p = part(tensors, chunks);
  if ((p.options & ADAPTS) == 0) return;  // the whole block
  float scale = factor_of(factor), own = decay_of(p, decay);
  double of_p = 0.0, of_d = 0.0;
  each<VALUE | GRADIENT, 0>(p, [&](float* v) {
    double value = v[0], d = v[1] * scale + own * v[0];
    of_p += value * value;
    of_d += d * d;
  });
  of_p = block_sum(of_p);
  of_d = block_sum(of_d);
  if (threadIdx.x == 0) {
    partial[2 * static_cast<i64>(blockIdx.x)] = of_p;
    partial[2 * static_cast<i64>(blockIdx.x) + 1] = of_d;
  }
}

// The rate of each tensor: trust |p| / |g + decay p|, or 1 where either is zero or it does not adapt. One
// warp a tensor.
KERNEL(lars_rates)(const Tensor* tensors, const double* partial, float* rates, int count, double trust) {
  int tensor = static_cast<int>(blockIdx.x) * (THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP;
  u32 lane = threadIdx.x % WARP;
  if (tensor >= count) return;  // whole warps
  const Tensor& t = tensors[tensor];
  double of_p = 0.0, of_d = 0.0;
  if ((t.options & ADAPTS) != 0) {
    for (u32 chunk = lane; chunk < t.chunks; chunk += WARP) {
      of_p += partial[2 * static_cast<i64>(t.first + chunk)];
      of_d += partial[2 * static_cast<i64>(t.first + chunk) + 1];
    }
  }
  of_p = warp_sum(of_p);
  of_d = warp_sum(of_d);
  if (lane == 0) rates[tensor] = of_p == 0.0 || of_d == 0.0 ? 1.0f : static_cast<float>(trust * sqrt(of_p / of_d));
}

// LARS: v = momentum v + rate (g + decay p), p = p - lr v. One block a chunk.
KERNEL(lars_step)(const Tensor* tensors, const u32* chunks, const float* factor, const float* rates, float lr,
                  float momentum, float decay) {
  Part p = part(tensors, chunks);
  float scale = factor_of(factor), own = decay_of(p, decay), rate = rates[p.tensor];
  each<VALUE | GRADIENT | FIRST, VALUE | FIRST>(p, [&](float* v) {
    v[2] = momentum * v[2] + (v[1] * scale + own * v[0]) * rate;
    v[0] -= lr * v[2];
  });
}

// The sum of squares of the gradient over each chunk, in f64.
KERNEL(gradient_squares)(const Tensor* tensors, const u32* chunks, double* partial) {
  Part p = part(tensors, chunks);
  double sum = 0.0;
  each<GRADIENT, 0>(p, [&](float* v) { sum += static_cast<double>(v[1]) * v[1]; });
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// The norm of all gradients together, and the factor that brings it to max: 1 where it is not above, or no
// number. One block.
KERNEL(gradient_norm)(const double* partial, double* norm, float* factor, int chunks, double max) {
  double sum = 0.0;
  for (int chunk = static_cast<int>(threadIdx.x); chunk < chunks; chunk += THREADS) sum += partial[chunk];
  sum = block_sum(sum);
  if (threadIdx.x != 0) return;
  double length = sqrt(sum);
  bool finite = length - length == 0.0;
  norm[0] = length;
  factor[0] = finite && length > max ? static_cast<float>(max / (length + 1e-6)) : 1.0f;
}

// Multiplies all gradients by the factor; reads and writes nothing where it is 1.
KERNEL(gradient_scale)(const Tensor* tensors, const u32* chunks, const float* factor) {
  float scale = factor[0];
  if (scale == 1.0f) return;
  Part p = part(tensors, chunks);
  each<GRADIENT, GRADIENT>(p, [&](float* v) { v[1] *= scale; });
}
