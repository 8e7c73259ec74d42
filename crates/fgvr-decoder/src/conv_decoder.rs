//! First layers, blocks that double the side, a convolution to three channels.

use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use fgvr_nn::layers::{self, Conv2d, ConvConfig};
use fgvr_nn::{Activation, Decoder, Device, NormMode, Tape};

use crate::DecoderConfig;
use crate::block::Block;
use crate::input::Input;

/// Features, pooled (N, C) or a map (N, C, start, start), to images (N, 3, size, size) in the units of the encoder's input
/// (normalised by the data's mean and deviation): there is no output activation.
///
/// Linear(C, hidden), Linear(hidden, hidden·start²) without an activation between them, blocks
/// [nearest x2, 3x3 convolution, batch norm, ReLU], 3x3 convolution to 3 channels, and a bilinear
/// resize where the blocks end at another size. Parameters: `fc1`, `fc2`, `blocks.0.conv`,
/// `blocks.0.bn`, ..., `image`. From a map ([`DecoderInput::Map`](crate::DecoderInput::Map)) a 1x1
/// convolution, `project`, stands for both linear layers. With `residual` a block holds two convolutions
/// and a shortcut: `blocks.0.conv1`, `bn1`, `conv2`, `bn2`, `shortcut.conv`, `shortcut.bn`.
///
/// # Design choice
/// No skip from the encoder's earlier maps: what they carry would bypass the features, and the perturbed
/// image would show what the perturbed features no longer say.
///
/// # Design choice
/// The last convolution starts at variance 1 / fan-in rather than kaiming's 2 / fan-out, so that
/// the first images have about unit variance, as the targets do, instead of ten times that.
pub struct ConvDecoder {
    config: DecoderConfig,
    input: Input,
    blocks: Vec<Block>,
    image: Conv2d,
    device: Option<Device>,
}

impl ConvDecoder {
    /// The decoder, with its variables under `vb`.
    ///
    /// # Errors
    /// A configuration that [`DecoderConfig::validate`] refuses; a variable of another shape in `vb`.
    pub fn new(config: &DecoderConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let input = Input::new(config, vb.clone())?;
        let mut c_in = config.hidden;
        let mut blocks = Vec::with_capacity(config.channels.len());
        for (i, &c_out) in config.channels.iter().enumerate() {
            let vb = vb.pp("blocks").pp(i.to_string());
            blocks.push(Block::new(config.residual, [c_in, c_out], vb)?);
            c_in = c_out;
        }
        let vb = vb.pp("image");
        let conv3x3 = ConvConfig {
            padding: 1,
            bias: true,
            ..ConvConfig::default()
        };
        // A variable is created at its first use, so the layer finds this one.
        let stdev = 1. / (9. * c_in as f64).sqrt();
        vb.get_with_hints((3, c_in, 3, 3), "weight", Init::Randn { mean: 0., stdev })?;
        Ok(Self {
            config: config.clone(),
            input,
            blocks,
            image: Conv2d::new(c_in, 3, 3, &conv3x3, vb)?,
            device: None,
        })
    }

    /// This decoder, run on `device`; on the CPU if there is none. Its variables stay where they are.
    #[must_use]
    pub fn on(mut self, device: Option<Device>) -> Self {
        self.device = device;
        self
    }

    /// What the decoder was built from.
    #[must_use]
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Features on the tape, whose backward returns their gradient, and their images.
    fn forward(&self, tape: &mut Tape, features: &Tensor, norm: NormMode) -> Result<Activation> {
        // A map of one place and a vector are the same on a tape.
        if features.rank() != self.input.rank() {
            return Err(self.input.refused(&self.config, features.dims()));
        }
        let wants_gradient = tape.is_recording();
        let features = tape.input(features, wants_gradient)?;
        self.apply(tape, &features, norm)
    }
}

impl Decoder for ConvDecoder {
    fn forward_train(&self, features: &Tensor, norm: NormMode) -> Result<(Var, Tape)> {
        let mut tape = Tape::recording().on(self.device.as_ref());
        let images = self.forward(&mut tape, features, norm)?;
        let images = tape.output(&images)?;
        Ok((images, tape))
    }

    fn generate(&self, features: &Tensor, norm: NormMode) -> Result<Tensor> {
        let mut tape = Tape::inference().on(self.device.as_ref());
        self.forward(&mut tape, features, norm)?.to_tensor()
    }

    fn apply(&self, tape: &mut Tape, features: &Activation, norm: NormMode) -> Result<Activation> {
        let size = self.config.size;
        let mut x = self.input.apply(&self.config, tape, features)?;
        for block in &self.blocks {
            x = block.apply(tape, &x, norm)?;
        }
        let image = self.image.apply(tape, &x)?;
        let [_, h, w, _] = image.shape();
        if (h, w) == (size, size) {
            return Ok(image);
        }
        layers::resize_bilinear(tape, &image, (size, size))
    }

    fn device(&self) -> Option<&Device> {
        self.device.as_ref()
    }
}
