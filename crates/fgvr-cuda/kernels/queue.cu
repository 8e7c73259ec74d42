// A ring of past keys, each with the image that it came from.
#include "rows.cuh"

template <int V>
DEVICE void push(const float* keys, const u32* images, float* queue, u32* queue_images, i64 count, i64 first,
                 i64 position, i64 capacity, int width) {
  i64 row = static_cast<i64>(blockIdx.x) * WARPS + warp_index();
  if (row >= count) return;
  row += first;
  i64 slot = (position + row) % capacity;
  int vectors = width / V;
#pragma unroll 4
  for (int at = lane_index(); at < vectors; at += WARP)
    write<V>(queue, slot * vectors + at, read<V>(keys, row * vectors + at));
  if (lane_index() == 0) queue_images[slot] = images[row];
}

// Writes `count` keys and their images into the ring, from key `first` on; key 0 would go to slot `position`. No
// more keys than slots: two warps never write one. One warp a key; widths of packs.
KERNEL(queue_push)(const float* keys, const u32* images, float* queue, u32* queue_images, i64 count, i64 first,
                   i64 position, i64 capacity, int width) {
  push<Pack<float>::size>(keys, images, queue, queue_images, count, first, position, capacity, width);
}

// As queue_push, for any width.
KERNEL(queue_push_any)(const float* keys, const u32* images, float* queue, u32* queue_images, i64 count, i64 first,
                       i64 position, i64 capacity, int width) {
  push<1>(keys, images, queue, queue_images, count, first, position, capacity, width);
}
