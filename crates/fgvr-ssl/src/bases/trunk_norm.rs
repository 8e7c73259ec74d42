//! Which statistics batch norm of a trunk takes while the trunk is trained.

use candle_core::{Result, Tensor};
use fgvr_nn::{Activation, Device, Encoder, FeatureMaps, Features, NormMode, Tape};

/// Which statistics batch norm of the trunk, and of the network that follows it, takes in training. Heads always take
/// the batch's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum TrunkNorm {
    /// The batch's, and the running ones follow: training from random weights.
    #[default]
    Batch,
    /// The running ones as they are; nothing updates them. For pretrained weights, whose statistics are worth more than
    /// those of a few augmented batches: with the batch's, features change even where no weight does.
    Running,
}

/// An encoder whose batch norm takes what a [`TrunkNorm`] says, whatever mode a base or an add-on asks for.
///
/// Weight and bias of a norm get their gradients either way.
pub struct NormedBy<E> {
    encoder: E,
    norm: TrunkNorm,
}

impl<E> NormedBy<E> {
    /// `encoder`, with the statistics that `norm` says.
    pub fn new(encoder: E, norm: TrunkNorm) -> Self {
        Self { encoder, norm }
    }

    fn mode(&self, asked: NormMode) -> NormMode {
        match self.norm {
            TrunkNorm::Batch => asked,
            TrunkNorm::Running => NormMode::Eval,
        }
    }
}

impl<E: Encoder> Encoder for NormedBy<E> {
    fn forward_train(&self, images: &Tensor, norm: NormMode) -> Result<(Features, Tape)> {
        self.encoder.forward_train(images, self.mode(norm))
    }

    fn forward_train_to_images(&self, images: &Tensor, norm: NormMode) -> Result<(Features, Tape)> {
        self.encoder
            .forward_train_to_images(images, self.mode(norm))
    }

    fn features(&self, images: &Tensor, norm: NormMode) -> Result<Features> {
        self.encoder.features(images, self.mode(norm))
    }

    fn apply(&self, tape: &mut Tape, images: &Activation, norm: NormMode) -> Result<FeatureMaps> {
        self.encoder.apply(tape, images, self.mode(norm))
    }

    fn device(&self) -> Option<&Device> {
        self.encoder.device()
    }

    fn class_attention(&self, images: &Tensor, norm: NormMode) -> Result<Option<Vec<Tensor>>> {
        self.encoder.class_attention(images, self.mode(norm))
    }

    fn width(&self) -> usize {
        self.encoder.width()
    }
}
