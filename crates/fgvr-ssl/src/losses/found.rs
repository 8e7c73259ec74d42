//! What a loss found, in either place, and its way back to the features.

use std::sync::{Arc, OnceLock};

use candle_core::{Result, Tensor, bail};
use fgvr_nn::cuda::Array;
use fgvr_nn::cuda::ops::{Rows, elementwise};
use fgvr_nn::{Activation, Device, Tape};

use crate::InfoNce;
use crate::losses::info_nce::scalar;
use crate::step::pass::{FeatureGradients, FeatureOutput};

/// A loss, and how alike queries and keys are.
pub enum Found {
    /// On candle's autograd.
    Host(InfoNce),
    /// On a device.
    Device(DeviceFound),
}

/// [`Found`] on a device, where its numbers may still be on their way.
pub struct DeviceFound {
    device: Device,
    terms: Vec<Term>,
    back: Vec<Back>,
    /// Once they were waited for.
    numbers: Arc<OnceLock<Numbers>>,
}

/// The numbers of a [`Found`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers {
    /// The loss.
    pub loss: f64,
    /// As [`InfoNce::top1`].
    pub top1: f64,
    /// As [`InfoNce::positive`].
    pub positive: f64,
    /// As [`InfoNce::negative`].
    pub negative: Option<f64>,
}

/// A term of a loss on a device.
#[derive(Clone)]
pub(crate) struct Term {
    /// Means of -log-likelihood, hits, positives and negatives (4).
    pub(crate) means: Array,
    pub(crate) loss: TermLoss,
}

/// What the loss of a term is.
#[derive(Clone)]
pub(crate) enum TermLoss {
    /// So many times the -log-likelihood.
    Times(f64),
    /// Another one (1).
    Other(Array),
}

/// The way from the end of the heads to the features that entered them.
pub(crate) struct Back {
    /// That of the heads.
    pub(crate) tape: Tape,
    pub(crate) output: Activation,
    /// Of the loss, at `output`.
    pub(crate) gradient: Activation,
    /// Whose features: the branch's view.
    pub(crate) view: usize,
    /// What the gradient at what entered is multiplied by to be that at the features.
    pub(crate) share: Option<Array>,
}

impl Term {
    fn numbers(&self, device: &Device) -> Result<Numbers> {
        let means = device.values(&self.means)?;
        let of = |i: usize| f64::from(means[i]);
        Ok(Numbers {
            loss: match &self.loss {
                TermLoss::Times(factor) => factor * of(0),
                TermLoss::Other(loss) => f64::from(device.values(loss)?[0]),
            },
            top1: of(1),
            positive: of(2),
            // No number where there is no negative.
            negative: Some(of(3)).filter(|mean| !mean.is_nan()),
        })
    }
}

impl Found {
    pub(crate) fn on_device(device: &Device, term: Term, back: Back) -> Self {
        Self::Device(DeviceFound {
            device: device.clone(),
            terms: vec![term],
            back: vec![back],
            numbers: Arc::default(),
        })
    }

    /// The numbers, once they are there.
    ///
    /// # Errors
    /// What a device says.
    pub fn numbers(&self) -> Result<Numbers> {
        let found = match self {
            Self::Host(found) => {
                return Ok(Numbers {
                    loss: scalar(&found.loss)?,
                    top1: found.top1,
                    positive: found.positive,
                    negative: found.negative,
                });
            }
            Self::Device(found) => found,
        };
        if let Some(numbers) = found.numbers.get() {
            return Ok(*numbers);
        }
        let terms = found.terms.iter().map(|term| term.numbers(&found.device));
        let terms = terms.collect::<Result<Vec<_>>>()?;
        let count = terms.len() as f64;
        let mean = |of: fn(&Numbers) -> f64| terms.iter().map(of).sum::<f64>() / count;
        let negatives = terms.iter().map(|term| term.negative);
        let negatives = negatives.sum::<Option<f64>>();
        let numbers = Numbers {
            loss: terms.iter().map(|term| term.loss).sum(),
            top1: mean(|term| term.top1),
            positive: mean(|term| term.positive),
            negative: negatives.map(|sum| sum / count),
        };
        Ok(*found.numbers.get_or_init(|| numbers))
    }

    /// The loss on candle's autograd.
    ///
    /// # Errors
    /// A loss that was found on a device.
    pub fn tensor(&self) -> Result<&Tensor> {
        match self {
            Self::Host(found) => Ok(&found.loss),
            Self::Device(found) => bail!(
                "expected a loss on the host, found one on {:?}",
                found.device
            ),
        }
    }

    /// The sum of two losses, and the means of what they found.
    pub(crate) fn plus(self, other: Self) -> Result<Self> {
        match (self, other) {
            (Self::Host(one), Self::Host(other)) => one.plus(other).map(Self::Host),
            (Self::Device(mut one), Self::Device(other)) => {
                one.terms.extend(other.terms);
                one.back.extend(other.back);
                one.numbers = Arc::default();
                Ok(Self::Device(one))
            }
            _ => bail!("two losses in two places"),
        }
    }

    /// Its numbers alone.
    pub(crate) fn measured(&self) -> Self {
        match self {
            Self::Host(found) => Self::Host(InfoNce {
                loss: found.loss.detach(),
                ..found.clone()
            }),
            Self::Device(found) => Self::Device(DeviceFound {
                device: found.device.clone(),
                terms: found.terms.clone(),
                back: Vec::new(),
                numbers: Arc::clone(&found.numbers),
            }),
        }
    }

    /// Carries `weight` times the loss back to the features; on a device once.
    pub(crate) fn backward(&mut self, weight: f64, gradients: &mut FeatureGradients) -> Result<()> {
        let found = match self {
            Self::Host(found) => {
                return gradients.leaves.extend((&found.loss * weight)?.backward()?);
            }
            Self::Device(found) => found,
        };
        let device = &found.device;
        for back in std::mem::take(&mut found.back) {
            let mut gradient = back.gradient;
            if weight != 1. {
                let array = gradient.array()?;
                let scaled = device.run(|m| elementwise::scale(m, array, weight as f32))?;
                gradient = Activation::new(device, gradient.shape(), scaled)?;
            }
            let of_heads = [(&back.output, &gradient)];
            let Some(mut arrived) = back
                .tape
                .backward_from(&of_heads, &mut gradients.parameters)?
            else {
                bail!("the heads' tape returned no gradient at the features");
            };
            if let Some(share) = &back.share {
                let array = arrived.array()?;
                let all = Rows::new(1, array.len());
                let product = device.run(|m| elementwise::layer_scale(m, array, all, share))?;
                arrived = Activation::new(device, arrived.shape(), product)?;
            }
            gradients.arrive(back.view, FeatureOutput::Pooled, arrived);
        }
        Ok(())
    }

    /// Of features that entered the heads changed: whose they are, and what the gradient at them is multiplied by.
    pub(crate) fn entered(&mut self, view: usize, share: impl Fn(usize) -> Option<Array>) {
        if let Self::Device(found) = self {
            for back in &mut found.back {
                back.share = share(back.view);
                back.view = view;
            }
        }
    }
}
