//! Narrow EfficientNet-Lites against timm: `tests/golden/efficientnet.py` says what is stored and how the parameters
//! come from their names. And what their files are read as.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use fgvr_encoder::{
    Architecture, Backbone, EfficientNet, EfficientNetConfig, EncoderConfig, Error, LoadOptions,
    Weights, load,
};
use fgvr_nn::{Encoder, Features, NormMode, Parameters};
use fgvr_testkit::{assert_close, normal};
use support::{Stored, TrainingPass, affine};

/// What a tensor of this name holds.
fn values(name: &str, dims: &[usize]) -> Tensor {
    let (scale, offset) = if name.ends_with("running_var") {
        (0.5, 1.)
    } else if name.ends_with("running_mean") {
        (0.25, 0.)
    } else if name.ends_with("bn3.weight") || name.ends_with("blocks.0.0.bn2.weight") {
        (0.125, 0.5)
    } else if dims.len() == 1 {
        (0.5, if name.ends_with("weight") { 2.5 } else { 0. })
    } else if dims.len() == 4 && name.contains("conv") {
        ((3. / dims[1..].iter().product::<usize>() as f64).sqrt(), 0.)
    } else {
        (1., 0.)
    };
    affine(name, dims, scale, offset)
}

struct Case {
    stored: Stored,
    parameters: Parameters,
    model: EfficientNet,
    images: Tensor,
}

impl Case {
    fn new(name: &'static str) -> Self {
        let config = EfficientNetConfig {
            width_multiplier: 0.2,
            depth_multiplier: 0.5,
            ..EfficientNetConfig::default()
        };
        let (config, image) = match name {
            "symmetric" => (config.symmetric(), [2, 3, 40, 33]),
            _ => (config, [2, 3, 33, 40]),
        };
        let parameters = Parameters::new(0);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let model = EfficientNet::new(&config, vb).unwrap();
        for (name, var) in parameters.all() {
            var.set(&values(&name, var.dims())).unwrap();
        }
        let stored = Stored::new("efficientnet.safetensors", name);
        let draw = stored.get("draw").to_vec1::<f32>().unwrap()[0];
        Self {
            stored,
            parameters,
            model,
            images: values(&format!("images.{draw}"), &image),
        }
    }

    /// One pass, and back from sum(map * a) + sum(pooled * b).
    fn pass_is_timms(&self, mode: NormMode, [outputs, grad]: [&str; 2]) {
        let pass = TrainingPass::new(&self.model, &self.images, mode);
        let expect = |name: String, found: &Tensor| self.stored.expect_gradient(&name, found);
        expect(format!("{outputs}.map"), &pass.features.map);
        expect(format!("{outputs}.pooled"), &pass.features.pooled);
        let largest = |x: &Tensor| {
            let largest = x.abs().unwrap().max_all().unwrap();
            f64::from(largest.to_scalar::<f32>().unwrap())
        };
        let mut variables = self.parameters.trainable();
        variables.retain(|name, var| {
            if mode == NormMode::Eval {
                return !name.contains("bn");
            }
            let added = name.ends_with("bn3.bias") || name == "blocks.0.0.bn2.bias";
            if added {
                // What is added to all places of a channel goes in the next norm by batch statistics.
                let weight = &self.parameters.all()[&name.replace("bias", "weight")];
                let [here, beside] = [&*var, weight].map(|var| pass.gradients.get(var).unwrap());
                assert!(largest(here) < 1e-3 * largest(beside), "{name}");
            }
            !added
        });
        self.stored.expect_gradients(grad, &pass, variables);
    }

    fn is_timms(&self) {
        self.pass_is_timms(NormMode::Eval, ["eval", "evalgrad"]);
        let features = self.model.features(&self.images, NormMode::Eval).unwrap();
        self.stored.expect_gradient("eval.map", &features.map);
        let names: Vec<String> = (0..7).map(|stage| format!("blocks.{stage}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let stages = self
            .model
            .intermediates(&self.images, NormMode::Eval, &names);
        for (i, stage) in stages.unwrap().values().enumerate() {
            let mean = stage.mean((2, 3)).unwrap();
            self.stored.expect(&format!("eval.blocks{i}"), &mean);
        }
        // After evaluation: it changes running statistics.
        self.pass_is_timms(NormMode::Train, ["train", "grad"]);
        for (name, var) in self.parameters.buffers() {
            self.stored
                .expect_gradient(&format!("running.{name}"), &var);
        }
    }
}

#[test]
fn features_and_gradients_with_either_padding_are_timms() {
    Case::new("same").is_timms();
    Case::new("symmetric").is_timms();
}

#[test]
fn names_and_shapes_are_timms() {
    assert_eq!(
        support::names_and_shapes_are_those_of("efficientnet_names.txt"),
        6
    );
}

#[test]
fn frozen_features_are_those_of_evaluation() {
    for name in ["same", "symmetric"] {
        let case = Case::new(name);
        let frozen = case.model.freeze().unwrap();
        assert_eq!(frozen.width(), 1280);
        // A batch of several parts, sizes by turns, a single pixel.
        for (n, h, w) in [
            (40, 96, 80),
            (1, 33, 47),
            (9, 32, 32),
            (1, 1, 1),
            (2, 33, 47),
        ] {
            let images = normal(2, (n, 3, h, w));
            let Features { map, pooled } = case.model.features(&images, NormMode::Eval).unwrap();
            let found = frozen.features(&images).unwrap();
            assert_eq!(found.map.dims(), map.dims());
            // Norms that weigh 2.5, each after the other, magnify rounding.
            assert_close(name, &found.map, &map, 5e-5);
            assert_close(name, &found.pooled, &pooled, 5e-5);
            assert_close(name, &frozen.embed(&images).unwrap(), &pooled, 5e-5);
        }
        let images = normal(3, (1, 3, 32, 32)).affine(1., f64::NAN).unwrap();
        let pooled = frozen.embed(&images).unwrap().flatten_all().unwrap();
        assert!(pooled.to_vec1::<f32>().unwrap().iter().all(|v| v.is_nan()));
        let error = frozen.embed(&normal(0, (1, 4, 32, 32))).unwrap_err();
        assert!(error.to_string().contains("expected (N, 3, H, W)"));
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let frozen = Case::new("same").model.freeze().unwrap();
    let images = normal(8, (9, 3, 96, 80));
    let maps: Vec<Vec<f32>> = [1, 2, 3]
        .into_iter()
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let map = pool.build().unwrap().install(|| frozen.features(&images));
            map.unwrap().map.flatten_all().unwrap().to_vec1().unwrap()
        })
        .collect();
    assert!(maps.iter().all(|map| *map == maps[0]));
}

/// Every tensor of `architecture` as timm names it, each of one value of its own, with what a classifier adds.
fn timm(architecture: Architecture) -> HashMap<String, Tensor> {
    let parameters = Parameters::new(1);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    Backbone::new(&EncoderConfig::from(architecture), vb).unwrap();
    let mut tensors = HashMap::new();
    for (i, (name, var)) in parameters.all().into_iter().enumerate() {
        let tensor = Tensor::full(i as f32 + 1., var.shape(), &Device::Cpu).unwrap();
        tensors.insert(name, tensor);
    }
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
    tensors.insert("classifier.weight".to_owned(), zeros(&[10, 1280]));
    tensors.insert("classifier.bias".to_owned(), zeros(&[10]));
    tensors
}

/// The same under the names of efficientnet_pytorch.
fn pytorch(tensors: HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let mut blocks: Vec<(usize, usize)> = tensors.keys().filter_map(|name| place(name)).collect();
    blocks.sort_unstable();
    blocks.dedup();
    let rename = |name: &str| {
        let (module, leaf) = name.rsplit_once('.').unwrap();
        let Some(at) = place(name) else {
            let module = match module {
                "bn1" => "_bn0",
                "bn2" => "_bn1",
                "classifier" => "_fc",
                module => return format!("_{module}.{leaf}"),
            };
            return format!("{module}.{leaf}");
        };
        let index = blocks.iter().position(|block| *block == at).unwrap();
        let module = match (module.rsplit('.').next().unwrap(), at.0) {
            ("conv_dw", _) => "_depthwise_conv",
            ("conv_pw", 0) | ("conv_pwl", _) => "_project_conv",
            ("conv_pw", _) => "_expand_conv",
            ("bn1", 0) | ("bn2", 1..) => "_bn1",
            ("bn2", 0) | ("bn3", _) => "_bn2",
            _ => "_bn0",
        };
        format!("_blocks.{index}.{module}.{leaf}")
    };
    tensors
        .into_iter()
        .map(|(name, tensor)| (rename(&name), tensor))
        .collect()
}

/// Stage and block.
fn place(name: &str) -> Option<(usize, usize)> {
    let mut parts = name.strip_prefix("blocks.")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn opened(tensors: &HashMap<String, Tensor>) -> Weights {
    let bytes = safetensors::serialize(tensors, None).unwrap();
    Weights::from_bytes("lite.safetensors", bytes).unwrap()
}

#[test]
fn files_of_efficientnet_pytorch_say_what_they_are_and_load_whole() {
    for architecture in Architecture::ALL
        .into_iter()
        .filter(|architecture| architecture.name().starts_with("tf_"))
    {
        let expected = timm(architecture);
        let weights = opened(&pytorch(expected.clone()));
        let config = weights.encoder().unwrap();
        assert_eq!(config.architecture, architecture);
        let parameters = Parameters::new(0);
        Backbone::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
        let options = LoadOptions {
            encoder: Some(config),
            ..LoadOptions::default()
        };
        let report = load(&parameters, &weights, &options).unwrap();
        assert_eq!(report.layout, "efficientnet_pytorch's names");
        assert!(report.strict().is_ok());
        for (name, var) in parameters.all() {
            let first = |tensor: &Tensor| {
                let flat = tensor.flatten_all().unwrap();
                flat.get(0).unwrap().to_scalar::<f32>().unwrap()
            };
            assert_eq!(first(&var), first(&expected[&name]), "{name}");
        }
    }
}

#[test]
fn a_file_of_timms_names_alone_has_to_be_told() {
    let weights = opened(&timm(Architecture::TfEfficientNetLite0));
    assert_eq!(weights.encoder(), None);
    let error = weights.encoder_as(None).unwrap_err();
    assert!(matches!(error, Error::Untold { .. }));
    let text = error.to_string();
    for part in [
        "lite.safetensors: holds an EfficientNet-Lite0",
        "tf_efficientnet_lite0",
        "or efficientnet_lite0",
        "encoder.architecture",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(
        weights
            .summary()
            .to_string()
            .contains("or efficientnet_lite0")
    );
    for architecture in [
        Architecture::TfEfficientNetLite0,
        Architecture::EfficientNetLite0,
    ] {
        let config = weights.encoder_as(Some(architecture)).unwrap().unwrap();
        assert_eq!(config.architecture, architecture);
        let parameters = Parameters::new(0);
        Backbone::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
        let options = LoadOptions {
            encoder: Some(config),
            ..LoadOptions::default()
        };
        load(&parameters, &weights, &options).unwrap();
    }
    for wrong in [Architecture::TfEfficientNetLite1, Architecture::ResNet50] {
        let error = weights.encoder_as(Some(wrong)).unwrap_err();
        assert!(matches!(error, Error::Architecture { .. }), "{error}");
    }
}

#[test]
fn the_padding_that_names_tell_cannot_be_another() {
    let weights = opened(&pytorch(timm(Architecture::TfEfficientNetLite0)));
    let config = EncoderConfig::from(Architecture::EfficientNetLite0);
    let parameters = Parameters::new(0);
    Backbone::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    let options = LoadOptions {
        encoder: Some(config),
        ..LoadOptions::default()
    };
    let error = load(&parameters, &weights, &options).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("TensorFlow's"), "{error}");
}

#[test]
fn squeeze_and_excitation_is_another_network() {
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
    let mut tensors = timm(Architecture::TfEfficientNetLite0);
    tensors.insert(
        "blocks.0.0.se.conv_reduce.weight".to_owned(),
        zeros(&[8, 32, 1, 1]),
    );
    let weights = opened(&tensors);
    assert_eq!(weights.architecture(), None);
    let family = weights.other_family().unwrap();
    assert!(family.contains("squeeze-and-excitation"), "{family}");
    let mut tensors = pytorch(timm(Architecture::TfEfficientNetLite0));
    tensors.insert(
        "_blocks.0._se_reduce.weight".to_owned(),
        zeros(&[8, 32, 1, 1]),
    );
    let weights = opened(&tensors);
    assert_eq!(weights.encoder(), None);
    let family = weights.other_family().unwrap();
    assert_eq!(family, "an EfficientNet with squeeze-and-excitation");
}
