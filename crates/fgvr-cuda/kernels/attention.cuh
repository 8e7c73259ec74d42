// Where the rows of a head are: qkv is (images, tokens, 3, heads, width), y (images, tokens, heads, width).
// Grids are (tiles of tokens, heads, images).
#pragma once
#include "rows.cuh"

// Channels of a head, at most; narrower ones are filled up with zeros.
#define WIDEST 64

struct Heads {
  int tokens, heads, width;
};

// Where a head's rows of one part start, and how far apart they are.
struct Part {
  i64 start, step;
};
DEVICE Part part_of(const Heads& h, int part, int parts) {
  i64 channels = static_cast<i64>(h.heads) * h.width;
  return {(static_cast<i64>(blockIdx.z) * h.tokens * parts + part) * channels + static_cast<i64>(blockIdx.y) * h.width,
          parts * channels};
}
DEVICE i64 first_row(const Heads& h) {
  return (static_cast<i64>(blockIdx.z) * h.heads + blockIdx.y) * h.tokens;  // of (images, heads, tokens)
}
