//! What an encoder and a decoder owe to the objectives that train them.

use candle_core::{Result, Tensor, Var, bail};

use crate::{Activation, Device, Tape, images};

/// How batch norm takes its statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormMode {
    /// Batch statistics; the running ones are updated.
    Train,
    /// Batch statistics; the running ones stay as they are (images that a decoder made).
    NoUpdate,
    /// Running statistics.
    Eval,
    /// Statistics over `groups` equal, consecutive sub-batches; the running ones are updated with
    /// their mean. MoCo's shuffled batch norm on one device: the caller shuffles, and undoes it.
    Split {
        /// Number of sub-batches; a batch smaller than two images a group uses fewer groups.
        groups: usize,
        /// Whether the running statistics are updated.
        update: bool,
    },
}

/// What an encoder says of a batch of images.
#[derive(Clone, Debug)]
pub struct Features {
    /// The last feature map (N, C, h, w): of a residual network after its ReLU, of a vision
    /// transformer the patches' tokens after the last norm.
    pub map: Tensor,
    /// One vector an image (N, C): of a residual network the map's mean over places, of a vision
    /// transformer the class token after the last norm.
    pub pooled: Tensor,
}

/// What an encoder says of a batch of images, on the tape that it ran on.
#[derive(Clone, Debug)]
pub struct FeatureMaps {
    /// The feature map, (N, h, w, C).
    pub map: Activation,
    /// The pooled features, (N, 1, 1, C).
    pub pooled: Activation,
}

impl FeatureMaps {
    /// As tensors without a way back.
    ///
    /// # Errors
    /// What a GPU says, if the maps are on one.
    pub fn to_features(&self) -> Result<Features> {
        Ok(Features {
            map: self.map.to_tensor()?,
            // (N, C, 1, 1) -> (N, C)
            pooled: self.pooled.to_tensor()?.flatten_from(1)?,
        })
    }

    /// As two leaf variables of candle's graph, whose gradients `tape` carries on.
    ///
    /// # Errors
    /// What a GPU says, if the maps are on one.
    pub fn to_leaves(&self, tape: &mut Tape) -> Result<Features> {
        Ok(Features {
            map: tape.output(&self.map)?.into_inner(),
            pooled: tape.output_vector(&self.pooled)?.into_inner(),
        })
    }
}

/// A trunk that turns images into features.
///
/// All that a trunk of layers on the tape says is [`Encoder::apply`], [`Encoder::device`] and [`Encoder::width`]; the
/// passes over tensors follow from these.
pub trait Encoder {
    /// Features of `images`, a map (N, H, W, 3) of `tape`, on that tape: the one forward pass, of training and of
    /// inference.
    ///
    /// # Errors
    /// Shapes that do not fit the network, and an encoder that has no layers on a tape.
    fn apply(&self, tape: &mut Tape, images: &Activation, norm: NormMode) -> Result<FeatureMaps>;

    /// Where it runs, if not on the CPU.
    fn device(&self) -> Option<&Device> {
        None
    }

    /// The length of a pooled vector.
    fn width(&self) -> usize;

    /// Features of `images` (N, 3, H, W) and the tape that leads back to the parameters.
    ///
    /// `map` and `pooled` are separate leaf variables: a loss may use either or both, and the
    /// tape's backward adds what each receives.
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    fn forward_train(&self, images: &Tensor, norm: NormMode) -> Result<(Features, Tape)> {
        record(self, images, norm, false)
    }

    /// [`Encoder::forward_train`] whose tape also returns the gradient at `images`, (N, 3, H, W).
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    fn forward_train_to_images(&self, images: &Tensor, norm: NormMode) -> Result<(Features, Tape)> {
        record(self, images, norm, true)
    }

    /// Features without a way back; `norm` is [`NormMode::Eval`] for inference.
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    fn features(&self, images: &Tensor, norm: NormMode) -> Result<Features> {
        let mut tape = Tape::inference().on(self.device());
        let images = images::input(&mut tape, images, false)?;
        self.apply(&mut tape, &images, norm)?.to_features()
    }

    /// What the class token attends to, without a way back: for each layer, first to last, the share
    /// that it gives to each patch, mean over heads, (N, h, w) with h and w of [`Features::map`]. What
    /// it gives to itself and to registers is left out. `None` for an encoder without a class token.
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    fn class_attention(&self, _images: &Tensor, _norm: NormMode) -> Result<Option<Vec<Tensor>>> {
        Ok(None)
    }
}

impl<E: Encoder + ?Sized> Encoder for Box<E> {
    fn apply(&self, tape: &mut Tape, images: &Activation, norm: NormMode) -> Result<FeatureMaps> {
        (**self).apply(tape, images, norm)
    }

    fn device(&self) -> Option<&Device> {
        (**self).device()
    }

    fn width(&self) -> usize {
        (**self).width()
    }

    fn forward_train(&self, images: &Tensor, norm: NormMode) -> Result<(Features, Tape)> {
        (**self).forward_train(images, norm)
    }

    fn forward_train_to_images(&self, images: &Tensor, norm: NormMode) -> Result<(Features, Tape)> {
        (**self).forward_train_to_images(images, norm)
    }

    fn features(&self, images: &Tensor, norm: NormMode) -> Result<Features> {
        (**self).features(images, norm)
    }

    fn class_attention(&self, images: &Tensor, norm: NormMode) -> Result<Option<Vec<Tensor>>> {
        (**self).class_attention(images, norm)
    }
}

fn record<E: Encoder + ?Sized>(
    encoder: &E,
    images: &Tensor,
    norm: NormMode,
    image_gradient: bool,
) -> Result<(Features, Tape)> {
    let mut tape = Tape::recording().on(encoder.device());
    let images = images::input(&mut tape, images, image_gradient)?;
    let maps = encoder.apply(&mut tape, &images, norm)?;
    let features = maps.to_leaves(&mut tape)?;
    Ok((features, tape))
}

/// A generator that turns features into images: pooled ones (N, C), or maps (N, C, h, w), as it was made.
pub trait Decoder {
    /// Images (N, 3, H, W) of `features` as a leaf variable, and the tape that leads back to the
    /// decoder's parameters and to `features` (whose gradient the tape's backward returns).
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    fn forward_train(&self, features: &Tensor, norm: NormMode) -> Result<(Var, Tape)>;

    /// Images without a way back.
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    fn generate(&self, features: &Tensor, norm: NormMode) -> Result<Tensor>;

    /// Images (N, H, W, 3) of `features`, a map of `tape`, on that tape.
    ///
    /// # Errors
    /// Shapes that do not fit the network, and a decoder that cannot.
    fn apply(
        &self,
        _tape: &mut Tape,
        _features: &Activation,
        _norm: NormMode,
    ) -> Result<Activation> {
        bail!("decoder: this one has no layers on a tape")
    }

    /// Where it runs, if not on the CPU.
    fn device(&self) -> Option<&Device> {
        None
    }
}
