//! An encoder of which a part is not trained.

use candle_core::{Result, Tensor};

use crate::{Activation, Device, Encoder, FeatureMaps, FrozenVariables, NormMode, Tape};

/// An encoder some of whose variables are not trained: its passes for training leave the lowest layers out of the way back if
/// all of them are, as [`Tape::part`] says. Values, and gradients of all other variables, are the encoder's own, bit for bit.
///
/// In parts that are left out, batch norm takes the statistics that it is told to take, and running ones follow if they are
/// told to: a frozen norm without statistics of its own would change what the layers above it see.
pub struct PartlyFrozen<E> {
    encoder: E,
    frozen: FrozenVariables,
}

impl<E> PartlyFrozen<E> {
    /// `encoder`, of whose variables nobody reads the gradients of `frozen`.
    pub fn new(encoder: E, frozen: FrozenVariables) -> Self {
        Self { encoder, frozen }
    }
}

// Passes over tensors are the trait's own, which come back to `apply`.
impl<E: Encoder> Encoder for PartlyFrozen<E> {
    fn apply(&self, tape: &mut Tape, images: &Activation, norm: NormMode) -> Result<FeatureMaps> {
        tape.freeze(&self.frozen);
        self.encoder.apply(tape, images, norm)
    }

    fn device(&self) -> Option<&Device> {
        self.encoder.device()
    }

    fn width(&self) -> usize {
        self.encoder.width()
    }

    fn class_attention(&self, images: &Tensor, norm: NormMode) -> Result<Option<Vec<Tensor>>> {
        self.encoder.class_attention(images, norm)
    }
}
