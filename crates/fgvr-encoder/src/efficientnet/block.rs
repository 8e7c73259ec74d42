//! A block of an EfficientNet-Lite: a depthwise convolution between two pointwise ones, the narrow ends outside.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use fgvr_nn::layers::{ActivationFunction, BatchNormConfig, ConvConfig, ConvInput, ConvNorm};
use fgvr_nn::{Activation, NormMode, Tape};

use super::config::{EfficientNetConfig, Padding, Stage};
use crate::frozen::{FrozenBlock, FrozenShortcut};

/// Channels in and out, kernel, stride and groups of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    pub(super) channels: [usize; 2],
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) groups: usize,
}

impl Layer {
    /// A convolution of single places.
    pub(super) fn pointwise(c_in: usize, c_out: usize) -> Self {
        Self {
            channels: [c_in, c_out],
            kernel: 1,
            stride: 1,
            groups: 1,
        }
    }

    /// The convolution and its norm. Its weights start normal with the fan-out of a group, as TensorFlow's do.
    pub(super) fn build(
        self,
        config: &EfficientNetConfig,
        conv: VarBuilder,
        norm: VarBuilder,
    ) -> Result<ConvNorm> {
        let Self {
            channels: [c_in, c_out],
            kernel,
            stride,
            groups,
        } = self;
        let fan_out = kernel * kernel * c_out / groups;
        let init = Init::Randn {
            mean: 0.,
            stdev: (2. / fan_out as f64).sqrt(),
        };
        // The layer finds the variable as it was made here.
        conv.get_with_hints((c_out, c_in / groups, kernel, kernel), "weight", init)?;
        let same = config.padding == Padding::Same;
        let conv_config = ConvConfig {
            stride,
            padding: if same { 0 } else { kernel / 2 },
            same,
            groups,
            ..ConvConfig::default()
        };
        let norm_config = BatchNormConfig {
            eps: config.norm_eps,
            ..BatchNormConfig::default()
        };
        ConvNorm::new(
            self.channels,
            kernel,
            &conv_config,
            conv,
            &norm_config,
            norm,
        )
    }
}

/// y = project(relu6(depthwise(relu6(expand(x))))) (+ x), a norm after each convolution and no activation at the end
/// (arXiv:1801.04381, figure 4).
pub(super) struct Block {
    /// conv_pw-bn1 and conv_dw-bn2, each with a ReLU6 after it; in the first stage conv_dw-bn1 alone.
    inner: Vec<ConvNorm>,
    /// conv_pwl-bn3; in the first stage conv_pw-bn2.
    project: ConvNorm,
    /// Whether the input is added: where the shape stays.
    skip: bool,
}

impl Block {
    /// A block of `stage` with `c_in` channels before it.
    pub(super) fn new(
        config: &EfficientNetConfig,
        stage: &Stage,
        c_in: usize,
        stride: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        let inside = c_in * stage.expansion;
        let depthwise = Layer {
            channels: [inside; 2],
            kernel: stage.kernel,
            stride,
            groups: inside,
        };
        let project = Layer::pointwise(inside, stage.channels);
        let layers = match stage.expansion {
            1 => vec![("conv_dw", depthwise), ("conv_pw", project)],
            _ => vec![
                ("conv_pw", Layer::pointwise(c_in, inside)),
                ("conv_dw", depthwise),
                ("conv_pwl", project),
            ],
        };
        let build = |(i, (name, layer)): (usize, (&str, Layer))| {
            layer.build(config, vb.pp(name), vb.pp(format!("bn{}", i + 1)))
        };
        let mut inner = (layers.into_iter().enumerate())
            .map(build)
            .collect::<Result<Vec<_>>>()?;
        let Some(project) = inner.pop() else {
            bail!("block: expected two or three layers, found none");
        };
        Ok(Self {
            inner,
            project,
            skip: stride == 1 && c_in == stage.channels,
        })
    }

    pub(super) fn variables(&self) -> Vec<Tensor> {
        let layers = self.inner.iter().chain([&self.project]);
        layers.flat_map(ConvNorm::variables).collect()
    }

    pub(super) fn apply(
        &self,
        tape: &mut Tape,
        x: &Activation,
        mode: NormMode,
    ) -> Result<Activation> {
        let mut y = ConvInput::Map(x);
        for layer in &self.inner {
            y = ConvInput::Relu6(layer.apply(tape, y, mode)?);
        }
        let y = self.project.apply(tape, y, mode)?;
        match self.skip {
            true => y.add(tape, x),
            false => y.activate(tape, ActivationFunction::Identity),
        }
    }

    /// With `freeze` of each of its layers.
    pub(super) fn freeze<C>(
        &self,
        freeze: impl Fn(&ConvNorm) -> Result<C>,
    ) -> Result<FrozenBlock<C>> {
        Ok(FrozenBlock {
            inner: self.inner.iter().map(&freeze).collect::<Result<_>>()?,
            last: freeze(&self.project)?,
            shortcut: match self.skip {
                true => FrozenShortcut::Linear,
                false => FrozenShortcut::Nothing,
            },
        })
    }
}
