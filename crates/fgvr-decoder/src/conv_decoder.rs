//! Two linear layers, blocks that double the side, a convolution to three channels.

use candle_core::{Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};
use fgvr_nn::layers::{self, BatchNormConfig, Conv2d, ConvConfig, ConvNorm, Linear};
use fgvr_nn::{Decoder, Map, NormMode, Tape};

use crate::DecoderConfig;

/// Pooled features (N, C) to images (N, 3, size, size) in the units of the encoder's input
/// (normalised by the data's mean and deviation): there is no output activation.
///
/// Linear(C, hidden), Linear(hidden, hidden·start²) without an activation between them, blocks
/// [nearest x2, 3x3 convolution, batch norm, ReLU], 3x3 convolution to 3 channels, and a bilinear
/// resize where the blocks end at another size. Parameters: `fc1`, `fc2`, `blocks.0.conv`,
/// `blocks.0.bn`, ..., `image`.
///
/// # Design choice
/// The last convolution starts at variance 1 / fan-in rather than kaiming's 2 / fan-out, so that
/// the first images have about unit variance, as the targets do, instead of ten times that.
pub struct ConvDecoder {
    config: DecoderConfig,
    fc1: Linear,
    fc2: Linear,
    /// Nearest x2, then 3x3 convolution and norm, then ReLU.
    blocks: Vec<ConvNorm>,
    image: Conv2d,
}

impl ConvDecoder {
    /// The decoder, with its variables under `vb`.
    ///
    /// # Errors
    /// A configuration that [`DecoderConfig::validate`] refuses; a variable of another shape in `vb`.
    pub fn new(config: &DecoderConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let places = config.start * config.start;
        let fc1 = Linear::new(config.features, config.hidden, true, vb.pp("fc1"))?;
        let fc2 = Linear::new(config.hidden, config.hidden * places, true, vb.pp("fc2"))?;
        let mut c_in = config.hidden;
        let mut blocks = Vec::with_capacity(config.channels.len());
        for (i, &c_out) in config.channels.iter().enumerate() {
            let vb = vb.pp("blocks").pp(i.to_string());
            blocks.push(ConvNorm::new(
                [c_in, c_out],
                3,
                &conv3x3(false),
                vb.pp("conv"),
                &BatchNormConfig::default(),
                vb.pp("bn"),
            )?);
            c_in = c_out;
        }
        let vb = vb.pp("image");
        // A variable is created at its first use, so the layer finds this one.
        let stdev = 1. / (9. * c_in as f64).sqrt();
        vb.get_with_hints((3, c_in, 3, 3), "weight", Init::Randn { mean: 0., stdev })?;
        Ok(Self {
            config: config.clone(),
            fc1,
            fc2,
            blocks,
            image: Conv2d::new(c_in, 3, 3, &conv3x3(true), vb)?,
        })
    }

    /// What the decoder was built from.
    #[must_use]
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The one forward pass, of training and generation.
    fn forward(&self, tape: &mut Tape, pooled: &Tensor, norm: NormMode) -> Result<Map> {
        let DecoderConfig {
            features,
            hidden,
            start,
            size,
            ..
        } = self.config;
        match *pooled.dims() {
            [n, c] if n > 0 && c == features => {}
            _ => bail!(
                "decoder: pooled is {:?}, expected (N, {features}) with N > 0",
                pooled.dims()
            ),
        }
        let wants_gradient = tape.is_recording();
        let x = tape.input(pooled, wants_gradient)?;
        let x = self.fc1.apply(tape, &x)?;
        let x = self.fc2.apply(tape, &x)?;
        // (N, hidden * start * start) -> (N, hidden, start, start)
        let mut x = layers::unflatten(tape, &x, (hidden, start, start))?;
        for block in &self.blocks {
            x = layers::upsample_nearest(tape, &x, 2)?;
            x = block.apply(tape, &x, norm)?.activate(tape, true)?;
        }
        let image = self.image.apply(tape, &x)?;
        let [_, h, w, _] = image.shape();
        if (h, w) == (size, size) {
            return Ok(image);
        }
        layers::resize_bilinear(tape, &image, (size, size))
    }
}

fn conv3x3(bias: bool) -> ConvConfig {
    ConvConfig {
        padding: 1,
        bias,
        ..ConvConfig::default()
    }
}

impl Decoder for ConvDecoder {
    fn forward_train(&self, pooled: &Tensor, norm: NormMode) -> Result<(Var, Tape)> {
        let mut tape = Tape::recording();
        let images = self.forward(&mut tape, pooled, norm)?;
        let images = tape.output(&images)?;
        Ok((images, tape))
    }

    fn generate(&self, pooled: &Tensor, norm: NormMode) -> Result<Tensor> {
        self.forward(&mut Tape::inference(), pooled, norm)?
            .to_tensor()
    }
}
