// Grad-CAM: how much a pooled channel matters to a loss, and a map of the places that do.
//
// A map is channels-last, (N, places, C), or by planes, (N, C, places); in each, the lanes of a warp read
// what lies side by side.
#include "common.cuh"

#define LINES (THREADS / WARP)

enum Kind { GRADIENT_TIMES_FEATURE = 0, CENTRED = 1, GRADIENT = 2, EVIDENCE = 3 };

// What is not above zero is 0; what is no number stays none.
DEVICE float rectified(float v) { return v <= 0.0f ? 0.0f : v; }

DEVICE float matters(float h, float g, float mean, int kind) {
  if (kind == EVIDENCE) return rectified(-(h * g));
  if (kind == GRADIENT) return fabsf(g);
  return fabsf((kind == CENTRED ? h - mean : h) * g);
}

// Importance of each channel of each row, all values at least 0, from the feature h, the gradient g and, for
// the centred kind, the mean over a bank. Packs of channels; grid (tiles of packs, rows).
KERNEL(importance)(const float* features, const float* grad, const float* mean, float* out, int channels, int kind) {
  int packs = channels / Pack<float>::size, pack = static_cast<int>(thread_index());
  if (pack >= packs) return;
  i64 at = static_cast<i64>(blockIdx.y) * packs + pack;
  Lanes<float> h = load_pack(features, at), g = load_pack(grad, at), m = {};
  if (kind == CENTRED) m = load_pack(mean, pack);
#pragma unroll
  for (int i = 0; i < Pack<float>::size; i++) h.v[i] = matters(h.v[i], g.v[i], m.v[i], kind);
  store_pack(out, at, h);
}

// As importance, for any number of channels.
KERNEL(importance_any)(const float* features, const float* grad, const float* mean, float* out, int channels,
                       int kind) {
  int channel = static_cast<int>(thread_index());
  if (channel >= channels) return;
  i64 at = static_cast<i64>(blockIdx.y) * channels + channel;
  out[at] = matters(features[at], grad[at], kind == CENTRED ? mean[channel] : 0.0f, kind);
}

// The sum over a block's lines in each lane of line 0.
DEVICE float lines_sum(float v) {
  SHARED(float, room, THREADS);
  room[threadIdx.x] = v;
  __syncthreads();
  if (threadIdx.x < WARP)
    for (int line = 1; line < LINES; line++) v += room[line * WARP + threadIdx.x];
  return v;
}

// The weight of each channel, its mean gradient over places times `scale`, of a channels-last gradient. Grid
// (tiles of 32 channels, images).
KERNEL(cam_weights)(const float* grad, float* weights, int places, int channels, float scale) {
  int channel = static_cast<int>(blockIdx.x * WARP + threadIdx.x % WARP), line = static_cast<int>(threadIdx.x) / WARP;
  float sum = 0.0f;
  if (channel < channels) {
    const float* from = grad + static_cast<i64>(blockIdx.y) * places * channels + channel;
    for (int place = line; place < places; place += LINES) sum += from[static_cast<i64>(place) * channels];
  }
  sum = lines_sum(sum);
  if (line == 0 && channel < channels) weights[static_cast<i64>(blockIdx.y) * channels + channel] = sum * scale;
}

// As cam_weights, by planes. One warp a channel; grid (channels / 8, images).
KERNEL(cam_weights_planes)(const float* grad, float* weights, int places, int channels, float scale) {
  int channel = static_cast<int>(blockIdx.x * LINES + threadIdx.x / WARP), lane = static_cast<int>(threadIdx.x) % WARP;
  if (channel >= channels) return;  // whole warps
  i64 at = static_cast<i64>(blockIdx.y) * channels + channel;
  float sum = 0.0f;
  for (int place = lane; place < places; place += WARP) sum += grad[at * places + place];
  sum = warp_sum(sum);
  if (lane == 0) weights[at] = sum * scale;
}

// The rectified sum of the channels of each place, each times its weight, of a channels-last map. One warp a
// place; grid (places / 8, images).
KERNEL(cam_places)(const float* map, const float* weights, float* cam, int places, int channels) {
  int place = static_cast<int>(blockIdx.x * LINES + threadIdx.x / WARP), lane = static_cast<int>(threadIdx.x) % WARP;
  if (place >= places) return;  // whole warps
  i64 at = static_cast<i64>(blockIdx.y) * places + place;
  const float* own = weights + static_cast<i64>(blockIdx.y) * channels;
  float sum = 0.0f;
  for (int channel = lane; channel < channels; channel += WARP) sum += own[channel] * map[at * channels + channel];
  sum = warp_sum(sum);
  if (lane == 0) cam[at] = rectified(sum);
}

// As cam_places, by planes. Grid (tiles of 32 places, images).
KERNEL(cam_places_planes)(const float* map, const float* weights, float* cam, int places, int channels) {
  int place = static_cast<int>(blockIdx.x * WARP + threadIdx.x % WARP), line = static_cast<int>(threadIdx.x) / WARP;
  const float* own = weights + static_cast<i64>(blockIdx.y) * channels;
  float sum = 0.0f;
  if (place < places) {
    const float* from = map + static_cast<i64>(blockIdx.y) * channels * places + place;
    for (int channel = line; channel < channels; channel += LINES)
      sum += own[channel] * from[static_cast<i64>(channel) * places];
  }
  sum = lines_sum(sum);
  if (line == 0 && place < places) cam[static_cast<i64>(blockIdx.y) * places + place] = rectified(sum);
}
