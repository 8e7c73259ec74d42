//! A convolution for inference, with the norm after it folded into it.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, bail};

use super::conv_norm::BatchParts;
use super::{BatchNorm, Conv2d};
use crate::Buffer;
use crate::kernels::activation::ActivationFunction;
use crate::kernels::conv::{ConvShape, Epilogue, Packed};
use crate::tape::with_values;

/// Packed weights that are kept. A packing is up to four times the size of the weights, so an endless
/// row of image sizes must not keep them all.
const KEPT: usize = 2;

/// From this many images on the packing does not depend on their number: kernels that take the images
/// of a batch as rows need so many.
const MANY: usize = 8;

/// A [`ConvNorm`](super::ConvNorm) by its running statistics, as one convolution with a bias whose
/// weights are put into the kernels' order once.
///
/// A snapshot: training the layer it was made from does not change it.
///
/// The values are those of the layer in [`NormMode::Eval`](crate::NormMode::Eval) up to rounding: with
/// a = weight / sqrt(running variance + eps), the convolution's weights are multiplied by a, and the
/// bias is that of the norm less running mean * a. Both in f64, rounded once.
pub struct FrozenConv {
    conv: Conv2d,
    bias: Vec<f32>,
    /// The last used first.
    packed: Mutex<Vec<(Key, Arc<Packed>)>>,
}

/// What the packing of one convolution depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    height: usize,
    width: usize,
    many: bool,
}

/// What follows a frozen convolution in the same pass. `R` is where a residual is: values, or a map.
#[derive(Clone, Copy, Debug)]
pub enum Finish<R> {
    /// Nothing.
    Nothing,
    /// A ReLU.
    Relu,
    /// A ReLU6.
    Relu6,
    /// Values of the output's shape are added: the end of an inverted residual block.
    Add(R),
    /// Values of the output's shape are added, then a ReLU: the end of a residual block.
    AddRelu(R),
}

impl<R> From<ActivationFunction> for Finish<R> {
    fn from(activation: ActivationFunction) -> Self {
        match activation {
            ActivationFunction::Identity => Self::Nothing,
            ActivationFunction::Relu => Self::Relu,
            ActivationFunction::Relu6 => Self::Relu6,
        }
    }
}

impl<R> Finish<R> {
    /// What is added, and what ends it.
    pub(super) fn parts(self) -> (Option<R>, ActivationFunction) {
        match self {
            Self::Nothing => (None, ActivationFunction::Identity),
            Self::Relu => (None, ActivationFunction::Relu),
            Self::Relu6 => (None, ActivationFunction::Relu6),
            Self::Add(residual) => (Some(residual), ActivationFunction::Identity),
            Self::AddRelu(residual) => (Some(residual), ActivationFunction::Relu),
        }
    }
}

/// The weight (O, I/groups, k, k) and the bias (O) of one convolution that does what `conv` and `norm` do by
/// the running statistics.
pub(super) fn fold(conv: &Conv2d, norm: &BatchNorm) -> Result<(Vec<f32>, Vec<f32>)> {
    let (scale, shift) = norm.scale_and_shift()?;
    let weight = with_values(conv.weight(), |weight| {
        let of_channel = weight.len() / scale.len();
        let fold = |(weight, scale): (&[f32], &f64)| -> Vec<f32> {
            let folded = weight.iter().map(|w| (f64::from(*w) * scale) as f32);
            folded.collect()
        };
        weight
            .chunks(of_channel)
            .zip(&scale)
            .flat_map(fold)
            .collect()
    })?;
    Ok((weight, shift.into_iter().map(|v| v as f32).collect()))
}

impl FrozenConv {
    pub(super) fn new(conv: &Conv2d, norm: &BatchNorm) -> Result<Self> {
        let (weight, bias) = fold(conv, norm)?;
        Ok(Self {
            conv: conv.with_weight(weight)?,
            bias,
            packed: Mutex::default(),
        })
    }

    /// The number of weights.
    #[must_use]
    pub fn weight_len(&self) -> usize {
        self.conv.weight().elem_count()
    }

    /// The convolution of `x`, (N, H, W, I), and what follows it: the output and its shape,
    /// (N, H', W', O).
    ///
    /// # Errors
    /// Another number of values than the shape says, or an input smaller than the kernel.
    pub fn apply(
        &self,
        x: &[f32],
        shape: [usize; 4],
        finish: Finish<&[f32]>,
    ) -> Result<(Buffer, [usize; 4])> {
        let pass = self.pass(shape)?;
        let mut y = Buffer::scratch(pass.shape.output_len());
        pass.run(x, finish, &mut y)?;
        Ok((y, pass.output()))
    }

    /// What it takes to run over inputs of `shape`, (N, H, W, I), all at once or a few images at a
    /// time. Packs the weights, unless an input of such a shape was among the last.
    ///
    /// # Errors
    /// Another number of channels, or an input smaller than the window.
    pub fn pass(&self, shape: [usize; 4]) -> Result<FrozenPass<'_>> {
        let shape = self.conv.shape(shape)?;
        Ok(FrozenPass {
            shape,
            packed: self.packed(&shape)?,
            bias: &self.bias,
        })
    }

    fn packed(&self, shape: &ConvShape) -> Result<Arc<Packed>> {
        let key = Key {
            height: shape.h,
            width: shape.w,
            many: shape.n >= MANY,
        };
        let lock = || self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = |packed: Arc<Packed>| {
            let mut kept = lock();
            kept.retain(|(other, _)| *other != key);
            kept.insert(0, (key, Arc::clone(&packed)));
            kept.truncate(KEPT);
            packed
        };
        let find = || {
            lock()
                .iter()
                .find(|(k, _)| *k == key)
                .map(|(_, p)| Arc::clone(p))
        };
        if let Some(packed) = find() {
            return Ok(keep(packed));
        }
        // Not under the lock: packing runs on rayon, whose threads may meanwhile take up another
        // batch that waits for the same lock.
        let packed = with_values(self.conv.weight(), |weight| Packed::forward(shape, weight))?;
        Ok(keep(Arc::new(packed)))
    }
}

/// A [`FrozenConv`] and its weights in order for inputs of one height and width.
pub struct FrozenPass<'a> {
    shape: ConvShape,
    packed: Arc<Packed>,
    bias: &'a [f32],
}

impl FrozenPass<'_> {
    /// (N, H', W', O), the output's shape.
    #[must_use]
    pub fn output(&self) -> [usize; 4] {
        let shape = &self.shape;
        [shape.n, shape.out_h(), shape.out_w(), shape.c_out]
    }

    /// The convolution of the images of `x`, (n, H, W, I), and what follows it, into `y`,
    /// (n, H', W', O): a few images at a time, as long as they are in the third-level cache.
    ///
    /// # Errors
    /// Lengths that are not a whole number of images, or not the same for all.
    pub fn run(&self, x: &[f32], finish: Finish<&[f32]>, y: &mut [f32]) -> Result<()> {
        let n = x.len() / (self.shape.input_len() / self.shape.n);
        let shape = ConvShape { n, ..self.shape };
        let (residual, activation) = finish.parts();
        let lengths = [x.len(), y.len(), residual.map_or(y.len(), <[f32]>::len)];
        let output = shape.output_len();
        if n == 0 || lengths != [shape.input_len(), output, output] {
            bail!("frozen_conv: input, output and residual have {lengths:?} values, for {shape:?}");
        }
        let parts = BatchParts::new(&shape);
        for images in parts.all() {
            let range = parts.output(&images);
            let y = &mut y[range.clone()];
            let epilogue = Epilogue {
                bias: self.bias,
                residual: residual.map(|residual| &residual[range]),
                activation,
            };
            self.packed.run_then(&x[parts.input(&images)], y, &epilogue);
        }
        Ok(())
    }
}
