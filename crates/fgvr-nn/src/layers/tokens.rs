//! Sequences of tokens, (N, 1, T, C) on the tape.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::on_device;
use crate::kernels::rows;
use crate::tape::with_values;
use crate::{Activation, Buffer, Tape};

/// The places of `x` (N, H, W, C) as one sequence, with the learnt `tokens`, each (1, k, C), before
/// those of every image: (N, 1, k + .. + H*W, C).
///
/// # Errors
/// Tokens of another shape.
pub fn prepend_tokens(tape: &mut Tape, x: &Activation, tokens: &[&Tensor]) -> Result<Activation> {
    let [n, h, w, c] = x.shape;
    let mut prefix = Vec::new();
    for token in tokens {
        match *token.dims() {
            [1, _, channels] if channels == c => {}
            _ => bail!(
                "prepend_tokens: expected (1, k, {c}), found {:?}",
                token.dims()
            ),
        }
    }
    if let Some(device) = tape.device().cloned() {
        // Two kinds are what a kernel takes at once.
        let (first, last) = tokens.split_at(tokens.len().saturating_sub(2));
        let mut y = on_device::prepend_tokens(&device, tape, x, last)?;
        for pair in first.rchunks(2) {
            y = on_device::prepend_tokens(&device, tape, &y, pair)?;
        }
        return Ok(y);
    }
    for token in tokens {
        with_values(token, |values| prefix.extend_from_slice(values))?;
    }
    let tokens: Vec<Tensor> = tokens.iter().map(|token| (*token).clone()).collect();
    let (before, rest) = (prefix.len(), h * w * c);
    let mut y = Buffer::scratch(n * (before + rest));
    y.par_chunks_mut((before + rest).max(1))
        .zip(x.host()?.par_chunks(rest.max(1)))
        .for_each(|(y, x)| {
            let (first, last) = y.split_at_mut(before);
            first.copy_from_slice(&prefix);
            last.copy_from_slice(x);
        });
    let y = tape.map([n, 1, before / c.max(1) + h * w, c], y);
    let id = x.id;
    tape.push(&y, move |dy, gradients| {
        let mut dx = Buffer::scratch(n * rest);
        let mut of_prefix = vec![0f64; before];
        let images = dy.chunks((before + rest).max(1));
        for (dy, dx) in images.zip(dx.chunks_mut(rest.max(1))) {
            dx.copy_from_slice(&dy[before..]);
            let sums = of_prefix.iter_mut().zip(dy);
            sums.for_each(|(sum, d)| *sum += f64::from(*d));
        }
        let mut of_prefix = of_prefix.iter().map(|sum| *sum as f32);
        for token in &tokens {
            let of_token = of_prefix.by_ref().take(token.elem_count()).collect();
            gradients.add_parameter(token, of_token)?;
        }
        gradients.add(id, dx);
        Ok(())
    });
    Ok(y)
}

/// Tokens `range` of each sequence of (N, 1, T, C), as a map of `places` = (h, w).
///
/// # Errors
/// A map of more than one row, tokens that it does not have, or as many as do not fill `places`.
pub fn take_tokens(
    tape: &mut Tape,
    x: &Activation,
    range: Range<usize>,
    (h, w): (usize, usize),
) -> Result<Activation> {
    let [n, rows, tokens, c] = x.shape;
    if rows != 1 || range.end > tokens || range.start > range.end || range.len() != h * w {
        bail!(
            "take_tokens: {range:?} as {h} x {w} of a map of {rows} x {tokens}; expected one row that \
             has these tokens"
        );
    }
    if let Some(device) = tape.device().cloned() {
        return on_device::take_tokens(&device, tape, x, range, (h, w));
    }
    let (of_image, range) = (tokens * c, range.start * c..range.end * c);
    let mut y = Buffer::scratch(n * range.len());
    let images = x.host()?.chunks(of_image.max(1));
    for (y, x) in y.chunks_mut(range.len().max(1)).zip(images) {
        y.copy_from_slice(&x[range.clone()]);
    }
    let y = tape.map([n, h, w, c], y);
    let id = x.id;
    tape.push(&y, move |dy, gradients| {
        // Most of a sequence, or a token of it, is taken: what is there already is added to.
        let mut dx = match gradients.take(id) {
            Some(dx) => dx,
            None => Buffer::zeros(n * of_image),
        };
        let images = dx.chunks_mut(of_image.max(1));
        for (dx, dy) in images.zip(dy.chunks(range.len().max(1))) {
            rows::add(&mut dx[range.clone()], dy);
        }
        gradients.add(id, dx);
        Ok(())
    });
    Ok(y)
}
