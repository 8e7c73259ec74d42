// The moving average that makes a target network, over all its tensors in one launch.
//
// A tensor's arrays are the target and the online network's.
#include "tensors.cuh"

enum Option { COPIED = 1 };

// target = momentum target + rest online; a tensor that is copied becomes the online one. One block a chunk.
KERNEL(average)(const Tensor* tensors, const u32* chunks, float momentum, float rest) {
  Part p = part(tensors, chunks);
  if ((p.options & COPIED) != 0) {
    // Not by a momentum of 0, of which a target that is no number would stay none.
    each<2, 1>(p, [](float* v) { v[0] = v[1]; });
  } else {
    each<3, 1>(p, [&](float* v) { v[0] = momentum * v[0] + rest * v[1]; });
  }
}
