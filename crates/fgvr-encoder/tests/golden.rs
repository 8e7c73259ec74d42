//! Narrow ResNets against torchvision: `tests/golden/resnet.py` says what is stored and how the
//! parameters come from their names.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use fgvr_encoder::{ResNet, ResNetConfig, Stem};
use fgvr_nn::{Encoder, NormMode, Parameters};
use fgvr_testkit::{Golden, assert_close, assert_close_values, golden, golden_path};

/// Values in [-1, 1): splitmix64 of (FNV-1a of the name) + index.
fn uniform(name: &str, count: usize) -> Vec<f64> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (1..=count as u64)
        .map(|i| {
            let z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.
        })
        .collect()
}

/// What a tensor of this name holds.
fn values(name: &str, dims: &[usize]) -> Tensor {
    let count: usize = dims.iter().product();
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
    let values: Vec<f32> = uniform(name, count)
        .into_iter()
        .map(|u| (offset + scale * u) as f32)
        .collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

struct Case {
    name: &'static str,
    golden: Golden,
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
            zero_init_residual: false,
        };
        let parameters = Parameters::new(0);
        let model = ResNet::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
        for (name, var) in parameters.all() {
            var.set(&values(&name, var.dims())).unwrap();
        }
        let golden = golden("resnet.safetensors");
        let draw = golden
            .get(&format!("{name}.draw"))
            .to_vec1::<f32>()
            .unwrap()[0];
        Self {
            name,
            golden,
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

    /// Ten times what PyTorch's own f32 is off within the group of tensors that `name` is of.
    fn tolerance(&self, name: &str) -> f64 {
        let group = name.split('.').next().unwrap();
        let stored = self
            .golden
            .get(&format!("{}.f32_deviation.{group}", self.name));
        10. * f64::from(stored.to_vec1::<f32>().unwrap()[0])
    }

    fn expect(&self, name: &str, found: &Tensor) {
        let expected = self.golden.get(&format!("{}.{name}", self.name));
        assert_close(
            &format!("{} {name}", self.name),
            found,
            &expected,
            self.tolerance(name),
        );
    }

    fn eval_features_are_torchvisions(&self) {
        let features = self.model.features(&self.images, NormMode::Eval).unwrap();
        self.expect("eval.map", &features.map);
        self.expect("eval.pooled", &features.pooled);
        let stages = self.model.stages(&self.images, NormMode::Eval).unwrap();
        assert_eq!(stages.len(), 4);
        for (i, stage) in stages.iter().enumerate() {
            let mean = stage.mean((2, 3)).unwrap();
            self.expect(&format!("eval.stage{}", i + 1), &mean);
        }
    }

    /// One train-mode pass, and back from sum(map * a) + sum(pooled * b).
    fn training_pass_is_torchvisions(&self) {
        let (features, tape) = self
            .model
            .forward_train_to_images(&self.images, NormMode::Train)
            .unwrap();
        self.expect("train.map", &features.map);
        self.expect("train.pooled", &features.pooled);
        for (name, var) in self.parameters.buffers() {
            self.expect(&format!("running.{name}"), &var);
        }
        let a = values("loss.map", features.map.dims());
        let b = values("loss.pooled", features.pooled.dims());
        let loss = (&features.map * a).unwrap().sum_all().unwrap();
        let loss = (loss + (&features.pooled * b).unwrap().sum_all().unwrap()).unwrap();
        let leaves = loss.backward().unwrap();
        let mut gradients = GradStore::default();
        let images = tape.backward(&leaves, &mut gradients).unwrap().unwrap();
        self.expect_gradient("grad.images", &images);
        for (name, var) in self.parameters.trainable() {
            let gradient = gradients.get(&var).unwrap();
            self.expect_gradient(&format!("grad.{name}"), gradient);
        }
    }

    fn expect_gradient(&self, name: &str, gradient: &Tensor) {
        if gradient.elem_count() <= 600 {
            return self.expect(name, gradient);
        }
        let stored = |part: &str| -> Vec<f64> {
            let tensor = self.golden.get(&format!("{}.{name}#{part}", self.name));
            tensor.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
        };
        let flat: Vec<f64> = gradient
            .to_dtype(DType::F64)
            .and_then(|g| g.flatten_all()?.to_vec1())
            .unwrap();
        let tolerance = self.tolerance(name);
        let norm = stored("norm")[0];
        let found = flat.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert_close_values(
            &format!("{name} norm"),
            &[found],
            &[norm],
            self.tolerance(name),
        );
        // Against the whole tensor's norm: a single value or sum may be near zero by chance.
        let signs = uniform(&format!("{name}#signed"), 4 * flat.len());
        let signed = signs.chunks(flat.len()).map(|signs| {
            let signed = signs.iter().zip(&flat);
            signed
                .map(|(sign, g)| if *sign >= 0. { *g } else { -g })
                .sum::<f64>()
        });
        let found = flat[..64].iter().copied().chain(signed);
        let expected = stored("first").into_iter().chain(stored("signed"));
        for (found, expected) in found.zip(expected) {
            let off = (found - expected).abs() / norm;
            assert!(
                off <= tolerance,
                "{name}: {found} instead of {expected}, norm {norm}"
            );
        }
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

/// Records what a network asks for.
#[derive(Default)]
struct Recorder(std::sync::Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

impl SimpleBackend for Recorder {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        self.0
            .lock()
            .unwrap()
            .insert(name.to_owned(), shape.dims().to_vec());
        Tensor::zeros(shape, dtype, device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name}: no shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

#[test]
fn names_and_shapes_are_torchvisions() {
    let text = std::fs::read_to_string(golden_path("resnet_names.txt")).unwrap();
    let mut expected: HashMap<&str, BTreeMap<String, Vec<usize>>> = HashMap::new();
    for line in text.lines() {
        let [model, name, shape] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let shape = shape.split(',').map(|dim| dim.parse().unwrap()).collect();
        expected
            .entry(model)
            .or_default()
            .insert(name.to_owned(), shape);
    }
    for (model, depth) in [("resnet18", 18), ("resnet34", 34), ("resnet50", 50)] {
        let config = ResNetConfig {
            depth,
            ..ResNetConfig::default()
        };
        let recorder = Recorder::default();
        let asked = recorder.0.clone();
        let vb = VarBuilder::from_backend(Box::new(recorder), DType::F32, Device::Cpu);
        ResNet::new(&config, vb).unwrap();
        assert_eq!(*asked.lock().unwrap(), expected[model], "{model}");
    }
}
