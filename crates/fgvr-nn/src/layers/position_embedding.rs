//! A learnt vector for each place of a grid of patches (arXiv:2010.11929), at any size of grid.

use std::borrow::Cow;

use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use super::on_device;
use crate::kernels::{bicubic, rows};
use crate::tape::with_values;
use crate::{Activation, Buffer, Tape};

/// Added to the tokens of each image; variable `pos_embed` (1, prefix + rows * columns, C), of which
/// the first `prefix` belong to tokens that have no place.
///
/// Patches on another grid get the embedding of theirs resized, by bicubic interpolation with
/// antialiasing; the gradient goes back through it.
#[derive(Clone, Debug)]
pub struct PositionEmbedding {
    table: Tensor,
    prefix: usize,
    grid: [usize; 2],
    channels: usize,
}

impl PositionEmbedding {
    /// An embedding of `grid` = (rows, columns) places after `prefix` tokens, that starts normal with
    /// `stdev`.
    ///
    /// # Errors
    /// A size of zero (`prefix` may be zero), or a variable that `vb` cannot give.
    pub fn new(
        channels: usize,
        prefix: usize,
        grid: [usize; 2],
        stdev: f64,
        vb: VarBuilder,
    ) -> Result<Self> {
        if channels == 0 || grid.contains(&0) {
            bail!("position_embedding: {grid:?} places of {channels} channels: a size is zero");
        }
        let init = Init::Randn { mean: 0., stdev };
        let shape = (1, prefix + grid[0] * grid[1], channels);
        Ok(Self {
            table: vb.get_with_hints(shape, "pos_embed", init)?,
            prefix,
            grid,
            channels,
        })
    }

    /// The embedding (1, prefix + rows * columns, C).
    #[must_use]
    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// Rows and columns of the grid that the embedding was made for.
    pub(super) fn grid(&self) -> [usize; 2] {
        self.grid
    }

    /// Adds the embedding to each sequence of `x` (N, H, W, C), which holds the tokens of the prefix
    /// and then those of `grid` places in H * W.
    ///
    /// # Errors
    /// Another number of channels or tokens.
    pub fn apply(&self, tape: &mut Tape, x: &Activation, grid: [usize; 2]) -> Result<Activation> {
        let [_, h, w, c] = x.shape;
        let tokens = self.prefix + grid[0] * grid[1];
        if (h * w, c) != (tokens, self.channels) || grid.contains(&0) {
            bail!(
                "position_embedding: expected {tokens} tokens ({grid:?} places) of {} channels, found \
                 {} of {c}",
                self.channels,
                h * w
            );
        }
        if let Some(device) = tape.device().cloned() {
            return on_device::add_positions(&device, tape, self, x, grid);
        }
        let mut y = Buffer::from_slice(x.host()?);
        self.with_table(grid, |table| {
            let images = y.chunks_mut(table.len());
            images.for_each(|y| rows::add(y, table));
        })?;
        let y = tape.map(x.shape, y);
        let (id, embedding) = (x.id, self.clone());
        tape.push(&y, move |dy, gradients| {
            let sums = rows::sum_rows(&dy, tokens * c);
            let sums: Vec<f32> = sums.iter().map(|s| *s as f32).collect();
            gradients.add_parameter(&embedding.table, embedding.resize_grad(sums, grid))?;
            gradients.add(id, dy);
            Ok(())
        });
        Ok(y)
    }

    /// Runs `f` over the embedding for patches on `grid`, (prefix + rows * columns, C).
    ///
    /// # Errors
    /// A variable that is not f32 on the CPU.
    pub fn with_table<R>(&self, grid: [usize; 2], f: impl FnOnce(&[f32]) -> R) -> Result<R> {
        with_values(&self.table, |table| {
            f(&resized(table, self.prefix, self.grid, grid, self.channels))
        })
    }

    /// `table`, values of the variable, for patches on `grid`.
    pub(super) fn resized(&self, table: &[f32], grid: [usize; 2]) -> Vec<f32> {
        resized(table, self.prefix, self.grid, grid, self.channels).into_owned()
    }

    /// The embedding as it is now, whatever becomes of the variable.
    ///
    /// # Errors
    /// None in practice.
    pub fn snapshot(&self) -> Result<Self> {
        Ok(Self {
            table: self.table.copy()?.detach(),
            ..self.clone()
        })
    }

    /// The gradient of the variable from that of the embedding for patches on `grid`.
    pub(super) fn resize_grad(&self, mut dy: Vec<f32>, grid: [usize; 2]) -> Vec<f32> {
        if grid == self.grid {
            return dy;
        }
        let (prefix, [h, w], c) = (self.prefix * self.channels, self.grid, self.channels);
        let of_grid = dy.split_off(prefix);
        dy.resize(prefix + h * w * c, 0.);
        bicubic::resize_grad(&of_grid, [h, w, c], grid, &mut dy[prefix..]);
        dy
    }
}

/// `table` (prefix + places of `from`, C) for the places of `to`.
fn resized(
    table: &[f32],
    prefix: usize,
    from: [usize; 2],
    to: [usize; 2],
    c: usize,
) -> Cow<'_, [f32]> {
    if from == to {
        return Cow::Borrowed(table);
    }
    let (first, of_grid) = table.split_at(prefix * c);
    let mut out = first.to_vec();
    out.resize((prefix + to[0] * to[1]) * c, 0.);
    let of_new = &mut out[first.len()..];
    bicubic::resize(of_grid, [from[0], from[1], c], to, of_new);
    Cow::Owned(out)
}

/// A position embedding `table` (1, prefix + n², C) of a square grid, for a grid of `to` = (rows,
/// columns): what timm's `resample_abs_pos_embed` makes of it.
///
/// # Errors
/// Another shape, a grid of zero places, or values that are not f32 on the CPU.
pub fn resize_position_embedding(table: &Tensor, prefix: usize, to: [usize; 2]) -> Result<Tensor> {
    let (one, tokens, c) = table.dims3()?;
    let side = tokens.saturating_sub(prefix).isqrt();
    if one != 1 || c == 0 || side == 0 || prefix + side * side != tokens || to.contains(&0) {
        bail!(
            "position embedding: {:?} for a grid of {to:?}; expected (1, {prefix} + a square number, C) \
             and no size of zero",
            table.dims()
        );
    }
    let values = with_values(table, |table| {
        resized(table, prefix, [side, side], to, c).into_owned()
    })?;
    Tensor::from_vec(values, (1, prefix + to[0] * to[1], c), table.device())
}
