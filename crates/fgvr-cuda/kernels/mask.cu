// Which channels of which image do not discriminate: by the ranks of their variance and of their importance.
//
// One block sorts a row in shared memory (12 bytes a channel, up to 2048 of them). Channels of equal value
// are ordered by a hash of (seed, step, image, channel), as on the CPU, which is computed where two are equal
// only. A row that holds a value that is not finite has ranks of NO_RANK and a mask of NaN: the CPU's error,
// without a wait.
#include "sort.cuh"

#define NO_RANK 0xffffffffu

// The output function of SplitMix64.
DEVICE u64 mix(u64 word) {
  word += 0x9e3779b97f4a7c15ull;
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ull;
  word = (word ^ (word >> 27)) * 0x94d049bb133111ebull;
  return word ^ (word >> 31);
}

// Orders channels of equal value.
struct Tie {
  u64 hash;
  DEVICE u64 of(u32 channel) const { return mix(hash ^ channel); }
  DEVICE bool operator()(u32 a, u32 b) const {
    u64 of_a = of(a), of_b = of(b);
    return of_a < of_b || (of_a == of_b && a < b);
  }
};

// What all images share has an image of its own, which is no u32.
DEVICE Tie tie_of(u64 seed, u64 step, const u32* images, i64 row) {
  u64 image = images == nullptr ? ~0ull : images[row];
  return {mix(mix(mix(seed) ^ step) ^ image)};
}

// The mean importance of each channel over the batch, in f64 and in the given order of rows, which does not
// depend on the batch's. One thread a channel.
KERNEL(mask_mean)(const float* importance, const u32* order, double* mean, int rows, int channels) {
  i64 channel = thread_index();
  if (channel >= channels) return;
  double sum = 0.0;
  for (int at = 0; at < rows; at++) {
    u32 row = order[at];
    // An order that is none gives no number.
    double v = row < static_cast<u32>(rows) ? importance[static_cast<i64>(row) * channels + channel]
                                            : __uint_as_float(0x7fc00000u);
    sum += v / rows;
  }
  mean[channel] = sum;
}

// The rank of each value in its row, 0 for the lowest, of f32 or (wide) of f64. `size` is the power of two
// from `channels` on. One block a row.
KERNEL(mask_ranks)(const float* values, const double* wide, const u32* images, u32* ranks, int channels, int size,
                   u64 seed, u64 step) {
  DYNAMIC_SHARED(u64, keys);
  u32* items = reinterpret_cast<u32*>(keys + size);
  i64 row = blockIdx.x, first = row * channels;
  int unusable = 0;
  for (int channel = static_cast<int>(threadIdx.x); channel < size; channel += THREADS) {
    u64 key = LAST_KEY;
    if (channel < channels) {
      double v = wide == nullptr ? static_cast<double>(values[first + channel]) : wide[first + channel];
      unusable |= v - v == 0.0 ? 0 : 1;
      key = ordered(v);
    }
    keys[channel] = key;
    items[channel] = static_cast<u32>(channel);
  }
  unusable = block_sum(unusable);
  if (unusable != 0) {
    for (int channel = static_cast<int>(threadIdx.x); channel < channels; channel += THREADS)
      ranks[first + channel] = NO_RANK;
    return;
  }
  sort_pairs(keys, items, size, tie_of(seed, step, images, row));
  for (int rank = static_cast<int>(threadIdx.x); rank < channels; rank += THREADS)
    ranks[first + items[rank]] = static_cast<u32>(rank);
}

enum Rule { UNION = 0, INTERSECTION = 1, VARIANCE = 2, IMPORTANCE = 3, ALL = 4, NONE = 5 };
enum Control { AS_IT_IS = 0, RANDOM = 1, INVERTED = 2 };

// A channel's ranks, each over the number that its criterion takes: below 1 where it is low. A criterion
// that takes nothing gives infinity.
struct Place {
  double variance, importance;
  DEVICE double joint(int rule) const {
    switch (rule) {
      case UNION:
        return variance < importance ? variance : importance;
      case INTERSECTION:
        return variance > importance ? variance : importance;
      case VARIANCE:
        return variance;
      case IMPORTANCE:
        return importance;
      case ALL:
        return 0.0;
      default:
        return 1.0 / 0.0;
    }
  }
};

// The mask of each image, 0 or 1, from the ranks; a control takes as many channels in another order. counts is
// (N, 4): masked channels, those of them without variance, those low in both criteria, and in either. Ranks
// of importance are (N, C), or (C) where they are shared; random is (N, C), each row an order of the channels.
// One block an image.
KERNEL(mask_choose)(const u32* by_variance, const u32* by_importance, const float* variance, const u32* images,
                    const u32* random, float* mask, u32* counts, int channels, int size, int low_variance,
                    int low_importance, int shared_ranks, int rule, int control, u64 seed, u64 step) {
  DYNAMIC_SHARED(u64, keys);
  u32* items = reinterpret_cast<u32*>(keys + size);
  i64 row = blockIdx.x, first = row * channels;
  const u32* own = by_importance + (shared_ranks != 0 ? 0 : first);
  if (by_variance[0] == NO_RANK || own[0] == NO_RANK) {  // the whole block
    for (int channel = static_cast<int>(threadIdx.x); channel < channels; channel += THREADS)
      mask[first + channel] = __uint_as_float(0x7fc00000u);
    if (threadIdx.x < 4) counts[4 * row + threadIdx.x] = 0;
    return;
  }
  int masked = 0, constant = 0, both = 0, either = 0;
  for (int channel = static_cast<int>(threadIdx.x); channel < channels; channel += THREADS) {
    Place place = {(by_variance[channel] + 0.5) / low_variance, (own[channel] + 0.5) / low_importance};
    bool varies_little = place.variance < 1.0, matters_little = place.importance < 1.0;
    both += varies_little && matters_little ? 1 : 0;
    either += varies_little || matters_little ? 1 : 0;
    double joint = place.joint(rule);
    bool chosen = joint < 1.0;
    masked += chosen ? 1 : 0;
    if (control == AS_IT_IS) {
      constant += chosen && variance[channel] == 0.0f ? 1 : 0;
      mask[first + channel] = chosen ? 1.0f : 0.0f;
    } else {
      mask[first + channel] = 0.0f;
    }
    if (control == INVERTED) {
      keys[channel] = ~ordered(joint);  // the highest first
      items[channel] = static_cast<u32>(channel);
    }
  }
  masked = block_sum(masked);
  both = block_sum(both);
  either = block_sum(either);
  if (control == INVERTED) {
    for (int at = channels + static_cast<int>(threadIdx.x); at < size; at += THREADS) {
      keys[at] = LAST_KEY;
      items[at] = static_cast<u32>(at);
    }
    sort_pairs(keys, items, size, tie_of(seed, step, images, row));
  }
  if (control != AS_IT_IS) {
    for (int at = static_cast<int>(threadIdx.x); at < masked; at += THREADS) {
      u32 channel = control == RANDOM ? random[first + at] : items[at];
      if (channel >= static_cast<u32>(channels)) continue;  // an order that is none
      constant += variance[channel] == 0.0f ? 1 : 0;
      mask[first + channel] = 1.0f;
    }
  }
  constant = block_sum(constant);
  if (threadIdx.x == 0) {
    counts[4 * row] = static_cast<u32>(masked);
    counts[4 * row + 1] = static_cast<u32>(constant);
    counts[4 * row + 2] = static_cast<u32>(both);
    counts[4 * row + 3] = static_cast<u32>(either);
  }
}
