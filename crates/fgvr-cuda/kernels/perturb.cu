// Moves the masked channels of features, rows (N, C) or a channels-last map (N, places, C).
//
// In f64, as on the CPU: features are few, and the chance that decides (normals, partners) is drawn on the
// host from the same keys, so that CPU and GPU perturb alike. A thread keeps its channel and walks the
// places, some of them at once (the output is not the input); a warp reads 32 channels of a place, 128 bytes.
#include "sort.cuh"

DEVICE float no_number() { return __uint_as_float(0x7fc00000u); }

// The noise's standard deviation of each channel: scale times sigma, which is no less than the median over
// channels if `floored`. A sigma below zero gives no number. `size` is the power of two from `channels` on.
// One block.
KERNEL(perturb_steps)(const float* sigma, double* steps, int channels, int size, double scale, int floored) {
  DYNAMIC_SHARED(u64, keys);
  u32* items = reinterpret_cast<u32*>(keys + size);
  double least = 0.0;
  if (floored != 0) {
    for (int channel = static_cast<int>(threadIdx.x); channel < size; channel += THREADS) {
      keys[channel] = channel < channels ? ordered(sigma[channel]) : LAST_KEY;
      items[channel] = static_cast<u32>(channel);
    }
    sort_pairs(keys, items, size, [](u32 a, u32 b) { return a < b; });
    int half = channels / 2;
    least = sigma[items[half]];
    if (channels % 2 == 0) least = (sigma[items[half - 1]] + least) / 2.0;
  }
  for (int channel = static_cast<int>(threadIdx.x); channel < channels; channel += THREADS) {
    double own = sigma[channel];
    // Written so that what is no number passes.
    steps[channel] = own < 0.0 ? no_number() : scale * (own < least ? least : own);
  }
}

// h where the mask is 0, bit for bit; where it is 1, max(lowest, h + step * eps), eps one draw for all places
// of a channel. With `least` above 0, |eps| is raised to it, and the noise is added rather than subtracted
// where the maximum leaves less of a change (mean over places). Grid (tiles of channels, images).
KERNEL(perturb_gaussian)(const float* __restrict__ features, const float* mask, const double* steps,
                         const double* noise, float* __restrict__ out, int places, int channels, double least,
                         double lowest) {
  int channel = static_cast<int>(thread_index());
  if (channel >= channels) return;
  i64 of_image = static_cast<i64>(blockIdx.y) * channels + channel;
  i64 first = static_cast<i64>(blockIdx.y) * places * channels + channel;
  float masked = mask[of_image];
  if (masked == 0.0f) {
#pragma unroll 4
    for (int place = 0; place < places; place++) {
      i64 at = first + static_cast<i64>(place) * channels;
      out[at] = features[at];
    }
    return;
  }
  double step = masked == 1.0f ? steps[channel] : no_number(), eps = noise[of_image];
  auto moved = [&](float value, double change) {
    double v = value + change;
    return v < lowest ? lowest : v;
  };
  if (least > 0.0) {
    if (fabs(eps) < least) eps = copysign(least, eps);
    double change = __dmul_rn(step, eps), sum = 0.0;
    for (int place = 0; place < places; place++) {
      float value = features[first + static_cast<i64>(place) * channels];
      sum += fabs(moved(value, change) - value);
    }
    // Not by the last bits of a sum.
    if (sum / places < least * step * (1.0 - 1e-6)) eps = fabs(eps);
  }
  double change = __dmul_rn(step, eps);
#pragma unroll 4
  for (int place = 0; place < places; place++) {
    i64 at = first + static_cast<i64>(place) * channels;
    out[at] = static_cast<float>(moved(features[at], change));
  }
}

// h where the mask is 0, bit for bit; where it is 1, max(lowest, the partner's), all places of a channel from
// one other image. A partner that is none gives no number. Grid (tiles of channels, images).
KERNEL(perturb_swap)(const float* __restrict__ features, const float* mask, const u32* partners,
                     float* __restrict__ out, int places, int channels, float lowest) {
  int channel = static_cast<int>(thread_index());
  if (channel >= channels) return;
  i64 of_image = static_cast<i64>(blockIdx.y) * channels + channel;
  float masked = mask[of_image];
  i64 first = static_cast<i64>(blockIdx.y) * places * channels + channel;
  i64 other = static_cast<i64>(partners[blockIdx.y]) * places * channels + channel;
  bool valid = masked == 1.0f && partners[blockIdx.y] < gridDim.y;
#pragma unroll 4
  for (int place = 0; place < places; place++) {
    i64 at = static_cast<i64>(place) * channels;
    float v;
    if (masked == 0.0f) {
      v = features[first + at];
    } else {
      v = valid ? features[other + at] : no_number();
      v = v < lowest ? lowest : v;
    }
    out[first + at] = v;
  }
}
