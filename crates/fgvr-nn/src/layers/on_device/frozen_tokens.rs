//! What a transformer is made of, for inference: linear layers, norms, tokens and attention.

use std::sync::{Mutex, PoisonError};

use candle_core::{Device as Candle, Result, Tensor, bail};
use fgvr_cuda::ops::elementwise::{self, AfterBias};
use fgvr_cuda::ops::tokens::{self, Learnt, Tokens};
use fgvr_cuda::ops::{ActivationFunction, Rows, gelu, layer_norm};
use fgvr_cuda::{Array, Product};

use super::places::widened;
use super::{attention, cut_patches};
use crate::kernels::attention::AttentionShape;
use crate::layers::frozen_linear::fold;
use crate::layers::{LayerNorm, Linear, LinearFinish, PatchEmbed, PositionEmbedding};
use crate::tape::with_values;
use crate::{Activation, Device, Tape};

/// Grids whose position embeddings are kept.
const KEPT: usize = 2;

/// The [`FrozenLinear`](crate::layers::FrozenLinear) of a device, whose weights are copied there once.
pub struct DeviceLinear {
    device: Device,
    /// (O, I), of the type of maps.
    weight: Array,
    /// (O), f32.
    bias: Array,
    c_in: usize,
    c_out: usize,
}

impl DeviceLinear {
    /// `layer`, with output channel o multiplied by `scale[o]` where there is one.
    ///
    /// # Errors
    /// Variables that are not f32 on the CPU; a scale of another length; what a GPU says.
    pub fn new(device: &Device, layer: &Linear, scale: Option<&[f32]>) -> Result<Self> {
        let (weight, bias) = fold(layer, scale)?;
        Ok(Self {
            weight: device.run(|m| Array::from_reals(m, device.real(), &weight))?,
            bias: device.run(|m| Array::from_f32(m, &bias))?,
            device: device.clone(),
            c_in: layer.c_in(),
            c_out: layer.c_out(),
        })
    }

    /// (N, H, W, O) of `x` (N, H, W, I), and what follows.
    ///
    /// # Errors
    /// Another number of channels, a map that is not on a device; what a GPU says.
    pub fn apply(
        &self,
        tape: &mut Tape,
        x: &Activation,
        finish: LinearFinish,
    ) -> Result<Activation> {
        let y = self.run(tape, x, None)?;
        match finish {
            LinearFinish::Replace => Ok(y),
            LinearFinish::Gelu => {
                let input = y.array()?;
                let z = self.device.run(|m| gelu::forward(m, input))?;
                Ok(tape.map_on(&self.device, y.shape, z))
            }
        }
    }

    /// `y` (N, H, W, O) plus what the layer makes of `x` (N, H, W, I): the end of a residual branch.
    ///
    /// # Errors
    /// Another number of channels, a map that is not on a device; what a GPU says; a `y` of another shape.
    pub fn apply_add(&self, tape: &mut Tape, x: &Activation, y: &Activation) -> Result<Activation> {
        self.run(tape, x, Some(y))
    }

    fn run(
        &self,
        tape: &mut Tape,
        x: &Activation,
        residual: Option<&Activation>,
    ) -> Result<Activation> {
        let [n, h, w, c] = x.shape;
        let (out, residual_shape) = ([n, h, w, self.c_out], residual.map(|map| map.shape));
        if c != self.c_in || residual_shape.is_some_and(|shape| shape != out) {
            bail!(
                "frozen_linear: {:?} to {out:?} with {} to {} channels and a residual of {residual_shape:?}",
                x.shape,
                self.c_in,
                self.c_out
            );
        }
        // (rows, I) x (O, I)T -> (rows, O)
        let product = Product {
            m: n * h * w,
            n: self.c_out,
            k: self.c_in,
            a_transposed: false,
            b_transposed: true,
        };
        let after = AfterBias {
            residual: residual.map(Activation::array).transpose()?,
            activation: ActivationFunction::Identity,
        };
        let (input, y) = (x.array()?, self.device.map(product.m * product.n)?);
        let rows = Rows::new(product.m, product.n);
        let y = self.device.run(|m| {
            m.multiply(&product, [input, &self.weight, &y], false)?;
            elementwise::add_bias(m, &y, rows, &self.bias, after)
        })?;
        Ok(tape.map_on(&self.device, out, y))
    }
}

/// A [`LayerNorm`] as it was when it was frozen, on a device.
pub struct DeviceNorm {
    device: Device,
    weight: Array,
    bias: Array,
    eps: f64,
}

impl DeviceNorm {
    /// `layer`, on `device`.
    ///
    /// # Errors
    /// Variables that are not f32 on the CPU; what a GPU says.
    pub fn new(device: &Device, layer: &LayerNorm) -> Result<Self> {
        let upload =
            |tensor| with_values(tensor, |values| device.run(|m| Array::from_f32(m, values)))?;
        Ok(Self {
            weight: upload(layer.weight())?,
            bias: upload(layer.bias())?,
            device: device.clone(),
            eps: layer.eps(),
        })
    }

    /// The norm of each place of `x` (N, H, W, C).
    ///
    /// # Errors
    /// Another number of channels, a map that is not on a device; what a GPU says.
    pub fn apply(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        let y = self.run(x.array()?, x.shape)?;
        Ok(tape.map_on(&self.device, x.shape, y))
    }

    /// The norm of the one place of each image of `x` (N, 1, 1, C) as a tensor (N, C): f32 whatever the type of
    /// the map.
    ///
    /// # Errors
    /// Another number of channels, a map that is not on a device; what a GPU says; a map of more places.
    pub fn vectors(&self, x: &Activation) -> Result<Tensor> {
        let [n, h, w, c] = x.shape;
        if (h, w) != (1, 1) {
            bail!("frozen_norm: expected a map of one place, found {h}x{w}");
        }
        let input = x.array()?;
        let y = self.run(&self.device.run(|m| widened(m, input))?, x.shape)?;
        Tensor::from_vec(self.device.values(&y)?, (n, c), &Candle::Cpu)
    }

    fn run(&self, x: &Array, [n, h, w, c]: [usize; 4]) -> Result<Array> {
        let (rows, affine) = (Rows::new(n * h * w, c), [&self.weight, &self.bias]);
        let (y, _) = self
            .device
            .run(|m| layer_norm::forward(m, x, rows, affine, self.eps))?;
        Ok(y)
    }
}

/// Patches of images as tokens, learnt tokens before them, positions added: as they were when they were frozen, on
/// a device.
pub struct DeviceTokens {
    device: Device,
    /// For its shapes alone.
    patches: PatchEmbed,
    patch: usize,
    proj: DeviceLinear,
    prefix: Array,
    positions: PositionEmbedding,
    /// The last used first.
    tables: Mutex<Vec<([usize; 2], Array)>>,
}

impl DeviceTokens {
    /// Tokens of `patches`, each of side `patch`, after `prefix` (k * C values), with `positions`: of all tokens, or of
    /// the patches alone.
    ///
    /// # Errors
    /// Variables that are not f32 on the CPU; what a GPU says.
    pub fn new(
        device: &Device,
        (patches, patch): (&PatchEmbed, usize),
        prefix: &[f32],
        positions: &PositionEmbedding,
    ) -> Result<Self> {
        Ok(Self {
            device: device.clone(),
            patches: patches.clone(),
            patch,
            proj: DeviceLinear::new(device, patches.proj(), None)?,
            prefix: device.run(|m| Array::from_f32(m, prefix))?,
            positions: positions.snapshot()?,
            tables: Mutex::default(),
        })
    }

    /// (N, 1, k + H/patch * W/patch, C) of images (N, H, W, 3), and the patches' rows and columns.
    ///
    /// # Errors
    /// Images of other channels or not of whole patches; what a GPU says.
    pub fn apply(&self, tape: &mut Tape, images: &Activation) -> Result<(Activation, [usize; 2])> {
        let [n, h, w, c] = self.patches.output(images.shape)?;
        let rows = cut_patches(&self.device, tape, images, self.patch)?;
        let x = self.proj.apply(tape, &rows, LinearFinish::Replace)?;
        let (input, table) = (x.array()?, self.table([h, w])?);
        let shape = Tokens {
            images: n,
            places: h * w,
            channels: c,
        };
        let learnt = Learnt {
            tokens: &[&self.prefix],
            positions: Some(&table),
        };
        let y = self
            .device
            .run(|m| tokens::embed(m, input, shape, learnt))?;
        let tokens = self.prefix.len() / c + h * w;
        Ok((tape.map_on(&self.device, [n, 1, tokens, c], y), [h, w]))
    }

    /// The positions for patches on `grid`.
    fn table(&self, grid: [usize; 2]) -> Result<Array> {
        let lock = || self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let found = lock().iter().find(|(of, _)| *of == grid).cloned();
        // Not under the lock, which other threads may want meanwhile.
        let table = match found {
            Some((_, table)) => table,
            None => self
                .positions
                .with_table(grid, |table| self.device.run(|m| Array::from_f32(m, table)))??,
        };
        let mut kept = lock();
        kept.retain(|(of, _)| *of != grid);
        kept.insert(0, (grid, table.clone()));
        kept.truncate(KEPT);
        Ok(table)
    }
}

/// What the heads of an attention find, (N, H, W, C), in the queries, keys and values `qkv` (N, H, W, 3C) of H * W
/// tokens on a device.
///
/// # Errors
/// Channels that do not divide into three times the heads, a map that is not on a device, heads wider than
/// [`WIDEST`](fgvr_cuda::ops::attention::WIDEST) channels; what a GPU says.
pub fn self_attention(tape: &mut Tape, qkv: &Activation, heads: usize) -> Result<Activation> {
    let [images, h, w, c] = qkv.shape;
    let Some(device) = qkv.device().cloned() else {
        bail!("self_attention: expected a map on a device");
    };
    if heads == 0 || !c.is_multiple_of(3 * heads) {
        bail!("self_attention: {c} channels of queries, keys and values for {heads} heads");
    }
    let shape = AttentionShape {
        images,
        tokens: h * w,
        heads,
        width: c / (3 * heads),
    };
    attention(&device, tape, &shape, qkv)
}
