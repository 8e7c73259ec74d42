//! The convolutions of a frozen network, in the order they run in: residual networks and EfficientNets alike.

use fgvr_nn::layers::{ActivationFunction, Finish, PoolConfig};

/// A convolutional network whose norms are folded into its convolutions: `C` is one on the CPU or on a device.
pub(crate) struct FrozenConvNet<C> {
    pub(crate) stem: C,
    pub(crate) pool: Option<PoolConfig>,
    pub(crate) blocks: Vec<FrozenBlock<C>>,
    /// The convolution behind the last block.
    pub(crate) head: Option<C>,
    /// What follows every convolution but the last of a block.
    pub(crate) activation: ActivationFunction,
}

/// As a block of the network in training: convolutions one after the other, and what is added at the end.
pub(crate) struct FrozenBlock<C> {
    pub(crate) inner: Vec<C>,
    pub(crate) last: C,
    pub(crate) shortcut: FrozenShortcut<C>,
}

/// What is added to a block's last convolution, and what follows.
pub(crate) enum FrozenShortcut<C> {
    /// Nothing, either of them: an inverted residual block that changes the shape.
    Nothing,
    /// The block's input, and no activation: an inverted residual block.
    Linear,
    /// The block's input, through the convolution if there is one, and a ReLU: a residual block.
    Relu(Option<C>),
}

impl<C> FrozenShortcut<C> {
    /// What the block's input goes through.
    pub(super) fn projection(&self) -> Option<&C> {
        match self {
            Self::Nothing | Self::Linear => None,
            Self::Relu(projection) => projection.as_ref(),
        }
    }

    /// What follows the last convolution, where `input` is the block's, or its projection.
    pub(super) fn finish<R>(&self, input: R) -> Finish<R> {
        match self {
            Self::Nothing => Finish::Nothing,
            Self::Linear => Finish::Add(input),
            Self::Relu(_) => Finish::AddRelu(input),
        }
    }
}
