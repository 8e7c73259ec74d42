// Augmentation of images that a network made: out of their normalisation, cut off to [0, 1], colour jitter in
// the order drawn for each image, greys, left and right exchanged, and normalised again. The formulas are
// torchvision's on float tensors, as fgvr-data's.
//
// Images are (N, H, W, 3). A block takes a slab of an image's pixels, so that what was drawn is the same for all
// its threads. A thread takes VECTOR neighbours at a time: 3 packs, read and written whole. Contrast needs the
// image's mean luminance at its place in the order: a first pass applies what comes before it and sums, a second
// one applies all. Each reads the images once, the first only those that are jittered, and nothing is kept
// between them but a sum for each slab.
#include "values.cuh"

// As ops/augment.rs numbers them.
enum Adjustment { BRIGHTNESS = 0, CONTRAST = 1, SATURATION = 2, HUE = 3 };
enum Flag { JITTER = 1, GREYS = 2, FLIP = 4 };
// Words of an image's row in the table of draws: flags, four adjustments of 8 bits, their factors.
#define WORDS 6

// Mean and standard deviation of each channel, and what to multiply by instead of dividing.
struct Norm {
  float mean[3], std[3], inverse[3];
};
DEVICE Norm norm_of(float mean_r, float mean_g, float mean_b, float std_r, float std_g, float std_b) {
  return {{mean_r, mean_g, mean_b}, {std_r, std_g, std_b}, {1.0f / std_r, 1.0f / std_g, 1.0f / std_b}};
}

struct Draw {
  u32 flags, order;
  float factor[4];
};
DEVICE Draw drawn(const u32* draws, i64 image) {
  const u32* from = draws + image * WORDS;
  Draw d = {from[0], from[1], {}};
#pragma unroll
  for (int i = 0; i < 4; i++) d.factor[i] = __uint_as_float(from[2 + i]);
  return d;
}

struct Pixel {
  float r, g, b;
};

// Written so that what is no number passes.
DEVICE float unit(float v) { return v < 0.0f ? 0.0f : v > 1.0f ? 1.0f : v; }

// torchvision's weights, which add up to 0.9999.
DEVICE float luminance(Pixel p) { return 0.2989f * p.r + 0.587f * p.g + 0.114f * p.b; }

// p * factor + rest, cut off.
DEVICE Pixel blend(Pixel p, float factor, float rest) {
  return {unit(p.r * factor + rest), unit(p.g * factor + rest), unit(p.b * factor + rest)};
}

// f(n) = v - v s max(0, min(k, 4 - k, 1)), k = (n + hue) mod 6, with v s = range; hue in sixths of the circle.
DEVICE float hue_channel(float n, float hue, float high, float range) {
  float k = n + hue;
  k = k >= 6.0f ? k - 6.0f : k;
  float least = k < 4.0f - k ? k : 4.0f - k;
  return unit(high - range * unit(least));
}

// RGB to HSV, the hue turned by a share of the circle, and back.
DEVICE Pixel turned(Pixel p, float turn) {
  float high = fmaxf(fmaxf(p.r, p.g), p.b), low = fminf(fminf(p.r, p.g), p.b), range = high - low;
  // A grey has no hue: any divisor but 0 will do, as the range that multiplies later is 0.
  float share = 1.0f / (range == 0.0f ? 1.0f : range);
  float rc = (high - p.r) * share, gc = (high - p.g) * share, bc = (high - p.b) * share;
  float hue = high == p.r ? bc - gc : high == p.g ? 2.0f + rc - bc : 4.0f + gc - rc;
  hue += 6.0f * turn;
  hue = hue < 0.0f ? hue + 6.0f : hue;
  hue = hue >= 6.0f ? hue - 6.0f : hue;
  return {hue_channel(5.0f, hue, high, range), hue_channel(3.0f, hue, high, range),
          hue_channel(1.0f, hue, high, range)};
}

DEVICE Pixel adjusted(Pixel p, int what, float factor, float mean) {
  switch (what) {
    case BRIGHTNESS:
      return blend(p, factor, 0.0f);
    case CONTRAST:
      return blend(p, factor, (1.0f - factor) * mean);
    case SATURATION:
      return blend(p, factor, (1.0f - factor) * luminance(p));
    default:
      return turned(p, factor);
  }
}

DEVICE int adjustment(const Draw& d, int step) { return static_cast<int>(d.order >> (8 * step)) & 0xff; }

// The factor of a step. Chosen between registers: an index that is known when running would put them in memory.
DEVICE float factor(const Draw& d, int step) {
  float first = step == 0 ? d.factor[0] : d.factor[1], second = step == 2 ? d.factor[2] : d.factor[3];
  return step < 2 ? first : second;
}

// V neighbouring pixels.
template <int V>
struct Pixels {
  Pixel p[V];
};

// Those of group `at`, in [0, 1].
template <int V>
DEVICE Pixels<V> read_pixels(const Real* images, i64 at, const Norm& norm) {
  // The 3 V values as 3 vectors, or as 3 single ones.
  float v[3 * V];
#pragma unroll
  for (int part = 0; part < 3; part++) {
    Values<V> own = read<V>(images, at * 3 + part);
#pragma unroll
    for (int i = 0; i < V; i++) v[part * V + i] = own.v[i];
  }
  Pixels<V> out;
#pragma unroll
  for (int i = 0; i < V; i++) {
    out.p[i] = {unit(v[3 * i] * norm.std[0] + norm.mean[0]), unit(v[3 * i + 1] * norm.std[1] + norm.mean[1]),
                unit(v[3 * i + 2] * norm.std[2] + norm.mean[2])};
  }
  return out;
}

// Writes them to group `at`, normalised; mirrored, the last comes first.
template <int V>
DEVICE void write_pixels(Real* to, i64 at, const Pixels<V>& pixels, const Norm& norm, bool mirrored) {
  float v[3 * V];
#pragma unroll
  for (int i = 0; i < V; i++) {
    Pixel p = mirrored ? pixels.p[V - 1 - i] : pixels.p[i];
    v[3 * i] = (p.r - norm.mean[0]) * norm.inverse[0];
    v[3 * i + 1] = (p.g - norm.mean[1]) * norm.inverse[1];
    v[3 * i + 2] = (p.b - norm.mean[2]) * norm.inverse[2];
  }
#pragma unroll
  for (int part = 0; part < 3; part++) {
    Values<V> own;
#pragma unroll
    for (int i = 0; i < V; i++) own.v[i] = v[part * V + i];
    write<V>(to, at * 3 + part, own);
  }
}

template <int V>
DEVICE void sums(const Real* images, const u32* draws, double* partial, int groups, int slab, int slabs,
                 const Norm& norm) {
  i64 image = blockIdx.x / slabs;
  Draw d = drawn(draws, image);
  if (!(d.flags & JITTER)) return;  // the whole block; nobody reads its sum
  int first = static_cast<int>(blockIdx.x % slabs) * slab, last = first + slab < groups ? first + slab : groups;
  double sum = 0.0;
  for (int group = first + static_cast<int>(threadIdx.x); group < last; group += THREADS) {
    Pixels<V> pixels = read_pixels<V>(images, image * groups + group, norm);
    for (int step = 0; step < 4; step++) {
      int what = adjustment(d, step);
      if (what == CONTRAST) break;
#pragma unroll
      for (int i = 0; i < V; i++) pixels.p[i] = adjusted(pixels.p[i], what, factor(d, step), 0.0f);
    }
    float few = 0.0f;
#pragma unroll
    for (int i = 0; i < V; i++) few += luminance(pixels.p[i]);
    sum += few;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// Sum of each slab's luminances, of the images that are jittered, with what comes before contrast applied.
// partial is (images, slabs); rows of a multiple of VECTOR pixels.
KERNEL(augment_sums)(const Real* images, const u32* draws, double* partial, int groups, int slab, int slabs,
                     float mean_r, float mean_g, float mean_b, float std_r, float std_g, float std_b) {
  Norm norm = norm_of(mean_r, mean_g, mean_b, std_r, std_g, std_b);
  sums<VECTOR>(images, draws, partial, groups, slab, slabs, norm);
}

// As augment_sums, for rows of any number of pixels.
KERNEL(augment_sums_any)(const Real* images, const u32* draws, double* partial, int groups, int slab, int slabs,
                         float mean_r, float mean_g, float mean_b, float std_r, float std_g, float std_b) {
  Norm norm = norm_of(mean_r, mean_g, mean_b, std_r, std_g, std_b);
  sums<1>(images, draws, partial, groups, slab, slabs, norm);
}

template <int V>
DEVICE void augment(const Real* images, const u32* draws, const double* partial, Real* out, int groups, int slab,
                    int slabs, int across, const Norm& norm) {
  i64 image = blockIdx.x / slabs;
  Draw d = drawn(draws, image);
  bool jitter = (d.flags & JITTER) != 0, greys = (d.flags & GREYS) != 0, flip = (d.flags & FLIP) != 0;
  float mean = 0.0f;
  if (jitter) {
    double sum = 0.0;
    for (int at = static_cast<int>(threadIdx.x); at < slabs; at += THREADS) sum += partial[image * slabs + at];
    mean = static_cast<float>(block_sum(sum) / (static_cast<double>(groups) * V));
  }
  int first = static_cast<int>(blockIdx.x % slabs) * slab, last = first + slab < groups ? first + slab : groups;
  for (int group = first + static_cast<int>(threadIdx.x); group < last; group += THREADS) {
    Pixels<V> pixels = read_pixels<V>(images, image * groups + group, norm);
    if (jitter) {
      for (int step = 0; step < 4; step++) {
        int what = adjustment(d, step);
#pragma unroll
        for (int i = 0; i < V; i++) pixels.p[i] = adjusted(pixels.p[i], what, factor(d, step), mean);
      }
    }
    if (greys) {
#pragma unroll
      for (int i = 0; i < V; i++) {
        float grey = luminance(pixels.p[i]);
        pixels.p[i] = {grey, grey, grey};
      }
    }
    int to = group;
    if (flip) to += across - 1 - 2 * (group % across);
    write_pixels<V>(out, image * groups + to, pixels, norm, flip);
  }
}

// The images as drawn for each: jitter, greys, left and right exchanged. `across` groups of VECTOR pixels are a
// row; partial is augment_sums's.
KERNEL(augment_apply)(const Real* images, const u32* draws, const double* partial, Real* out, int groups, int slab,
                      int slabs, int across, float mean_r, float mean_g, float mean_b, float std_r, float std_g,
                      float std_b) {
  Norm norm = norm_of(mean_r, mean_g, mean_b, std_r, std_g, std_b);
  augment<VECTOR>(images, draws, partial, out, groups, slab, slabs, across, norm);
}

// As augment_apply, for rows of any number of pixels.
KERNEL(augment_apply_any)(const Real* images, const u32* draws, const double* partial, Real* out, int groups,
                          int slab, int slabs, int across, float mean_r, float mean_g, float mean_b, float std_r,
                          float std_g, float std_b) {
  Norm norm = norm_of(mean_r, mean_g, mean_b, std_r, std_g, std_b);
  augment<1>(images, draws, partial, out, groups, slab, slabs, across, norm);
}
