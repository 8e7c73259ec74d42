//! What an encoder and a decoder owe to the objectives that train them.

use candle_core::{Result, Tensor, Var};

use crate::Tape;

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

/// A trunk that turns images into features.
pub trait Encoder {
    /// Features of `images` (N, 3, H, W) and the tape that leads back to the parameters.
    ///
    /// `map` and `pooled` are separate leaf variables: a loss may use either or both, and the
    /// tape's backward adds what each receives.
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    fn forward_train(&self, images: &Tensor, norm: NormMode) -> Result<(Features, Tape)>;

    /// Features without a way back; `norm` is [`NormMode::Eval`] for inference.
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    fn features(&self, images: &Tensor, norm: NormMode) -> Result<Features>;

    /// C, the number of channels of the last map.
    fn width(&self) -> usize;
}

/// A generator that turns pooled features into images.
pub trait Decoder {
    /// Images (N, 3, H, W) of `pooled` (N, C) as a leaf variable, and the tape that leads back to
    /// the decoder's parameters and to `pooled` (whose gradient the tape's backward returns).
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    fn forward_train(&self, pooled: &Tensor, norm: NormMode) -> Result<(Var, Tape)>;

    /// Images without a way back.
    ///
    /// # Errors
    /// Shapes that do not fit the network.
    fn generate(&self, pooled: &Tensor, norm: NormMode) -> Result<Tensor>;
}
