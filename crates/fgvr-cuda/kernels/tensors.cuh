// Many tensors of f32 in one launch: a table of tensors and a table of chunks, one block a chunk. So a
// network's small tensors cost no launches of their own, and its large ones keep all processors busy.
#pragma once
#include "common.cuh"

// Elements of a chunk: 4 packs a thread. ops/tensors.rs cuts by the same number.
#define CHUNK 4096
// Arrays of one tensor, at most.
#define ARRAYS 4

// As ops/tensors.rs writes it.
struct Tensor {
  float* at[ARRAYS];
  i64 len;
  u32 first, chunks;  // its chunks, which follow each other
  u32 options;
  u32 vector;  // whether all its arrays start at 16 bytes
};

// What a block works on.
struct Part {
  float* at[ARRAYS];
  int count;
  u32 tensor, options;
  bool vector;
};

// The chunk of this block; chunks is (blocks, 2): a tensor, and which of its chunks.
DEVICE Part part(const Tensor* tensors, const u32* chunks) {
  u32 index = chunks[2 * blockIdx.x];
  i64 first = static_cast<i64>(chunks[2 * blockIdx.x + 1]) * CHUNK;
  const Tensor& tensor = tensors[index];
  Part p;
#pragma unroll
  for (int i = 0; i < ARRAYS; i++) p.at[i] = tensor.at[i] + first;
  i64 left = tensor.len - first;
  p.count = left < CHUNK ? static_cast<int>(left) : CHUNK;
  p.tensor = index;
  p.options = tensor.options;
  p.vector = tensor.vector != 0;
  return p;
}

// Runs one(v) for each element of the chunk, with v[i] read from the arrays of which LOADED has a bit; what
// it leaves in those of STORED is written back.
template <u32 LOADED, u32 STORED, typename F>
DEVICE void each(const Part& p, F one) {
  int packs = p.vector ? p.count / Pack<float>::size : 0;
  for (int at = static_cast<int>(threadIdx.x); at < packs; at += THREADS) {
    Lanes<float> lanes[ARRAYS];
#pragma unroll
    for (int i = 0; i < ARRAYS; i++)
      if ((LOADED >> i) & 1) lanes[i] = load_pack(p.at[i], at);
#pragma unroll
    for (int lane = 0; lane < Pack<float>::size; lane++) {
      float v[ARRAYS];
#pragma unroll
      for (int i = 0; i < ARRAYS; i++)
        if ((LOADED >> i) & 1) v[i] = lanes[i].v[lane];
      one(v);
#pragma unroll
      for (int i = 0; i < ARRAYS; i++)
        if ((STORED >> i) & 1) lanes[i].v[lane] = v[i];
    }
#pragma unroll
    for (int i = 0; i < ARRAYS; i++)
      if ((STORED >> i) & 1) store_pack(p.at[i], at, lanes[i]);
  }
  for (int at = packs * Pack<float>::size + static_cast<int>(threadIdx.x); at < p.count; at += THREADS) {
    float v[ARRAYS];
#pragma unroll
    for (int i = 0; i < ARRAYS; i++)
      if ((LOADED >> i) & 1) v[i] = p.at[i][at];
    one(v);
#pragma unroll
    for (int i = 0; i < ARRAYS; i++)
      if ((STORED >> i) & 1) p.at[i][at] = v[i];
  }
}
