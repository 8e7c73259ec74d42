// GELU, y = x P(x) with the normal distribution's P (arXiv:1606.08415), and its gradient.
#include "common.cuh"

// P(-t) (t + 2.5) exp(t^2 / 2) as a polynomial in u = (t - 2.5) / (t + 2.5), lowest power first: fitted for
// the CPU's kernel, which has the same one. Both directions need one exponential.
struct Distribution {
  float below, density;  // P(x), exp(-x^2 / 2)
};
// Both tails keep their relative accuracy: 1 + erf would lose the left one.
DEVICE Distribution distribution(float x) {
  constexpr float tail_of[10] = {0.70665663f,     -0.433692f,     0.13198714f,    0.009235876f,   -0.016387694f,
                                 -0.0016013295f, 0.002528426f,   0.00068693666f, -0.0003158517f, -0.00016081505f};
  float t = fabsf(x);
  // exp(-15^2 / 2) is zero, and infinity would make u no number.
  t = t > 15.0f ? 15.0f : t;
  float density = expf(-0.5f * t * t);
  float inverse = 1.0f / (t + 2.5f), u = (t - 2.5f) * inverse, sum = tail_of[9];
#pragma unroll
  for (int i = 8; i >= 0; i--) sum = sum * u + tail_of[i];
  float tail = sum * inverse * density;
  return {x < 0.0f ? tail : 1.0f - tail, density};
}

DEVICE float value(float x) { return x * distribution(x).below; }
DEVICE float slope(float x) {
  Distribution d = distribution(x);
  return d.below + x * d.density * 0.3989423f;  // 1 / sqrt(2 pi)
}

// y = x P(x). A thread takes a pack; the last one, what is left.
KERNEL(gelu)(const Real* x, Real* y, i64 count) {
  constexpr int V = Pack<Real>::size;
  i64 at = thread_index();
  if ((at + 1) * V <= count) {
    Lanes<Real> v = load_pack(x, at);
#pragma unroll
    for (int i = 0; i < V; i++) v.v[i] = value(v.v[i]);
    store_pack(y, at, v);
  } else {
    for (i64 i = at * V; i < count; i++) store(y, i, value(load(x, i)));
  }
}

// dx = dy (P(x) + x p(x)); dx may be dy. A thread takes a pack; the last one, what is left.
KERNEL(gelu_backward)(const Real* dy, const Real* x, Real* dx, i64 count) {
  constexpr int V = Pack<Real>::size;
  i64 at = thread_index();
  if ((at + 1) * V <= count) {
    Lanes<Real> g = load_pack(dy, at), v = load_pack(x, at);
#pragma unroll
    for (int i = 0; i < V; i++) g.v[i] *= slope(v.v[i]);
    store_pack(dx, at, g);
  } else {
    for (i64 i = at * V; i < count; i++) store(dx, i, load(dy, i) * slope(load(x, i)));
  }
}
