// Softmax attention of several heads (arXiv:1706.03762, eq. 1), and its gradient, in f32 arithmetic: for f32,
// and for heads that attention_mma.cu does not take.
//
// qkv is (images, tokens, 3, heads, width), y (images, tokens, heads, width). As FlashAttention
// (arXiv:2307.08691), scores are never stored: a block keeps the rows it owns, walks over tiles of the
// others, and the backward computes scores again from the log of their sum. Nothing is added from two
// blocks, so that results have one order.
//
// A block is 16 x 16 threads: thread (down, across) has own rows down + 16 i and others across + 16 j of the
// scores, then own rows and four channels of the result. Rows of a tile are 68 floats apart, so that eight
// neighbours reading 16 bytes of theirs meet no bank twice.
#include "attention.cuh"

#define SIDE 16
#define OTHERS 32
#define ROW (WIDEST + 4)
#define WEIGHTS (OTHERS + 4)

// ROWS rows from `first`, times scale, with zeros beyond the tokens and the width.
template <int ROWS, int V>
DEVICE void load_rows_of(float* to, const Real* from, Part part, int first, const Heads& h, float scale) {
  constexpr int across = WIDEST / V;
#pragma unroll
  for (int i = 0; i < ROWS * across / THREADS; i++) {
    int at = i * THREADS + static_cast<int>(threadIdx.x);
    int row = at / across, column = at % across * V, token = first + row;
    Values<V> v = {};
    if (token < h.tokens && column < h.width) v = read<V>(from + part.start + token * part.step + column, 0);
#pragma unroll
    for (int k = 0; k < V; k++) v.v[k] *= scale;
    if constexpr (V == 1) {
      to[row * ROW + column] = v.v[0];
    } else {
      write<V>(to + row * ROW + column, 0, v);
    }
  }
}
template <int ROWS>
DEVICE void load_rows(float* to, const Real* from, Part part, int first, const Heads& h, float scale) {
  if (h.width % VECTOR == 0) {
    load_rows_of<ROWS, VECTOR>(to, from, part, first, h, scale);
  } else {
    load_rows_of<ROWS, 1>(to, from, part, first, h, scale);
  }
}

// products[i][j] = own row (down + 16 i) . other row (across + 16 j)
template <int R>
DEVICE void products(const float* own, const float* others, float (&out)[R][2]) {
  int down = threadIdx.x / SIDE, across = threadIdx.x % SIDE;
#pragma unroll
  for (int i = 0; i < R; i++) out[i][0] = out[i][1] = 0.0f;
#pragma unroll 2
  for (int d = 0; d < WIDEST; d += 4) {
    Lanes<float> a[R], b[2];
#pragma unroll
    for (int i = 0; i < R; i++) a[i] = load_pack(own, ((down + SIDE * i) * ROW + d) / 4);
#pragma unroll
    for (int j = 0; j < 2; j++) b[j] = load_pack(others, ((across + SIDE * j) * ROW + d) / 4);
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
      for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) out[i][j] += a[i].v[k] * b[j].v[k];
  }
}

// sums[i] += weights of own row (down + 16 i) times other rows, channels 4 across to 4 across + 3
template <int R>
DEVICE void weigh(const float* weights, const float* others, float (&sums)[R][4]) {
  int down = threadIdx.x / SIDE, across = threadIdx.x % SIDE;
#pragma unroll 2
  for (int other = 0; other < OTHERS; other += 4) {
    Lanes<float> w[R], v[4];
#pragma unroll
    for (int i = 0; i < R; i++) w[i] = load_pack(weights, ((down + SIDE * i) * WEIGHTS + other) / 4);
#pragma unroll
    for (int k = 0; k < 4; k++) v[k] = load_pack(others, ((other + k) * ROW) / 4 + across);
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
      for (int i = 0; i < R; i++)
#pragma unroll
        for (int c = 0; c < 4; c++) sums[i][c] += w[i].v[k] * v[k].v[c];
  }
}

// A thread's four channels of a row.
DEVICE void store_channels(Real* to, Part part, int token, const Heads& h, const float (&v)[4], float scale) {
  int across = threadIdx.x % SIDE;
  if (token >= h.tokens) return;
#pragma unroll
  for (int c = 0; c < 4; c++) {
    int channel = 4 * across + c;
    if (channel < h.width) store(to, part.start + token * part.step + channel, v[c] * scale);
  }
}

// Over the 16 threads that share own rows.
DEVICE float side_sum(float v) {
#pragma unroll
  for (int lane = SIDE / 2; lane > 0; lane /= 2) v += __shfl_xor_sync(0xffffffffu, v, lane);
  return v;
}
DEVICE float side_max(float v) {
#pragma unroll
  for (int lane = SIDE / 2; lane > 0; lane /= 2) {
    float other = __shfl_xor_sync(0xffffffffu, v, lane);
    v = other > v ? other : v;
  }
  return v;
}

// y = softmax(q k^T scale) v of each head, and the log of the sum of exp(q k^T scale) of each query,
// (images, heads, tokens). Grid (tiles of 64 queries, heads, images).
KERNEL(attention)(const Real* qkv, Real* y, float* log_sum, int tokens, int heads, int width, float scale) {
  constexpr int R = 4;
  SHARED(float, queries, SIDE * R * ROW);
  SHARED(float, keys, OTHERS * ROW);
  SHARED(float, values, OTHERS * ROW);
  SHARED(float, shares, SIDE * R * WEIGHTS);
  Heads h = {tokens, heads, width};
  int down = threadIdx.x / SIDE, across = threadIdx.x % SIDE, first = static_cast<int>(blockIdx.x) * SIDE * R;
  load_rows<SIDE * R>(queries, qkv, part_of(h, 0, 3), first, h, scale);
  float top[R], sum[R], out[R][4] = {};
#pragma unroll
  for (int i = 0; i < R; i++) {
    top[i] = minus_infinity();
    sum[i] = 0.0f;
  }
  for (int tile = 0; tile < tokens; tile += OTHERS) {
    __syncthreads();  // the tile before has been used
    load_rows<OTHERS>(keys, qkv, part_of(h, 1, 3), tile, h, 1.0f);
    load_rows<OTHERS>(values, qkv, part_of(h, 2, 3), tile, h, 1.0f);
    __syncthreads();
    float s[R][2];
    products<R>(queries, keys, s);
#pragma unroll
    for (int i = 0; i < R; i++) {
#pragma unroll
      for (int j = 0; j < 2; j++)
        if (tile + across + SIDE * j >= tokens) s[i][j] = minus_infinity();
      float larger = side_max(s[i][1] > s[i][0] ? s[i][1] : s[i][0]);
      larger = larger > top[i] ? larger : top[i];
      // -infinity less itself would be no number.
      float shrink = larger == top[i] ? 1.0f : expf(top[i] - larger), added = 0.0f;
#pragma unroll
      for (int j = 0; j < 2; j++) {
        float p = s[i][j] == minus_infinity() ? 0.0f : expf(s[i][j] - larger);
        shares[(down + SIDE * i) * WEIGHTS + across + SIDE * j] = p;
        added += p;
      }
      top[i] = larger;
      sum[i] = sum[i] * shrink + added;  // of this thread's keys
#pragma unroll
      for (int c = 0; c < 4; c++) out[i][c] *= shrink;
    }
    __syncwarp();  // a warp reads the shares that it has written
    weigh<R>(shares, values, out);
  }
#pragma unroll
  for (int i = 0; i < R; i++) {
    int token = first + down + SIDE * i;
    float all = side_sum(sum[i]);
    store_channels(y, part_of(h, 0, 1), token, h, out[i], 1.0f / all);
    if (across == 0 && token < tokens) log_sum[first_row(h) + token] = top[i] + logf(all);
  }
}

// The sum over channels of y dy of each query and head, (images, heads, tokens). One warp a query and head;
// grid (warps of tokens, heads, images).
KERNEL(attention_delta)(const Real* y, const Real* dy, float* delta, int tokens, int heads, int width) {
  Heads h = {tokens, heads, width};
  int token = static_cast<int>(blockIdx.x) * WARPS + warp_index();
  if (token >= tokens) return;  // whole warps
  Part part = part_of(h, 0, 1);
  i64 at = part.start + token * part.step;
  float sum = 0.0f;
  for (int channel = lane_index(); channel < width; channel += WARP) sum += load(y, at + channel) * load(dy, at + channel);
  sum = warp_sum(sum);
  if (lane_index() == 0) delta[first_row(h) + token] = sum;
}

// With P = softmax(S), S = q k^T scale, y = P v:
// dv = P^T dy,  dP = dy v^T,  dS = P (dP - delta),  dq = dS k scale,  dk = dS^T q scale

// The gradient of queries, to their part of d_qkv. Grid (tiles of 32 queries, heads, images).
KERNEL(attention_grad_queries)(const Real* qkv, const Real* dy, const float* log_sum, const float* delta, Real* d_qkv,
                               int tokens, int heads, int width, float scale) {
  constexpr int R = 2;
  SHARED(float, queries, OTHERS * ROW);
  SHARED(float, grads, OTHERS * ROW);
  SHARED(float, keys, OTHERS * ROW);
  SHARED(float, values, OTHERS * ROW);
  SHARED(float, slopes, OTHERS * WEIGHTS);
  Heads h = {tokens, heads, width};
  int down = threadIdx.x / SIDE, across = threadIdx.x % SIDE, first = static_cast<int>(blockIdx.x) * SIDE * R;
  load_rows<SIDE * R>(queries, qkv, part_of(h, 0, 3), first, h, scale);
  load_rows<SIDE * R>(grads, dy, part_of(h, 0, 1), first, h, 1.0f);
  float of_row[R], mean[R], out[R][4] = {};
#pragma unroll
  for (int i = 0; i < R; i++) {
    int token = first + down + SIDE * i;
    of_row[i] = token < tokens ? log_sum[first_row(h) + token] : 0.0f;
    mean[i] = token < tokens ? delta[first_row(h) + token] : 0.0f;
  }
  for (int tile = 0; tile < tokens; tile += OTHERS) {
    __syncthreads();  // the tile before has been used
    load_rows<OTHERS>(keys, qkv, part_of(h, 1, 3), tile, h, 1.0f);
    load_rows<OTHERS>(values, qkv, part_of(h, 2, 3), tile, h, 1.0f);
    __syncthreads();
    float s[R][2], g[R][2];
    products<R>(queries, keys, s);
    products<R>(grads, values, g);
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
      for (int j = 0; j < 2; j++) {
        float p = tile + across + SIDE * j < tokens ? expf(s[i][j] - of_row[i]) : 0.0f;
        slopes[(down + SIDE * i) * WEIGHTS + across + SIDE * j] = p * (g[i][j] - mean[i]);
      }
    __syncwarp();  // a warp reads what it has written
    weigh<R>(slopes, keys, out);
  }
#pragma unroll
  for (int i = 0; i < R; i++) store_channels(d_qkv, part_of(h, 0, 3), first + down + SIDE * i, h, out[i], scale);
}

// The gradients of keys and values, to their parts of d_qkv. Grid (tiles of 32 keys, heads, images).
KERNEL(attention_grad_keys)(const Real* qkv, const Real* dy, const float* log_sum, const float* delta, Real* d_qkv,
                            int tokens, int heads, int width, float scale) {
  constexpr int R = 2;
  SHARED(float, queries, OTHERS * ROW);
  SHARED(float, grads, OTHERS * ROW);
  SHARED(float, keys, OTHERS * ROW);
  SHARED(float, values, OTHERS * ROW);
  SHARED(float, shares, OTHERS * WEIGHTS);
  SHARED(float, slopes, OTHERS * WEIGHTS);
  Heads h = {tokens, heads, width};
  int down = threadIdx.x / SIDE, across = threadIdx.x % SIDE, first = static_cast<int>(blockIdx.x) * SIDE * R;
  load_rows<SIDE * R>(keys, qkv, part_of(h, 1, 3), first, h, 1.0f);
  load_rows<SIDE * R>(values, qkv, part_of(h, 2, 3), first, h, 1.0f);
  float of_keys[R][4] = {}, of_values[R][4] = {};
  for (int tile = 0; tile < tokens; tile += OTHERS) {
    __syncthreads();  // the tile before has been used
    load_rows<OTHERS>(queries, qkv, part_of(h, 0, 3), tile, h, scale);
    load_rows<OTHERS>(grads, dy, part_of(h, 0, 1), tile, h, 1.0f);
    __syncthreads();
    float s[R][2], g[R][2];
    products<R>(keys, queries, s);
    products<R>(values, grads, g);
#pragma unroll
    for (int j = 0; j < 2; j++) {
      int token = tile + across + SIDE * j;
      bool some = token < tokens;
      float of_row = some ? log_sum[first_row(h) + token] : 0.0f, mean = some ? delta[first_row(h) + token] : 0.0f;
#pragma unroll
      for (int i = 0; i < R; i++) {
        float p = some ? expf(s[i][j] - of_row) : 0.0f;
        int at = (down + SIDE * i) * WEIGHTS + across + SIDE * j;
        shares[at] = p;
        slopes[at] = p * (g[i][j] - mean);
      }
    }
    __syncwarp();  // a warp reads what it has written
    weigh<R>(shares, grads, of_values);
    weigh<R>(slopes, queries, of_keys);  // the scale is in the queries already
  }
#pragma unroll
  for (int i = 0; i < R; i++) {
    store_channels(d_qkv, part_of(h, 1, 3), first + down + SIDE * i, h, of_keys[i], 1.0f);
    store_channels(d_qkv, part_of(h, 2, 3), first + down + SIDE * i, h, of_values[i], 1.0f);
  }
}

// What the first token gives to each key, mean over heads, (images, tokens). One block an image, with two
// floats of shared memory a token.
KERNEL(attention_first_shares)(const Real* qkv, float* shares, int tokens, int heads, int width, float scale) {
  DYNAMIC_SHARED(float, scores);
  float* means = scores + tokens;
  i64 channels = static_cast<i64>(heads) * width;
  const Real* sequence = qkv + static_cast<i64>(blockIdx.x) * tokens * 3 * channels;
  // A thread keeps to its tokens but for the scores.
  for (int token = static_cast<int>(threadIdx.x); token < tokens; token += THREADS) means[token] = 0.0f;
  for (int head = 0; head < heads; head++) {
    const Real* query = sequence + head * width;
#pragma unroll 2
    for (int token = warp_index(); token < tokens; token += WARPS) {
      const Real* key = query + token * 3 * channels + channels;
      float sum = 0.0f;
      for (int channel = lane_index(); channel < width; channel += WARP) sum += load(query, channel) * load(key, channel);
      sum = warp_sum(sum);
      if (lane_index() == 0) scores[token] = sum * scale;
    }
    __syncthreads();
    float top = minus_infinity(), sum = 0.0f;
    for (int token = static_cast<int>(threadIdx.x); token < tokens; token += THREADS)
      top = scores[token] > top ? scores[token] : top;
    top = block_max(top);
    for (int token = static_cast<int>(threadIdx.x); token < tokens; token += THREADS) {
      scores[token] = expf(scores[token] - top);
      sum += scores[token];
    }
    float share = 1.0f / block_sum(sum) / static_cast<float>(heads);
    for (int token = static_cast<int>(threadIdx.x); token < tokens; token += THREADS)
      means[token] += scores[token] * share;
    __syncthreads();  // before the next head's scores
  }
  for (int token = static_cast<int>(threadIdx.x); token < tokens; token += THREADS)
    shares[static_cast<i64>(blockIdx.x) * tokens + token] = means[token];
}
