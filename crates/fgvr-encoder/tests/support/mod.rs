//! What the golden tests share: values from names, stored tensors, a training pass, and what a network asks for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use fgvr_encoder::{Architecture, Backbone, EncoderConfig};
use fgvr_nn::{Encoder, Features, NormMode, ParameterGradients};
pub(crate) use fgvr_testkit::formula::uniform_of as uniform;
use fgvr_testkit::{Golden, assert_close, assert_close_values, golden, golden_path};

/// `offset + scale * uniform(name)`.
pub(crate) fn affine(name: &str, dims: &[usize], scale: f64, offset: f64) -> Tensor {
    let values: Vec<f32> = uniform(name, dims.iter().product())
        .into_iter()
        .map(|u| (offset + scale * u) as f32)
        .collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// A training pass, and back from sum(map * a) + sum(pooled * b).
pub(crate) struct TrainingPass {
    pub(crate) features: Features,
    pub(crate) gradients: ParameterGradients,
    /// The gradient at the images.
    pub(crate) at_images: Tensor,
}

impl TrainingPass {
    pub(crate) fn new(encoder: &dyn Encoder, images: &Tensor, norm: NormMode) -> Self {
        let (features, tape) = encoder.forward_train_to_images(images, norm).unwrap();
        let weighted = |name: &str, output: &Tensor| {
            let weights = affine(name, output.dims(), 1., 0.);
            (output * weights).unwrap().sum_all().unwrap()
        };
        let (map, pooled) = (&features.map, &features.pooled);
        let loss = (weighted("loss.map", map) + weighted("loss.pooled", pooled)).unwrap();
        let mut gradients = ParameterGradients::default();
        let at_images = tape.backward(&loss.backward().unwrap(), &mut gradients);
        Self {
            at_images: at_images.unwrap().unwrap(),
            features,
            gradients,
        }
    }
}

/// The stored tensors of one case.
pub(crate) struct Stored {
    case: &'static str,
    golden: Golden,
}

impl Stored {
    pub(crate) fn new(file: &str, case: &'static str) -> Self {
        Self {
            case,
            golden: golden(file),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Tensor {
        self.golden.get(&format!("{}.{name}", self.case))
    }

    /// Ten times what PyTorch's own f32 is off within the group of tensors that `name` is of.
    fn tolerance(&self, name: &str) -> f64 {
        let group = name.split('.').next().unwrap();
        let stored = self.get(&format!("f32_deviation.{group}"));
        10. * f64::from(stored.to_vec1::<f32>().unwrap()[0])
    }

    pub(crate) fn expect(&self, name: &str, found: &Tensor) {
        let what = format!("{} {name}", self.case);
        assert_close(&what, found, &self.get(name), self.tolerance(name));
    }

    /// The gradients of `pass` at the images and at each of `variables`, under `group`.
    pub(crate) fn expect_gradients(
        &self,
        group: &str,
        pass: &TrainingPass,
        variables: BTreeMap<String, Var>,
    ) {
        self.expect_gradient(&format!("{group}.images"), &pass.at_images);
        for (name, variable) in variables {
            let gradient = pass.gradients.get(&variable).unwrap();
            self.expect_gradient(&format!("{group}.{name}"), gradient);
        }
    }

    /// As [`Stored::expect`], for what is stored in parts where it is large.
    pub(crate) fn expect_gradient(&self, name: &str, gradient: &Tensor) {
        let parts = format!("{}.{name}#norm", self.case);
        if !self.golden.tensors().contains_key(&parts) {
            return self.expect(name, gradient);
        }
        let stored = |part: &str| -> Vec<f64> {
            let tensor = self.get(&format!("{name}#{part}"));
            tensor.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
        };
        let flat: Vec<f64> = gradient
            .to_dtype(DType::F64)
            .and_then(|g| g.flatten_all()?.to_vec1())
            .unwrap();
        let tolerance = self.tolerance(name);
        let norm = stored("norm")[0];
        let found = flat.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert_close_values(&format!("{name} norm"), &[found], &[norm], tolerance);
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

/// Records what a network asks for.
#[derive(Default)]
struct Recorder(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

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

/// Every architecture named in `file`, with lines of `architecture parameter shape`, asks for just
/// those parameters; returns how many there were.
pub(crate) fn names_and_shapes_are_those_of(file: &str) -> usize {
    let text = std::fs::read_to_string(golden_path(file)).unwrap();
    let mut expected: HashMap<&str, BTreeMap<String, Vec<usize>>> = HashMap::new();
    for line in text.lines() {
        let [model, name, shape] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let shape = shape.split(',').map(|dim| dim.parse().unwrap()).collect();
        expected
            .entry(model)
            .or_default()
            .insert(name.to_owned(), shape);
    }
    for (model, expected) in &expected {
        let config = EncoderConfig::from(model.parse::<Architecture>().unwrap());
        let recorder = Recorder::default();
        let asked = recorder.0.clone();
        let vb = VarBuilder::from_backend(Box::new(recorder), DType::F32, Device::Cpu);
        Backbone::new(&config, vb).unwrap();
        assert_eq!(*asked.lock().unwrap(), *expected, "{model}");
    }
    expected.len()
}
