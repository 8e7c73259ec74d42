//! Patches of an image as tokens (arXiv:2010.11929).

use candle_core::{Module, Result, Tensor, bail};
use candle_nn::{Init, ModuleT, VarBuilder};

use super::{Linear, on_device};
use crate::kernels::patches;
use crate::{Activation, Buffer, Tape};

/// A convolution whose stride is its kernel: each square patch becomes one token. Variables
/// `proj.weight` (O, I, patch, patch) and `proj.bias` (O).
#[derive(Clone, Debug)]
pub struct PatchEmbed {
    proj: Linear,
    c_in: usize,
    patch: usize,
}

impl PatchEmbed {
    /// Patches of side `patch` and `c_in` channels to tokens of `c_out`. Weight and bias start uniform
    /// within 1/sqrt(c_in * patch * patch), as PyTorch's convolution.
    ///
    /// # Errors
    /// A size of zero, or a variable that `vb` cannot give.
    pub fn new(c_in: usize, c_out: usize, patch: usize, vb: VarBuilder) -> Result<Self> {
        let fan_in = [patch, patch]
            .into_iter()
            .try_fold(c_in, usize::checked_mul);
        let Some(fan_in) = fan_in.filter(|fan_in| *fan_in > 0 && c_out > 0) else {
            bail!(
                "patch_embed: {c_in} to {c_out} channels, patches of {patch}: a size is zero or too large"
            );
        };
        let bound = 1. / (fan_in as f64).sqrt();
        let init = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        Self::with_init(c_in, c_out, patch, [init; 2], vb)
    }

    /// Patches of side `patch` and `c_in` channels to tokens of `c_out`, whose weight and bias start as the caller says.
    ///
    /// # Errors
    /// A size of zero, or a variable that `vb` cannot give.
    pub fn with_init(
        c_in: usize,
        c_out: usize,
        patch: usize,
        [weight, bias]: [Init; 2],
        vb: VarBuilder,
    ) -> Result<Self> {
        if [c_in, c_out, patch].contains(&0) {
            bail!("patch_embed: {c_in} to {c_out} channels, patches of {patch}: a size is zero");
        }
        let vb = vb.pp("proj");
        let weight = vb.get_with_hints((c_out, c_in, patch, patch), "weight", weight)?;
        let bias = vb.get_with_hints(c_out, "bias", bias)?;
        Ok(Self {
            proj: Linear::from_tensors(weight, Some(bias))?,
            c_in,
            patch,
        })
    }

    /// What is done with each patch, whose values are in the order (I, row, column).
    #[must_use]
    pub fn proj(&self) -> &Linear {
        &self.proj
    }

    /// (N, H, W, O) of the tokens of (N, H, W, I).
    ///
    /// # Errors
    /// Another number of channels, or sides that are not whole patches.
    pub fn output(&self, [n, h, w, c]: [usize; 4]) -> Result<[usize; 4]> {
        let patch = self.patch;
        if c != self.c_in {
            bail!("patch_embed: expected {} channels, found {c}", self.c_in);
        }
        if h == 0 || w == 0 || !h.is_multiple_of(patch) || !w.is_multiple_of(patch) {
            bail!("patch_embed: {h} x {w} pixels are not whole patches of {patch} x {patch}");
        }
        Ok([n, h / patch, w / patch, self.proj.c_out()])
    }

    /// The tokens on the tape: (N, H, W, I) to (N, H/patch, W/patch, O).
    ///
    /// # Errors
    /// Another number of channels, or sides that are not whole patches.
    pub fn apply(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        let ([n, h, w, _], shape, patch) = (self.output(x.shape)?, x.shape, self.patch);
        if let Some(device) = tape.device().cloned() {
            let rows = on_device::cut_patches(&device, tape, x, patch)?;
            return self.proj.apply(tape, &rows);
        }
        let mut rows = Buffer::scratch(x.host()?.len());
        patches::cut(x.host()?, shape, patch, &mut rows);
        let rows = tape.map([n, h, w, self.c_in * patch * patch], rows);
        if tape.needs_gradient(x) {
            let id = x.id;
            tape.push(&rows, move |dy, gradients| {
                let mut dx = Buffer::scratch(dy.len());
                patches::join(&dy, shape, patch, &mut dx);
                gradients.add(id, dx);
                Ok(())
            });
        } else {
            tape.make_constant(&rows);
        }
        self.proj.apply(tape, &rows)
    }
}

impl Module for PatchEmbed {
    /// The tokens on candle's autograd, (N, I, H, W) to (N, O, H/patch, W/patch).
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = xs.dims4()?;
        let [_, rows, columns, c_out] = self.output([n, h, w, c])?;
        let patch = self.patch;
        // (N, I, H, W) -> (N, H/patch, W/patch, I, patch, patch) -> (N, places, I*patch*patch)
        let patches = xs
            .reshape(&[n, c, rows, patch, columns, patch][..])?
            .permute(&[0, 2, 4, 1, 3, 5][..])?
            .reshape((n, rows * columns, c * patch * patch))?;
        // (N, places, O) -> (N, O, H/patch, W/patch)
        let tokens = self.proj.forward_t(&patches, false)?;
        tokens.transpose(1, 2)?.reshape((n, c_out, rows, columns))
    }
}
