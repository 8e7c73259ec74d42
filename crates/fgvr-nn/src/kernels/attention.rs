//! Softmax attention of several heads (arXiv:1706.03762, eq. 1), and its gradient.
//!
//! Work is cut into (image, head). Queries are taken some at a time, so that no more rows of scores
//! than that exist per task; backward computes the scores again instead of keeping them.

use rayon::prelude::*;

use super::conv::{PackedMatrix, Rows};
use super::matmul::{Matrix, matmul};
use super::rows;
use super::simd;
use super::softmax;
use super::target::Target;
use crate::Buffer;

/// Queries whose scores the backward holds at once.
const QUERIES: usize = 256;

/// Queries whose scores the forward holds at once: with 200 tokens they stay in a second-level cache,
/// beside keys and values. Whole register tiles.
const TOGETHER: usize = 56;

/// `images` sequences of `tokens` tokens, `heads` heads of `width` channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Number of sequences.
    pub images: usize,
    /// Tokens of a sequence.
    pub tokens: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of a head.
    pub width: usize,
}

/// Queries, keys and values: the thirds of a token's channels, in this order.
const PARTS: usize = 3;

impl AttentionShape {
    fn channels(&self) -> usize {
        self.heads * self.width
    }

    /// 1 / sqrt(width).
    fn scale(&self) -> f32 {
        (1. / (self.width as f64).sqrt()) as f32
    }

    /// Values of one (image, head), (tokens, width).
    fn head_len(&self) -> usize {
        self.tokens * self.width
    }

    /// Rows of one head, (tokens, width), of part `part` of `x` (images, tokens, parts * channels),
    /// times `scale`.
    fn pack(&self, x: &[f32], task: usize, (part, parts): (usize, usize), scale: f32) -> Buffer {
        let mut out = Buffer::scratch(self.head_len());
        let (image, head) = (task / self.heads, task % self.heads);
        let row = parts * self.channels();
        let start = part * self.channels() + head * self.width;
        let tokens = x[image * self.tokens * row..].chunks(row);
        for (out, x) in out.chunks_mut(self.width).zip(tokens) {
            let x = &x[start..start + self.width];
            out.iter_mut().zip(x).for_each(|(o, x)| *o = x * scale);
        }
        out
    }

    /// The reverse for all heads: `heads` holds, per (image, head), its parts one after the other,
    /// each (tokens, width); `y` is (images, tokens, parts * channels).
    fn unpack(&self, heads: &[f32], parts: usize, y: &mut [f32]) {
        let (len, row) = (self.head_len(), parts * self.channels());
        y.par_chunks_mut((self.tokens * row).max(1))
            .zip(heads.par_chunks((self.heads * parts * len).max(1)))
            .for_each(|(y, heads)| {
                for (head, values) in heads.chunks(parts * len).enumerate() {
                    for (part, values) in values.chunks(len).enumerate() {
                        let start = part * self.channels() + head * self.width;
                        for (y, values) in y.chunks_mut(row).zip(values.chunks(self.width)) {
                            y[start..start + self.width].copy_from_slice(values);
                        }
                    }
                }
            });
    }
}

/// softmax(q kᵀ) of a block of scaled queries, (queries, tokens).
fn shares_of(q: Matrix<'_>, k: Matrix<'_>, tokens: usize, out: &mut [f32]) {
    matmul(q, k.t(), out);
    softmax::forward_rows(simd::level(), out, tokens);
}

/// y = softmax(q kᵀ / sqrt(width)) v for each head. `qkv` is (images, tokens, 3 * heads * width), `y`
/// (images, tokens, heads * width); no size is zero.
pub fn forward(shape: &AttentionShape, qkv: &[f32], y: &mut [f32]) {
    forward_of(shape, shape.tokens, qkv, y);
}

/// As [`forward`], of the first `queries` tokens of each sequence alone: `y` is (images, queries,
/// heads * width).
///
/// # Panics
/// Slices of other lengths than the shape's: a fault of the caller.
pub fn forward_of(shape: &AttentionShape, queries: usize, qkv: &[f32], y: &mut [f32]) {
    let AttentionShape {
        images,
        tokens,
        heads,
        width,
    } = *shape;
    let (level, channels) = (simd::level(), shape.channels());
    let row = PARTS * channels;
    assert!(
        queries <= tokens
            && qkv.len() == images * tokens * row
            && y.len() == images * queries * channels,
        "attention: {shape:?}, {queries} queries, {} values to {}",
        qkv.len(),
        y.len()
    );
    let target = Target::new(y);
    (0..images * heads).into_par_iter().for_each(|task| {
        let (image, head) = (task / heads, task % heads);
        let sequence = &qkv[image * tokens * row..][..tokens * row];
        let value = |part: usize, token: usize, channel: usize| {
            sequence[token * row + part * channels + head * width + channel]
        };
        let scale = shape.scale();
        let keys = PackedMatrix::new(level, [width, tokens], |j, t| scale * value(1, t, j));
        let values = PackedMatrix::new(level, [tokens, width], |t, j| value(2, t, j));
        let mut scores = Buffer::scratch(TOGETHER.min(queries) * tokens);
        for first in (0..queries).step_by(TOGETHER) {
            let count = TOGETHER.min(queries - first);
            let of_queries = Rows {
                start: first * row + head * width,
                stride: row,
                count,
            };
            let of_scores = Rows {
                start: 0,
                stride: tokens,
                count,
            };
            let of_output = Rows {
                start: 0,
                stride: channels,
                count,
            };
            let scores = &mut scores[..count * tokens];
            let place = (image * queries + first) * channels + head * width;
            // SAFETY: `scores` has `count` rows of `tokens` values. `y` has the channels of this
            // head from `place` in `count` rows of `channels`, and no other task has this image and
            // head.
            unsafe {
                keys.multiply_to(sequence, of_queries, scores.as_mut_ptr(), of_scores);
                softmax::forward_rows(level, scores, tokens);
                let target = target.at(place, (count - 1) * channels + width);
                values.multiply_to(scores, of_scores, target, of_output);
            }
        }
    });
}

/// softmax(q kᵀ / sqrt(width)) for each head: `out` is (images, heads, tokens, tokens), a row for each
/// query. What [`forward`] weighs the values with and does not keep, up to rounding.
pub fn shares(shape: &AttentionShape, qkv: &[f32], out: &mut [f32]) {
    let AttentionShape { tokens, width, .. } = *shape;
    out.par_chunks_mut(tokens * tokens)
        .enumerate()
        .for_each(|(task, out)| {
            let q = shape.pack(qkv, task, (0, PARTS), shape.scale());
            let k = shape.pack(qkv, task, (1, PARTS), 1.);
            let (q, k) = (
                Matrix::new(&q, tokens, width),
                Matrix::new(&k, tokens, width),
            );
            shares_of(q, k, tokens, out);
        });
}

/// What the first token of each sequence gives to each key, mean over heads: `out` is (images, tokens).
///
/// # Panics
/// Slices of other lengths than the shape's: a fault of the caller.
pub fn first_shares(shape: &AttentionShape, qkv: &[f32], out: &mut [f32]) {
    let AttentionShape {
        images,
        tokens,
        heads,
        width,
    } = *shape;
    let (channels, row) = (shape.channels(), PARTS * shape.channels());
    assert!(
        qkv.len() == images * tokens * row && out.len() == images * tokens,
        "attention: {shape:?}, {} values to {}",
        qkv.len(),
        out.len()
    );
    out.par_chunks_mut(tokens)
        .zip(qkv.par_chunks(tokens * row))
        .for_each(|(out, sequence)| {
            let mut scores = vec![0.; tokens];
            out.fill(0.);
            for head in (0..channels).step_by(width) {
                let query = &sequence[head..head + width];
                for (score, token) in scores.iter_mut().zip(sequence.chunks(row)) {
                    let key = &token[channels + head..channels + head + width];
                    let product: f32 = query.iter().zip(key).map(|(q, k)| q * k).sum();
                    *score = product * shape.scale();
                }
                softmax::forward_rows(simd::level(), &mut scores, tokens);
                let share = 1. / heads as f32;
                out.iter_mut()
                    .zip(&scores)
                    .for_each(|(o, s)| *o += s * share);
            }
        });
}

/// The gradient of `qkv`; overwrites `d_qkv`.
///
/// With P = softmax(S), S = q kᵀ / sqrt(width), y = P v:
/// dv = Pᵀ dy,  dP = dy vᵀ,  dS = P (dP - sum dP P),  dq = dS k / sqrt(width),  dk = dSᵀ q / sqrt(width)
pub fn backward(shape: &AttentionShape, qkv: &[f32], dy: &[f32], d_qkv: &mut [f32]) {
    let AttentionShape { tokens, width, .. } = *shape;
    let len = shape.head_len();
    let mut heads = Buffer::scratch(d_qkv.len());
    heads
        .par_chunks_mut(PARTS * len)
        .enumerate()
        .for_each(|(task, out)| {
            let q = shape.pack(qkv, task, (0, PARTS), shape.scale());
            let [k, v] = [1, 2].map(|part| shape.pack(qkv, task, (part, PARTS), 1.));
            let dy = shape.pack(dy, task, (0, 1), 1.);
            let (k, v) = (
                Matrix::new(&k, tokens, width),
                Matrix::new(&v, tokens, width),
            );
            let (dq, rest) = out.split_at_mut(len);
            let (dk, dv) = rest.split_at_mut(len);
            dk.fill(0.);
            dv.fill(0.);
            let size = QUERIES.min(tokens) * tokens;
            let (mut block, mut d_block) = (Buffer::scratch(size), Buffer::scratch(size));
            let mut product = Buffer::scratch(len);
            let blocks = q.chunks(QUERIES * width).zip(dy.chunks(QUERIES * width));
            for ((q, dy), dq) in blocks.zip(dq.chunks_mut(QUERIES * width)) {
                let rows = q.len() / width;
                let (p, ds) = (&mut block[..rows * tokens], &mut d_block[..rows * tokens]);
                let (q, dy) = (Matrix::new(q, rows, width), Matrix::new(dy, rows, width));
                shares_of(q, k, tokens, p);
                matmul(Matrix::new(p, rows, tokens).t(), dy, &mut product);
                rows::add(dv, &product);
                matmul(dy, v.t(), ds);
                softmax::backward_rows(simd::level(), ds, p, tokens);
                let ds = Matrix::new(ds, rows, tokens);
                matmul(ds, k, dq);
                // The scale is in q already.
                matmul(ds.t(), q, &mut product);
                rows::add(dk, &product);
                dq.iter_mut().for_each(|d| *d *= shape.scale());
            }
        });
    shape.unpack(&heads, PARTS, d_qkv);
}
