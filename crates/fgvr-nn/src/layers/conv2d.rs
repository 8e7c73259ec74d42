//! 2-d convolution.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor, bail};
use candle_nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use candle_nn::{Init, ModuleT, VarBuilder};

use super::{contiguous, on_device};
use crate::kernels::conv::{self, ConvShape, Padding};
use crate::kernels::rows;
use crate::tape::{to_channels_first, to_channels_last, with_values};
use crate::{Activation, Buffer, Tape};

/// How a [`Conv2d`] walks over its input.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct ConvConfig {
    /// Distance between windows. By default 1.
    pub stride: usize,
    /// Places of zeros added around the input. By default 0.
    pub padding: usize,
    /// TensorFlow's padding instead, from the input's height and width: see
    /// [`Padding::same`]. `padding` must be 0. By default false.
    pub same: bool,
    /// Distance between the taps of a window. By default 1.
    pub dilation: usize,
    /// Number of groups of channels that do not see each other. By default 1.
    pub groups: usize,
    /// Whether a bias is added. By default false.
    pub bias: bool,
}

impl Default for ConvConfig {
    fn default() -> Self {
        Self {
            stride: 1,
            padding: 0,
            same: false,
            dilation: 1,
            groups: 1,
            bias: false,
        }
    }
}

/// A convolution with square windows; variables `weight` (O, I/groups, k, k) and `bias` (O).
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    c_in: usize,
    c_out: usize,
    kernel: usize,
    cfg: ConvConfig,
}

impl Conv2d {
    /// A convolution whose weight starts Kaiming normal (fan out, ReLU), as torchvision's ResNet,
    /// and whose bias starts uniform within 1/sqrt(fan in), as PyTorch.
    ///
    /// # Errors
    /// A size of zero, channels that do not divide into the groups, both kinds of padding, or a variable
    /// that `vb` cannot give.
    pub fn new(
        c_in: usize,
        c_out: usize,
        kernel: usize,
        cfg: &ConvConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let ConvConfig {
            stride,
            padding,
            same,
            dilation,
            groups,
            ..
        } = *cfg;
        if same && padding > 0 {
            bail!(
                "conv2d: `same` padding follows from the input; found a padding of {padding}, too"
            );
        }
        if [c_in, c_out, kernel, stride, dilation, groups].contains(&0) {
            bail!("conv2d: {c_in} to {c_out} channels, kernel {kernel}, {cfg:?}: a size is zero");
        }
        if !c_in.is_multiple_of(groups) || !c_out.is_multiple_of(groups) {
            bail!("conv2d: {c_in} to {c_out} channels do not divide into {groups} groups");
        }
        let init = Init::Kaiming {
            dist: NormalOrUniform::Normal,
            fan: FanInOut::FanOut,
            non_linearity: NonLinearity::ReLU,
        };
        let shape = (c_out, c_in / groups, kernel, kernel);
        let weight = vb.get_with_hints(shape, "weight", init)?;
        let bias = match cfg.bias {
            true => {
                let bound = 1. / ((c_in / groups * kernel * kernel) as f64).sqrt();
                Some(vb.get_with_hints(
                    c_out,
                    "bias",
                    Init::Uniform {
                        lo: -bound,
                        up: bound,
                    },
                )?)
            }
            false => None,
        };
        Ok(Self {
            weight,
            bias,
            c_in,
            c_out,
            kernel,
            cfg: cfg.clone(),
        })
    }

    /// The weight (O, I/groups, k, k).
    #[must_use]
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias (O).
    #[must_use]
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The convolution on the tape, (N, H, W, I) to (N, H', W', O).
    ///
    /// # Errors
    /// Another number of channels, or an input smaller than the window.
    pub fn apply(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        let shape = self.shape(x.shape)?;
        if let Some(device) = tape.device().cloned() {
            return on_device::conv2d(&device, tape, (self, &shape), x);
        }
        let out = [shape.n, shape.out_h(), shape.out_w(), shape.c_out];
        let mut y = Buffer::scratch(out.iter().product());
        let input = x.host()?;
        with_values(&self.weight, |weight| {
            conv::forward(&shape, input, weight, &mut y)
        })?;
        if let Some(bias) = &self.bias {
            with_values(bias, |bias| rows::add_bias(&mut y, bias))?;
        }
        let y = tape.map(out, y);
        let (id, input, wants_input) = (x.id, Arc::clone(x.host()?), tape.needs_gradient(x));
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        tape.push(&y, move |dy, gradients| {
            if let Some(bias) = &bias {
                let sums = rows::sum_rows(&dy, shape.c_out);
                gradients.add_parameter(bias, sums.iter().map(|s| *s as f32).collect())?;
            }
            let mut dw = vec![0.; weight.elem_count()];
            conv::grad_weight(&shape, &input, &dy, &mut dw);
            gradients.add_parameter(&weight, dw)?;
            if wants_input {
                let mut dx = Buffer::scratch(input.len());
                with_values(&weight, |weight| {
                    conv::grad_input(&shape, &dy, weight, &mut dx)
                })?;
                gradients.add(id, dx);
            }
            Ok(())
        });
        Ok(y)
    }

    /// This convolution with another weight of the same shape, and without bias.
    pub(super) fn with_weight(&self, weight: Vec<f32>) -> Result<Self> {
        Ok(Self {
            weight: Tensor::from_vec(weight, self.weight.shape(), &Device::Cpu)?,
            bias: None,
            cfg: ConvConfig {
                bias: false,
                ..self.cfg.clone()
            },
            ..*self
        })
    }

    /// The convolution of one image that is as small as its window.
    pub(super) fn smallest(&self) -> Result<ConvShape> {
        let side = self.cfg.dilation.saturating_mul(self.kernel - 1);
        let side = side.saturating_add(1);
        self.shape([1, side, side, self.c_in])
    }

    pub(super) fn shape(&self, [n, h, w, c]: [usize; 4]) -> Result<ConvShape> {
        let ConvConfig {
            stride,
            padding,
            same,
            dilation,
            groups,
            ..
        } = self.cfg;
        if c != self.c_in {
            bail!("conv2d: expected {} channels, found {c}", self.c_in);
        }
        let padding = if same {
            let extent = dilation.saturating_mul(self.kernel - 1).saturating_add(1);
            Padding::same([h, w], extent, stride)
        } else {
            padding.into()
        };
        let shape = ConvShape {
            n,
            h,
            w,
            c_in: c,
            c_out: self.c_out,
            kernel: self.kernel,
            stride,
            padding,
            dilation,
            groups,
        };
        shape.check()?;
        Ok(shape)
    }
}

impl ModuleT for Conv2d {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Result<Tensor> {
        let (n, c, h, w) = xs.dims4()?;
        let op = ConvOp(self.shape([n, h, w, c])?);
        let y = xs.contiguous()?.apply_op2(&self.weight.contiguous()?, op)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
            None => Ok(y),
        }
    }
}

/// The convolution on candle's autograd: inputs (N, C, H, W) and the weight.
struct ConvOp(ConvShape);

impl ConvOp {
    fn input(&self) -> [usize; 4] {
        [self.0.n, self.0.h, self.0.w, self.0.c_in]
    }

    fn output(&self) -> [usize; 4] {
        [self.0.n, self.0.out_h(), self.0.out_w(), self.0.c_out]
    }
}

impl CustomOp2 for ConvOp {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = to_channels_last(contiguous(x, lx)?, self.input());
        let [n, h, w_out, c] = self.output();
        let mut y = Buffer::scratch(n * h * w_out * c);
        conv::forward(&self.0, &x, contiguous(w, lw)?, &mut y);
        let y = to_channels_first(&y, self.output());
        Ok((CpuStorage::F32(y), (n, c, h, w_out).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = with_values(dy, |dy| to_channels_last(dy, self.output()))?;
        let input = with_values(x, |x| to_channels_last(x, self.input()))?;
        let mut dw = vec![0.; w.elem_count()];
        conv::grad_weight(&self.0, &input, &dy, &mut dw);
        let mut dx = Buffer::scratch(input.len());
        with_values(w, |w| conv::grad_input(&self.0, &dy, w, &mut dx))?;
        let dx = Tensor::from_vec(to_channels_first(&dx, self.input()), x.shape(), x.device())?;
        let dw = Tensor::from_vec(dw, w.shape(), w.device())?;
        Ok((Some(dx), Some(dw)))
    }
}
