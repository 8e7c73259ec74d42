//! Narrow ResNets against torchvision: `tests/golden/resnet.py` says what is stored and how the
//! parameters come from their names.

#![allow(clippy::unwrap_used)]

mod support;

use candle_core::{DType, Device, Tensor};
use fgvr_encoder::{ResNet, ResNetConfig, Stem};
use fgvr_nn::{Encoder, NormMode, Parameters};
use support::{Stored, TrainingPass, affine};

/// What a tensor of this name holds.
fn values(name: &str, dims: &[usize]) -> Tensor {
    let (scale, offset) = if name.ends_with("running_var") {
        (0.5, 1.)
    } else if name.ends_with("running_mean") {
        (0.25, 0.)
    } else if name.ends_with("bn3.weight") {
        (0.0625, 0.25)
    } else if dims.len() == 1 {
        (0.25, f64::from(u8::from(name.ends_with("weight"))))
    } else if name.contains("conv") || name.contains("downsample") {
        ((6. / dims[1..].iter().product::<usize>() as f64).sqrt(), 0.)
    } else {
        (1., 0.)
    };
    affine(name, dims, scale, offset)
}

struct Case {
    stored: Stored,
    parameters: Parameters,
    model: ResNet,
    images: Tensor,
}

impl Case {
    fn new(name: &'static str, depth: usize, stem: Stem, image: &[usize]) -> Self {
        let config = ResNetConfig {
            depth,
            width: 4,
            stem,
            ..ResNetConfig::default()
        };
        let parameters = Parameters::new(0);
        let model = ResNet::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
        for (name, var) in parameters.all() {
            var.set(&values(&name, var.dims())).unwrap();
        }
        let stored = Stored::new("resnet.safetensors", name);
        let draw = stored.get("draw").to_vec1::<f32>().unwrap()[0];
        Self {
            stored,
            parameters,
            model,
            images: values(&format!("images.{draw}"), image),
        }
    }

    fn small() -> Self {
        Self::new("resnet10_small", 10, Stem::Small, &[3, 3, 48, 32])
    }

    fn imagenet() -> Self {
        Self::new("resnet50_imagenet", 50, Stem::ImageNet, &[3, 3, 64, 64])
    }

    fn eval_features_are_torchvisions(&self) {
        let features = self.model.features(&self.images, NormMode::Eval).unwrap();
        self.stored.expect("eval.map", &features.map);
        self.stored.expect("eval.pooled", &features.pooled);
        let names = ["layer1", "layer2", "layer3", "layer4"];
        let stages = self
            .model
            .intermediates(&self.images, NormMode::Eval, &names)
            .unwrap();
        assert_eq!(stages.keys().collect::<Vec<_>>(), names);
        for (i, stage) in stages.values().enumerate() {
            let mean = stage.mean((2, 3)).unwrap();
            self.stored.expect(&format!("eval.stage{}", i + 1), &mean);
        }
    }

    fn training_pass_is_torchvisions(&self) {
        let pass = TrainingPass::new(&self.model, &self.images, NormMode::Train);
        self.stored.expect("train.map", &pass.features.map);
        self.stored.expect("train.pooled", &pass.features.pooled);
        for (name, var) in self.parameters.buffers() {
            self.stored.expect(&format!("running.{name}"), &var);
        }
        let variables = self.parameters.trainable();
        self.stored.expect_gradients("grad", &pass, variables);
    }
}

#[test]
fn eval_features_and_stages_are_torchvisions() {
    Case::small().eval_features_are_torchvisions();
    Case::imagenet().eval_features_are_torchvisions();
}

#[test]
fn training_with_the_small_stem_on_images_that_are_not_square_is_torchvisions() {
    Case::small().training_pass_is_torchvisions();
}

#[test]
fn training_a_resnet50_with_the_imagenet_stem_is_torchvisions() {
    Case::imagenet().training_pass_is_torchvisions();
}

#[test]
fn names_and_shapes_are_torchvisions() {
    assert_eq!(
        support::names_and_shapes_are_those_of("resnet_names.txt"),
        5
    );
}
