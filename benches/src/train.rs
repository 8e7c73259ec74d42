//! One supervised training step: forward, cross-entropy on 1000 classes, backward, SGD.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Linear, Module, linear};
use fgvr_encoder::Backbone;
use fgvr_nn::optim::{Sgd, SgdConfig};
use fgvr_nn::{Encoder, NormMode, ParameterGradients, Parameters};

use crate::case::{Case, Size};
use crate::random;

const CLASSES: usize = 1000;
const LEARNING_RATE: f64 = 0.01;

/// A network with its classifier, and a batch that stays the same.
pub(crate) struct Train {
    parameters: Parameters,
    encoder: Backbone,
    classifier: Linear,
    sgd: Sgd,
    images: Tensor,
    labels: Tensor,
}

impl Train {
    pub(crate) fn new(size: Size) -> Result<Self> {
        let parameters = Parameters::new(0);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let encoder = Backbone::new(&size.encoder()?, vb.clone())?;
        let classifier = linear(encoder.width(), CLASSES, vb.pp("fc"))?;
        let labels: Vec<u32> = (0..size.batch as u32)
            .map(|i| i * 37 % CLASSES as u32)
            .collect();
        Ok(Self {
            encoder,
            classifier,
            // Momentum 0.9, weight decay 1e-4 on every variable.
            sgd: Sgd::new(parameters.trainable(), &SgdConfig::default())?,
            images: random::images(size.batch, size.side, 0)?,
            labels: Tensor::new(labels, &Device::Cpu)?,
            parameters,
        })
    }

    /// What is trained, by torchvision's names.
    pub(crate) fn parameters(&self) -> BTreeMap<String, Var> {
        self.parameters.trainable()
    }

    /// (N, 3, H, W)
    pub(crate) fn images(&self) -> &Tensor {
        &self.images
    }

    /// (N), u32
    pub(crate) fn labels(&self) -> &Tensor {
        &self.labels
    }

    /// The loss, and its gradient in each parameter.
    pub(crate) fn gradients(&self) -> Result<(Tensor, ParameterGradients)> {
        let (features, tape) = self.encoder.forward_train(&self.images, NormMode::Train)?;
        let logits = self.classifier.forward(&features.pooled)?;
        let loss = candle_nn::loss::cross_entropy(&logits, &self.labels)?;
        let leaves = loss.backward()?;
        let mut gradients = ParameterGradients::default();
        tape.backward(&leaves, &mut gradients)?;
        gradients.append(leaves.into())?;
        Ok((loss, gradients))
    }
}

impl Case for Train {
    fn images(&self) -> usize {
        self.labels.elem_count()
    }

    fn step(&mut self) -> Result<()> {
        let (_, gradients) = self.gradients()?;
        self.sgd.step(&gradients, LEARNING_RATE)?;
        Ok(())
    }
}
