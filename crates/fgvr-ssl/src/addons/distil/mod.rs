//! Distillation: the encoder learns what a teacher says of the same images.

mod config;
mod loss;

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use candle_nn::{Linear, Module, linear_no_bias};
use fgvr_nn::Parameters;

use crate::addons::addon::{OWN, load_own};
use crate::step::state::trainable;
use crate::{Addon, AddonKind, AddonParts, AtFeatures, MethodConfig, l2_normalise};

pub use self::config::{DistilConfig, DistilForm};
pub use self::loss::{feature_loss, similarity_loss};

/// Beside the base's loss, one of a teacher's features t_i of the training images, which are embedded once and plainly, whatever
/// view h_i of the student's is of:
///
/// feature: L = mean over i of 1 - cos(P h_i, t_i), with a linear P that is dropped afterwards
///
/// similarity: L = mean over i of KL( softmax_j(cos(t_i, t_j)/T_t) || softmax_j(cos(h_i, h_j)/T) ), over the other images j of the
/// batch
///
/// (The first after FitNets, arXiv:1412.6550, on normalised features; the second after SEED, arXiv:2101.04731, and CompRess,
/// arXiv:2010.14713.) Both are means over the views. A base weight of 0 leaves this loss alone.
///
/// # Differs
/// SEED and CompRess compare with a queue, and embed each view by the teacher. Here the batch stands for the queue, which needs no
/// head between features and similarities, and the teacher runs once.
#[derive(Debug)]
pub struct Distil {
    cfg: DistilConfig,
    projector: Linear,
    parameters: Parameters,
    /// (M, C_t), rows of length 1; none where the student is not to be trained.
    teacher: Option<Tensor>,
}

impl Distil {
    /// With these choices.
    ///
    /// # Errors
    /// A configuration out of range; features of a teacher that are no matrix.
    pub fn new(cfg: &DistilConfig, parts: AddonParts<'_>) -> Result<Self> {
        cfg.validate()?;
        let teacher = parts
            .teacher
            .map(|t| l2_normalise(&t.detach()))
            .transpose()?;
        let width = match &teacher {
            Some(teacher) => teacher.dim(1)?,
            None => parts.width,
        };
        let parameters = Parameters::new(parts.seed);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        Ok(Self {
            projector: linear_no_bias(parts.width, width, vb.pp("distil"))?,
            cfg: cfg.clone(),
            parameters,
            teacher,
        })
    }
}

impl Addon for Distil {
    fn kind(&self) -> AddonKind {
        AddonKind::DISTIL
    }

    fn is_active(&self) -> bool {
        self.cfg.weight > 0.
    }

    fn at_features(&mut self, step: &mut AtFeatures<'_>) -> Result<()> {
        if !self.is_active() {
            return Ok(());
        }
        let Some(teacher) = &self.teacher else {
            bail!("distil: there are no features of a teacher");
        };
        let (images, rows) = (step.input.images, teacher.dim(0)?);
        if let Some(image) = images.iter().find(|image| **image as usize >= rows) {
            bail!("distil: image {image}, and the teacher saw {rows} images");
        }
        let taught = teacher.index_select(&Tensor::new(images, &Device::Cpu)?, 0)?;
        let branches: Vec<_> = step.pass.global().collect();
        let temperatures = [self.cfg.temperature, self.cfg.teacher_temperature];
        let (mut of_features, mut of_similarities, mut agreement) = (Vec::new(), Vec::new(), 0.);
        let views = branches.len() as f64;
        for branch in branches {
            let h = &branch.leaves()?.pooled;
            if self.cfg.form != DistilForm::Similarity {
                let (loss, cosine) = feature_loss(&self.projector.forward(h)?, &taught)?;
                of_features.push(loss);
                agreement += cosine / views;
            }
            if self.cfg.form != DistilForm::Feature {
                of_similarities.push(similarity_loss(h, &taught, images, temperatures)?);
            }
        }
        if !of_features.is_empty() {
            step.report.figures.push(("distil_cosine", agreement));
        }
        for (name, losses) in [
            ("loss_distil", of_features),
            ("loss_distil_similarity", of_similarities),
        ] {
            if !losses.is_empty() {
                let mean = Tensor::stack(&losses, 0)?.mean_all()?;
                step.add_loss(name, self.cfg.weight, &mean)?;
            }
        }
        Ok(())
    }

    fn parameters(&self) -> Option<&Parameters> {
        Some(&self.parameters)
    }

    /// Without a teacher nothing is trained, and what was trained with one is left alone.
    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        match self.teacher {
            Some(_) => load_own(&self.parameters, &self.state()?, state),
            None => Ok(()),
        }
    }

    fn trainable(&self) -> BTreeMap<String, Var> {
        // Without the first form nothing goes through the projector.
        match self.is_active() && self.cfg.form != DistilForm::Similarity {
            true => trainable(&[(OWN, &self.parameters)]),
            false => BTreeMap::new(),
        }
    }
}
