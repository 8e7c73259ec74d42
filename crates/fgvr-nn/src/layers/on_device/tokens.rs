//! Patches as rows, and sequences of tokens.

use std::ops::Range;

use candle_core::{Result, Tensor};
use fgvr_cuda::Array;
use fgvr_cuda::ops::patches::{self, Patches};
use fgvr_cuda::ops::tokens::{self, Learnt, Taken, Tokens};

use crate::layers::PositionEmbedding;
use crate::{Activation, Device, Tape};

/// Patches of (N, H, W, C), each a place of C*patch*patch channels: (N, H/patch, W/patch, C*patch*patch).
pub(in crate::layers) fn cut_patches(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
    patch: usize,
) -> Result<Activation> {
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

/// The places of `x` after those of `learnt`, each (1, k, C).
pub(in crate::layers) fn prepend_tokens(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
    learnt: &[&Tensor],
) -> Result<Activation> {
    let ([n, h, w, c], input) = (x.shape, x.array()?);
    let shape = Tokens {
        images: n,
        places: h * w,
        channels: c,
    };
    let values = learnt.iter().map(|token| device.parameter(token));
    let values = values.collect::<Result<Vec<Array>>>()?;
    let y = device.run(|m| tokens::embed(m, input, shape, of_tokens(&refs(&values))))?;
    let prefix: usize = learnt
        .iter()
        .map(|token| token.elem_count() / c.max(1))
        .sum();
    let y = tape.map_on(device, [n, 1, prefix + h * w, c], y);
    let (id, device) = (x.id, device.clone());
    let learnt: Vec<Tensor> = learnt.iter().map(|token| (*token).clone()).collect();
    tape.push_on(&y, move |dy, gradients| {
        let made = device.run(|m| tokens::embed_grad(m, &dy, shape, of_tokens(&refs(&values))))?;
        for (token, of_token) in learnt.iter().zip(made.tokens) {
            gradients.add_parameter_array(token, of_token);
        }
        gradients.add_array(id, made.x)
    });
    Ok(y)
}

/// Tokens `range` of (N, 1, T, C) as places (h, w).
pub(in crate::layers) fn take_tokens(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
    range: Range<usize>,
    (h, w): (usize, usize),
) -> Result<Activation> {
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

/// The channels of `a` (N, 1, 1, C), then those of `b`: two tokens of a sequence, whose values lie as those of one of
/// twice as many channels.
pub(in crate::layers) fn join_vectors(
    device: &Device,
    tape: &mut Tape,
    a: &Activation,
    b: &Activation,
) -> Result<Activation> {
    let [n, _, _, c] = a.shape;
    let token = move |at: usize| Taken {
        sequences: [n, 2, c],
        range: at..at + 1,
    };
    let (first, second) = (a.array()?, b.array()?);
    let y = device.run(|m| {
        let y = tokens::take_grad(m, first, &token(0))?;
        tokens::add_taken(m, &y, second, &token(1))?;
        Ok(y)
    })?;
    let y = tape.map_on(device, [n, 1, 1, 2 * c], y);
    let (ids, device) = ([a.id, b.id], device.clone());
    tape.push_on(&y, move |dy, gradients| {
        for (at, id) in ids.into_iter().enumerate() {
            let dx = device.run(|m| tokens::take(m, &dy, &token(at)))?;
            gradients.add_array(id, dx)?;
        }
        Ok(())
    });
    Ok(y)
}

/// The embedding for patches on `grid` added to each sequence of `x`.
pub(in crate::layers) fn add_positions(
    device: &Device,
    tape: &mut Tape,
    layer: &PositionEmbedding,
    x: &Activation,
    grid: [usize; 2],
) -> Result<Activation> {
    let ([n, h, w, c], input) = (x.shape, x.array()?);
    let shape = Tokens {
        images: n,
        places: h * w,
        channels: c,
    };
    let table = device.positions(layer, grid)?;
    let y = device.run(|m| tokens::embed(m, input, shape, of_positions(&table)))?;
    let y = tape.map_on(device, x.shape, y);
    let (id, device, embedding) = (x.id, device.clone(), layer.clone());
    tape.push_on(&y, move |dy, gradients| {
        let made = device.run(|m| tokens::embed_grad(m, &dy, shape, of_positions(&table)))?;
        match made.positions {
            Some(sums) if grid == embedding.grid() => {
                gradients.add_parameter_array(embedding.table(), sums);
            }
            Some(sums) => {
                let sums = embedding.resize_grad(device.values(&sums)?, grid);
                gradients.add_parameter(embedding.table(), sums)?;
            }
            None => {}
        }
        gradients.add_array(id, made.x)
    });
    Ok(y)
}

impl Device {
    /// The embedding for patches on `grid`. One of another grid is resized on the CPU: it is small.
    fn positions(&self, layer: &PositionEmbedding, grid: [usize; 2]) -> Result<Array> {
        if grid == layer.grid() {
            return self.parameter(layer.table());
        }
        let table = match self.resident(layer.table()) {
            None => layer.with_table(grid, <[f32]>::to_vec)?,
            Some(table) => layer.resized(&self.values(&table)?, grid),
        };
        self.run(|m| Array::from_f32(m, &table))
    }
}

fn refs(arrays: &[Array]) -> Vec<&Array> {
    arrays.iter().collect()
}

fn of_tokens<'a>(tokens: &'a [&'a Array]) -> Learnt<'a> {
    Learnt {
        tokens,
        positions: None,
    }
}

fn of_positions(table: &Array) -> Learnt<'_> {
    Learnt {
        tokens: &[],
        positions: Some(table),
    }
}
