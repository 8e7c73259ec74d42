//! Auxiliary tasks: by how much an image was turned, or in which order its patches stand.

mod config;
mod tasks;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ModuleT;
use candle_nn::ops::log_softmax;
use fgvr_nn::layers::Linear;
use fgvr_nn::{NormMode, ParameterGradients, Parameters};

use crate::losses::info_nce::scalar;
use crate::step::Term;
use crate::{Addon, AddonKind, AddonParts, AtFeatures, Further, MethodConfig};

pub use self::config::{PretextConfig, PretextTask};

/// Beside the base's loss, a linear layer tells from h what was done to the image:
/// L = w · mean_i −log softmax(W h(T_{y_i} x_i) + b)_{y_i}, y_i drawn by (seed, step, image).
///
/// # Design choice
/// The task gets a pass of its own over the first view of each image, whose batch statistics leave no
/// trace in the running ones: evaluation sees no turned images. Its gradient reaches the trunk.
#[derive(Debug)]
pub struct Pretext {
    cfg: PretextConfig,
    head: Linear,
    parameters: Parameters,
    /// Where each place's pixel comes from, one list an answer; of the image size last seen.
    sources: Vec<Vec<u32>>,
    seed: u64,
}

impl Pretext {
    /// With these choices.
    ///
    /// # Errors
    /// A configuration out of range.
    pub fn new(cfg: &PretextConfig, parts: AddonParts<'_>) -> Result<Self> {
        cfg.validate()?;
        let parameters = Parameters::new(parts.seed);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let head = Linear::new(parts.width, cfg.answers(), true, vb.pp("pretext"))?;
        Ok(Self {
            cfg: cfg.clone(),
            head,
            parameters,
            sources: Vec::new(),
            seed: parts.seed,
        })
    }
}

impl Addon for Pretext {
    fn kind(&self) -> AddonKind {
        AddonKind::PRETEXT
    }

    fn is_active(&self) -> bool {
        self.cfg.weight > 0.
    }

    fn at_features(&mut self, _: &mut AtFeatures<'_>) -> Result<()> {
        Ok(())
    }

    fn further_passes(&mut self, step: &mut Further<'_>) -> Result<()> {
        if !self.is_active() {
            return Ok(());
        }
        let input = step.input;
        let n = input.images.len();
        let answers = self.answers(input.seed, input.step, input.images);
        let images = self.apply(input.views.global[0], &answers)?;
        let encoder = step.base.encoder();
        let (features, tape) = encoder.forward_train(&images, NormMode::NoUpdate)?;
        let logits = self.head.forward_t(&features.pooled, true)?; // (N, answers)
        let wanted = Tensor::from_vec(answers, (n, 1), logits.device())?;
        let likelihood = log_softmax(&logits, 1)?.gather(&wanted, 1)?;
        let loss = likelihood.mean_all()?.neg()?;
        let found = logits.detach().argmax_keepdim(1)?.eq(&wanted)?;
        let found = scalar(&found.to_dtype(DType::F32)?.mean_all()?)?;
        let mut leaves = (&loss * self.cfg.weight)?.backward()?;
        tape.backward(&leaves, step.gradients)?;
        let mut own = ParameterGradients::default();
        for var in self.trainable().values() {
            if let Some(gradient) = leaves.remove(var) {
                own.insert(var, gradient);
            }
        }
        step.gradients.append(own)?;
        let loss = scalar(&loss)?;
        step.report
            .add(Term::new("loss_pretext", self.cfg.weight, loss));
        step.report.figures.push(("pretext_top1", found));
        Ok(())
    }

    fn parameters(&self) -> Option<&Parameters> {
        Some(&self.parameters)
    }
}
