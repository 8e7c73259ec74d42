// Attention of bf16 on tensor cores: the same equations as attention.cu, for heads of up to 64 channels in
// packs of 8. Shares and slopes are rounded to bf16 where they are multiplied; their sums are f32.
//
// A block is 4 warps that own 16 rows each; tiles of the others come through shared memory. Queries (or keys)
// that a warp owns stay in its registers as left operands, and so do the scores on their way to the second
// product.
#include "attention.cuh"
#include "mma.cuh"

#define OWN 64
#define OWN_WARPS (OWN / 16)
#define STEPS (WIDEST / 16)

// ROWS rows from `first`, with zeros beyond the tokens and the width.
template <int ROWS>
DEVICE void load_tile(bf16* to, const bf16* from, Part part, int first, const Heads& h) {
  constexpr int across = WIDEST / 8, threads = OWN_WARPS * WARP;
#pragma unroll
  for (int i = 0; i < ROWS * across / threads; i++) {
    int at = i * threads + static_cast<int>(threadIdx.x);
    int row = at / across, column = at % across * 8, token = first + row;
    Pack<bf16> pack = {};
    if (token < h.tokens && column < h.width)
      pack = *reinterpret_cast<const Pack<bf16>*>(from + part.start + token * part.step + column);
    *reinterpret_cast<Pack<bf16>*>(to + row * TILE_ROW + column) = pack;
  }
}

// The 16 rows that a warp owns, as left operands.
DEVICE void load_own(Left (&own)[STEPS], const bf16* tile) {
#pragma unroll
  for (int k = 0; k < STEPS; k++) own[k] = load_left(tile, warp_index() * 16, k * 16);
}

// out = own * others^T, 8 others in each; zero for those from `count` on.
template <int N>
DEVICE void products(const Left (&own)[STEPS], const bf16* others, int count, Sums (&out)[N]) {
#pragma unroll
  for (int n = 0; n < N; n++) out[n] = {};
#pragma unroll
  for (int n = 0; n < N; n += 2) {
    if (n * 8 >= count) continue;  // 197 tokens end soon after a tile begins
#pragma unroll
    for (int k = 0; k < STEPS; k++) {
      Rights rights = load_rows_as_columns(others, n * 8, k * 16);
      multiply(out[n], own[k], rights, 0);
      multiply(out[n + 1], own[k], rights, 1);
    }
  }
}

// sums += weights * others, 8 channels in each; the weights from `count` on are zero.
template <int N>
DEVICE void weigh(const Sums (&weights)[N], const bf16* others, int count, Sums (&sums)[WIDEST / 8]) {
#pragma unroll
  for (int k = 0; k < N / 2; k++) {
    if (k * 16 >= count) continue;
    Left left = as_left(weights[2 * k], weights[2 * k + 1]);
#pragma unroll
    for (int n = 0; n < WIDEST / 8; n += 2) {
      Rights rights = load_columns(others, k * 16, n * 8);
      multiply(sums[n], left, rights, 0);
      multiply(sums[n + 1], left, rights, 1);
    }
  }
}

// Writes the rows that a warp owns, times a scale for each of a lane's two rows, through its rows of a tile
// that nobody else uses any more: 16 bytes of a row at a time.
DEVICE void store_own(bf16* to, Part part, int first, const Heads& h, const Sums (&sums)[WIDEST / 8], float upper,
                      float lower, bf16* tile) {
  int lane = lane_index(), row = warp_index() * 16 + lane / 4, column = lane % 4 * 2;
#pragma unroll
  for (int n = 0; n < WIDEST / 8; n++) {
    const float(&v)[4] = sums[n].v;
    u32* at = reinterpret_cast<u32*>(tile + row * TILE_ROW + n * 8 + column);
    at[0] = two_bf16(v[0] * upper, v[1] * upper);
    at[8 * TILE_ROW / 2] = two_bf16(v[2] * lower, v[3] * lower);
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 16 * WIDEST / 8 / WARP; i++) {
    int at = i * WARP + lane, own = warp_index() * 16 + at / (WIDEST / 8), channel = at % (WIDEST / 8) * 8;
    int token = first + own;
    if (token < h.tokens && channel < h.width)
      *reinterpret_cast<Pack<bf16>*>(to + part.start + token * part.step + channel) =
          *reinterpret_cast<const Pack<bf16>*>(tile + own * TILE_ROW + channel);
  }
  __syncwarp();  // the rows may be used again
}

// Whether all the rows that a warp owns lie beyond the tokens: it only helps to load.
DEVICE bool owns_nothing(int first, const Heads& h) { return first + warp_index() * 16 >= h.tokens; }

// Over the 4 lanes that share a row.
DEVICE float row_sum(float v) {
  v += __shfl_xor_sync(0xffffffffu, v, 1);
  return v + __shfl_xor_sync(0xffffffffu, v, 2);
}
DEVICE float row_max(float v) {
#pragma unroll
  for (int lane = 1; lane < 4; lane *= 2) {
    float other = __shfl_xor_sync(0xffffffffu, v, lane);
    v = other > v ? other : v;
  }
  return v;
}

static constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

// y = softmax(q k^T scale) v of each head, and the log of the sum of exp(q k^T scale) of each query, on tensor
// cores. Grid (tiles of 64 queries, heads, images), 128 threads.
KERNEL(attention_mma)(const bf16* qkv, bf16* y, float* log_sum, int tokens, int heads, int width, float scale) {
  constexpr int OTHERS = 64, N = OTHERS / 8;
  SHARED(Pack<bf16>, own_room, OWN * TILE_ROW / 8);
  SHARED(Pack<bf16>, key_room, OTHERS * TILE_ROW / 8);
  SHARED(Pack<bf16>, value_room, OTHERS * TILE_ROW / 8);
  bf16 *own = own_room->values, *keys = key_room->values, *values = value_room->values;
  Heads h = {tokens, heads, width};
  int first = static_cast<int>(blockIdx.x) * OWN, lane = lane_index();
  load_tile<OWN>(own, qkv, part_of(h, 0, 3), first, h);
  __syncthreads();
  Left queries[STEPS];
  load_own(queries, own);
  // Scores as powers of two. Of a lane's two rows: top, and the sum over this lane's keys.
  float unit = scale * LOG2_E, top[2] = {minus_infinity(), minus_infinity()}, sum[2] = {0.0f, 0.0f};
  Sums out[WIDEST / 8] = {};
  bool idle = owns_nothing(first, h);
  for (int tile = 0; tile < tokens; tile += OTHERS) {
    __syncthreads();  // the tile before has been used
    load_tile<OTHERS>(keys, qkv, part_of(h, 1, 3), tile, h);
    load_tile<OTHERS>(values, qkv, part_of(h, 2, 3), tile, h);
    __syncthreads();
    if (idle) continue;
    Sums s[N];
    products<N>(queries, keys, tokens - tile, s);
    float larger[2] = {top[0], top[1]};
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        bool some = tile + n * 8 + lane % 4 * 2 + i % 2 < tokens;
        s[n].v[i] = some ? s[n].v[i] * unit : minus_infinity();
        larger[i / 2] = s[n].v[i] > larger[i / 2] ? s[n].v[i] : larger[i / 2];
      }
    float shrink[2];
#pragma unroll
    for (int row = 0; row < 2; row++) {
      larger[row] = row_max(larger[row]);
      // -infinity less itself would be no number.
      shrink[row] = larger[row] == top[row] ? 1.0f : power_of_two(top[row] - larger[row]);
      top[row] = larger[row];
      sum[row] *= shrink[row];
    }
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        float p = s[n].v[i] == minus_infinity() ? 0.0f : power_of_two(s[n].v[i] - top[i / 2]);
        sum[i / 2] += p;
        s[n].v[i] = p;
      }
#pragma unroll
    for (int n = 0; n < WIDEST / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) out[n].v[i] *= shrink[i / 2];
    weigh<N>(s, values, tokens - tile, out);
  }
#pragma unroll
  for (int row = 0; row < 2; row++) {
    sum[row] = row_sum(sum[row]);
    int token = first + warp_index() * 16 + lane / 4 + row * 8;
    if (lane % 4 == 0 && token < tokens) log_sum[first_row(h) + token] = (top[row] + log2f(sum[row])) * LN_2;
  }
  store_own(y, part_of(h, 0, 1), first, h, out, 1.0f / sum[0], 1.0f / sum[1], own);
}

// ---- backward: the equations are in attention.cu ----

// The kernels of queries and of keys differ in who owns the rows of the scores. `log_sum` and `delta` belong
// to queries: to rows that a lane owns, or to columns, read from shared memory.
template <bool OWN_KEYS>
DEVICE void backward(const bf16* qkv, const bf16* dy, const float* log_sum, const float* delta, bf16* d_qkv,
                     const Heads& h, float scale) {
  constexpr int OTHERS = 32, N = OTHERS / 8;
  SHARED(Pack<bf16>, room, OWN * TILE_ROW / 8);
  SHARED(float, of_others, 2 * OTHERS);
  // The tiles of the others take the room of the own rows, once these are in registers.
  bf16 *own = room->values, *other_first = own, *other_second = own + OTHERS * TILE_ROW;
  int first = static_cast<int>(blockIdx.x) * OWN, lane = lane_index();
  // First: queries or keys, whose products are scores. Second: dy or values, whose products are dP.
  Part queries = part_of(h, 0, 3), keys = part_of(h, 1, 3), values = part_of(h, 2, 3), grads = part_of(h, 0, 1);
  Left firsts[STEPS], seconds[STEPS];
  load_tile<OWN>(own, qkv, OWN_KEYS ? keys : queries, first, h);
  __syncthreads();
  load_own(firsts, own);
  __syncthreads();
  load_tile<OWN>(own, OWN_KEYS ? qkv : dy, OWN_KEYS ? values : grads, first, h);
  __syncthreads();
  load_own(seconds, own);
  float unit = scale * LOG2_E, own_log[2] = {0.0f, 0.0f}, own_delta[2] = {0.0f, 0.0f};
  if constexpr (!OWN_KEYS) {
#pragma unroll
    for (int row = 0; row < 2; row++) {
      int token = first + warp_index() * 16 + lane / 4 + row * 8;
      if (token >= h.tokens) continue;
      own_log[row] = log_sum[first_row(h) + token] * LOG2_E;
      own_delta[row] = delta[first_row(h) + token];
    }
  }
  Sums by_slopes[WIDEST / 8] = {}, by_shares[WIDEST / 8] = {};
  bool idle = owns_nothing(first, h);
  for (int tile = 0; tile < h.tokens; tile += OTHERS) {
    __syncthreads();  // the tile before has been used
    load_tile<OTHERS>(other_first, qkv, OWN_KEYS ? queries : keys, tile, h);
    load_tile<OTHERS>(other_second, OWN_KEYS ? dy : qkv, OWN_KEYS ? grads : values, tile, h);
    if (OWN_KEYS && threadIdx.x < OTHERS) {
      int token = tile + static_cast<int>(threadIdx.x);
      bool some = token < h.tokens;
      of_others[threadIdx.x] = some ? log_sum[first_row(h) + token] * LOG2_E : 0.0f;
      of_others[OTHERS + threadIdx.x] = some ? delta[first_row(h) + token] : 0.0f;
    }
    __syncthreads();
    if (idle) continue;
    Sums p[N], slopes[N];
    products<N>(firsts, other_first, h.tokens - tile, p);
    products<N>(seconds, other_second, h.tokens - tile, slopes);
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int column = n * 8 + lane % 4 * 2 + i % 2;
        float log_of = OWN_KEYS ? of_others[column] : own_log[i / 2];
        float mean = OWN_KEYS ? of_others[OTHERS + column] : own_delta[i / 2];
        float share = tile + column < h.tokens ? power_of_two(p[n].v[i] * unit - log_of) : 0.0f;
        p[n].v[i] = share;
        slopes[n].v[i] = share * (slopes[n].v[i] - mean);
      }
    weigh<N>(slopes, other_first, h.tokens - tile, by_slopes);
    if constexpr (OWN_KEYS) weigh<N>(p, other_second, h.tokens - tile, by_shares);
  }
  __syncthreads();  // the last tile has been used
  store_own(d_qkv, OWN_KEYS ? keys : queries, first, h, by_slopes, scale, scale, own);
  if constexpr (OWN_KEYS) store_own(d_qkv, values, first, h, by_shares, 1.0f, 1.0f, own);
}

// The gradient of queries, to their part of d_qkv, on tensor cores. Grid (tiles of 64 queries, heads, images),
// 128 threads.
KERNEL(attention_mma_grad_queries)(const bf16* qkv, const bf16* dy, const float* log_sum, const float* delta,
                                   bf16* d_qkv, int tokens, int heads, int width, float scale) {
  backward<false>(qkv, dy, log_sum, delta, d_qkv, {tokens, heads, width}, scale);
}

// The gradients of keys and values, to their parts of d_qkv, on tensor cores. Grid (tiles of 64 keys, heads,
// images), 128 threads.
KERNEL(attention_mma_grad_keys)(const bf16* qkv, const bf16* dy, const float* log_sum, const float* delta,
                                bf16* d_qkv, int tokens, int heads, int width, float scale) {
  backward<true>(qkv, dy, log_sum, delta, d_qkv, {tokens, heads, width}, scale);
}
