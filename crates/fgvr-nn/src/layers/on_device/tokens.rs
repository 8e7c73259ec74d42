//! Patches as rows, and sequences of tokens.

use std::ops::Range;

use candle_core::{Result, Tensor};
use fgvr_cuda::Array;
use fgvr_cuda::ops::patches::{self, Patches};
use fgvr_cuda::ops::tokens::{self, Learnt, Taken, Tokens};

use crate::layers::PositionEmbedding;
use crate::{Device, Map, Tape};

/// Patches of (N, H, W, C), each a place of C*patch*patch channels: (N, H/patch, W/patch, C*patch*patch).
pub(in crate::layers) fn cut_patches(
    device: &Device,
    tape: &mut Tape,
    x: &Map,
    patch: usize,
) -> Result<Map> {
    let ([n, h, w, c], input) = (x.shape, x.array()?);
    let patches = Patches {
        map: x.shape,
        patch,
    };
    let rows = device.run(|m| patches::cut(m, input, &patches))?;
    let shape = [n, h / patch, w / patch, c * patch * patch];
    let rows = tape.map_on(device, shape, rows);
    if !tape.needs_gradient(x) {
        tape.make_constant(&rows);
        return Ok(rows);
    }
    let (id, device) = (x.id, device.clone());
    tape.push_on(&rows, move |dy, gradients| {
        let dx = device.run(|m| patches::join(m, &dy, &patches))?;
        gradients.add_array(id, dx)
    });
    Ok(rows)
}

/// The places of `x` after `prefix`, the values of `learnt` one after the other.
pub(in crate::layers) fn prepend_tokens(
    device: &Device,
    tape: &mut Tape,
    x: &Map,
    learnt: Vec<Tensor>,
    prefix: &[f32],
) -> Result<Map> {
    let ([n, h, w, c], input) = (x.shape, x.array()?);
    let shape = Tokens {
        images: n,
        places: h * w,
        channels: c,
    };
    // However many there are, the kernel sees one run of tokens.
    let values = device.run(|m| Array::from_f32(m, prefix))?;
    let y = device.run(|m| {
        let learnt = Learnt {
            tokens: &[&values],
            positions: None,
        };
        tokens::embed(m, input, shape, learnt)
    })?;
    let y = tape.map_on(device, [n, 1, prefix.len() / c.max(1) + h * w, c], y);
    let (id, device) = (x.id, device.clone());
    tape.push_on(&y, move |dy, gradients| {
        let made = device.run(|m| {
            let learnt = Learnt {
                tokens: &[&values],
                positions: None,
            };
            tokens::embed_grad(m, &dy, shape, learnt)
        })?;
        for of_prefix in &made.tokens {
            let mut of_prefix = device.values(of_prefix)?.into_iter();
            for token in &learnt {
                let of_token = of_prefix.by_ref().take(token.elem_count()).collect();
                gradients.add_parameter(token, of_token)?;
            }
        }
        gradients.add_array(id, made.x)
    });
    Ok(y)
}

/// Tokens `range` of (N, 1, T, C) as places (h, w).
pub(in crate::layers) fn take_tokens(
    device: &Device,
    tape: &mut Tape,
    x: &Map,
    range: Range<usize>,
    (h, w): (usize, usize),
) -> Result<Map> {
    let ([n, _, t, c], input) = (x.shape, x.array()?);
    let taken = Taken {
        sequences: [n, t, c],
        range,
    };
    let y = device.run(|m| tokens::take(m, input, &taken))?;
    let y = tape.map_on(device, [n, h, w, c], y);
    let (id, device) = (x.id, device.clone());
    tape.push_on(&y, move |dy, gradients| {
        let dx = match gradients.take_array(id)? {
            Some(dx) => {
                device.run(|m| tokens::add_taken(m, &dx, &dy, &taken))?;
                dx
            }
            None => device.run(|m| tokens::take_grad(m, &dy, &taken))?,
        };
        gradients.add_array(id, dx)
    });
    Ok(y)
}

/// The embedding for patches on `grid` added to each sequence of `x`.
pub(in crate::layers) fn add_positions(
    device: &Device,
    tape: &mut Tape,
    layer: &PositionEmbedding,
    x: &Map,
    grid: [usize; 2],
) -> Result<Map> {
    let ([n, h, w, c], input) = (x.shape, x.array()?);
    let shape = Tokens {
        images: n,
        places: h * w,
        channels: c,
    };
    // Where the grid is another, the table is small enough to be resized before it is sent.
    let table = layer.with_table(grid, |table| device.run(|m| Array::from_f32(m, table)))??;
    let y = device.run(|m| tokens::embed(m, input, shape, of_positions(&table)))?;
    let y = tape.map_on(device, x.shape, y);
    let (id, device, embedding) = (x.id, device.clone(), layer.clone());
    tape.push_on(&y, move |dy, gradients| {
        let made = device.run(|m| tokens::embed_grad(m, &dy, shape, of_positions(&table)))?;
        if let Some(sums) = &made.positions {
            let sums = embedding.resize_grad(device.values(sums)?, grid);
            gradients.add_parameter(embedding.table(), sums)?;
        }
        gradients.add_array(id, made.x)
    });
    Ok(y)
}

fn of_positions(table: &Array) -> Learnt<'_> {
    Learnt {
        tokens: &[],
        positions: Some(table),
    }
}
