// Square patches of a channels-last map as rows, and back: (N, H, W, C) to (N, patches, C * patch * patch), a
// patch's values in the order (C, row, column) of a convolution's weight.
//
// A block takes a run of patches beside each other. On the map they are pieces of `patch` rows, as rows they
// are one piece; through shared memory both are read and written in order. Rows there have an odd length, so
// that neighbours of a column fall into different banks.
#include "common.cuh"

// Values of a block, at most.
#define ROOM 4096

struct Cut {
  int patch, channels, across;  // across: patches beside each other on the map
};

// A place in a run of patches: which patch, and where in it.
struct Inside {
  int index, channel, row, column;
};
DEVICE Inside inside(int at, const Cut& cut) {
  int area = cut.patch * cut.patch, place = at / area;
  Inside in;
  in.index = place / cut.channels;
  in.channel = place - in.index * cut.channels;
  place = at - place * area;
  in.row = place / cut.patch;
  in.column = place - in.row * cut.patch;
  return in;
}
DEVICE void advance(Inside& in, const Cut& cut) {
  if (++in.column < cut.patch) return;
  in.column = 0;
  if (++in.row < cut.patch) return;
  in.row = 0;
  if (++in.channel < cut.channels) return;
  in.channel = 0;
  in.index++;
}

// ---- through shared memory; grid (rows of patches of all images * runs of each) ----

// Both ways: `TO_ROWS` cuts. V values at a time on either side.
template <int V, bool TO_ROWS>
DEVICE void run(const Real* from, Real* to, Cut cut, int width) {
  SHARED(float, room, ROOM);
  int runs = (cut.across + width - 1) / width, row_of_patches = static_cast<int>(blockIdx.x) / runs;
  int first = (static_cast<int>(blockIdx.x) - row_of_patches * runs) * width;
  int patches = first + width < cut.across ? width : cut.across - first;
  int piece = patches * cut.patch * cut.channels, stride = (width * cut.patch * cut.channels) | 1;
  int of_row = cut.across * cut.patch * cut.channels, values = piece * cut.patch;
  i64 band = static_cast<i64>(row_of_patches) * cut.patch * of_row;
  i64 on_map = band + first * cut.patch * cut.channels;
  i64 as_rows = band + static_cast<i64>(first) * cut.patch * cut.patch * cut.channels;
  int thread = static_cast<int>(threadIdx.x);
  // The map's side: rows of a piece.
  auto map_side = [&]() {
    int vectors = piece / V;
    for (int i = thread; i < vectors * cut.patch; i += THREADS) {
      int row = i / vectors, column = (i - row * vectors) * V;
      float* at = room + row * stride + column;
      i64 place = (on_map + static_cast<i64>(row) * of_row + column) / V;
      if constexpr (V == 1) {
        if constexpr (TO_ROWS) {
          *at = load(from, place);
        } else {
          store(to, place, *at);
        }
      } else {
        Lanes<Real> lanes;
        if constexpr (TO_ROWS) lanes = load_pack(from, place);
#pragma unroll
        for (int k = 0; k < V; k++) {
          if constexpr (TO_ROWS) {
            at[k] = lanes.v[k];
          } else {
            lanes.v[k] = at[k];
          }
        }
        if constexpr (!TO_ROWS) store_pack(to, place, lanes);
      }
    }
  };
  // The rows' side: one piece.
  auto rows_side = [&]() {
    for (int i = thread; i < values / V; i += THREADS) {
      Inside in = inside(i * V, cut);
      Lanes<Real> lanes;
      if constexpr (!TO_ROWS && V > 1) lanes = load_pack(from, as_rows / V + i);
#pragma unroll
      for (int k = 0; k < V; k++) {
        float* at = room + in.row * stride + (in.index * cut.patch + in.column) * cut.channels + in.channel;
        if constexpr (V == 1) {
          if constexpr (TO_ROWS) {
            store(to, as_rows + i, *at);
          } else {
            *at = load(from, as_rows + i);
          }
        } else if constexpr (TO_ROWS) {
          lanes.v[k] = *at;
        } else {
          *at = lanes.v[k];
        }
        advance(in, cut);
      }
      if constexpr (TO_ROWS && V > 1) store_pack(to, as_rows / V + i, lanes);
    }
  };
  if constexpr (TO_ROWS) {
    map_side();
    __syncthreads();
    rows_side();
  } else {
    rows_side();
    __syncthreads();
    map_side();
  }
}

// Patches cut into rows. Pieces are whole packs.
KERNEL(patches_cut)(const Real* x, Real* y, int patch, int channels, int across, int width) {
  run<Pack<Real>::size, true>(x, y, {patch, channels, across}, width);
}

// As patches_cut, for pieces of any length.
KERNEL(patches_cut_any)(const Real* x, Real* y, int patch, int channels, int across, int width) {
  run<1, true>(x, y, {patch, channels, across}, width);
}

// Rows joined into a map: the gradient of patches_cut. Pieces are whole packs.
KERNEL(patches_join)(const Real* y, Real* x, int patch, int channels, int across, int width) {
  run<Pack<Real>::size, false>(y, x, {patch, channels, across}, width);
}

// As patches_join, for pieces of any length.
KERNEL(patches_join_any)(const Real* y, Real* x, int patch, int channels, int across, int width) {
  run<1, false>(y, x, {patch, channels, across}, width);
}

// ---- patches that no shared memory holds: a thread a value of the rows ----

template <bool TO_ROWS>
DEVICE void each_value(const Real* from, Real* to, Cut cut, i64 len) {
  i64 step = thread_count(), of_row = static_cast<i64>(cut.across) * cut.patch * cut.channels;
  i64 of_band = of_row * cut.patch;
  for (i64 at = thread_index(); at < len; at += step) {
    i64 band = at / of_band;
    Inside in = inside(static_cast<int>(at - band * of_band), cut);
    i64 place = band * of_band + in.row * of_row;
    place += static_cast<i64>(in.index * cut.patch + in.column) * cut.channels + in.channel;
    if constexpr (TO_ROWS) {
      to[at] = from[place];
    } else {
      to[place] = from[at];
    }
  }
}

// As patches_cut, for patches too large for shared memory.
KERNEL(patches_cut_large)(const Real* x, Real* y, int patch, int channels, int across, i64 len) {
  each_value<true>(x, y, {patch, channels, across}, len);
}

// As patches_join, for patches too large for shared memory.
KERNEL(patches_join_large)(const Real* y, Real* x, int patch, int channels, int across, i64 len) {
  each_value<false>(y, x, {patch, channels, across}, len);
}
