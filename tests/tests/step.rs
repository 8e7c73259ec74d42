//! One step of the whole method on real networks: a narrow ResNet-10, the convolutional decoder,
//! MoCo v2 and SynthPair.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use fgvr_data::Normalisation;
use fgvr_data::augment::{PairAugmentConfig, pair_augment};
use fgvr_decoder::{ConvDecoder, DecoderConfig};
use fgvr_encoder::{ResNet, ResNetConfig, Stem};
use fgvr_nn::ParameterGradients;
use fgvr_nn::Parameters;
use fgvr_nn::optim::{Adam, AdamConfig, Sgd, SgdConfig, clip_gradient_norm};
use fgvr_ssl::{
    Addon, Arm, Base, DecoderNetwork, MoCoConfig, MoCoV2, Network, StepInput, StepOutput,
    SynthPair, SynthPairConfig,
};
use fgvr_testkit::normal;

/// Images of a batch.
const N: u64 = 8;
const SIZE: usize = 32;
const SEED: u64 = 11;

type Bits = BTreeMap<String, Vec<u32>>;

struct Run {
    base: MoCoV2<ResNet>,
    decoder_parameters: Parameters,
    method: SynthPair,
}

/// The arm's choices, with pairs from the first step whose bank holds a batch.
fn config(arm: Arm) -> SynthPairConfig {
    let mut cfg = SynthPairConfig {
        warm_up: 0.,
        ramp: 0.,
        bank_size: 64,
        bank_minimum: N as usize,
        ..SynthPairConfig::default()
    };
    arm.apply(&mut cfg);
    cfg
}

impl Run {
    fn new(cfg: &SynthPairConfig) -> Self {
        let encoder = ResNetConfig {
            depth: 10,
            width: 8,
            stem: Stem::Small,
            ..ResNetConfig::default()
        };
        let network = || {
            let parameters = Parameters::new(SEED);
            let vb = parameters.builder(DType::F32, &Device::Cpu);
            Network {
                encoder: ResNet::new(&encoder, vb).unwrap(),
                parameters,
            }
        };
        let moco = MoCoConfig {
            dim: 16,
            queue: 32,
            pair_queue: 32,
            groups: 2,
            seed: SEED,
            ..MoCoConfig::default()
        };
        let base = MoCoV2::new(network(), network(), Parameters::new(SEED), &moco).unwrap();
        let decoder_parameters = Parameters::new(SEED);
        let vb = decoder_parameters.builder(DType::F32, &Device::Cpu);
        let width = encoder.out_channels();
        let shape = DecoderConfig::for_size(width, SIZE, encoder.stride(), 16);
        let decoder = DecoderNetwork {
            decoder: Box::new(ConvDecoder::new(&shape, vb).unwrap()),
            parameters: decoder_parameters.clone(),
            adam: AdamConfig::default(),
            learning_rate: 1e-3,
        };
        Self {
            base,
            decoder_parameters,
            method: SynthPair::new(cfg, width, Some(decoder)).unwrap(),
        }
    }

    /// A step up to its gradients, on views that depend on the step alone.
    fn gradients(&mut self, step: u64) -> StepOutput {
        self.gradients_of(step, &views(step))
    }

    fn gradients_of(&mut self, step: u64, [first, second]: &[Tensor; 2]) -> StepOutput {
        let images = images(step);
        let augment = |pictures: &Tensor, view: u64| -> Result<Tensor> {
            let (cfg, norm) = (PairAugmentConfig::default(), Normalisation::imagenet());
            pair_augment(pictures, &cfg, &norm, SEED, step, view, &images)
        };
        let input = StepInput {
            base_weight: 1.,
            views: [first, second].into(),
            images: &images,
            step,
            total_steps: 10,
            seed: SEED,
            augment: &augment,
            augment_on_device: None,
            pictures: false,
        };
        self.method.step(&mut self.base, input).unwrap()
    }

    /// Bits of the running statistics of encoder, key encoder and decoder.
    fn running_statistics(&self) -> Bits {
        let stores = [
            ("encoder", &self.base.online().parameters),
            ("key encoder", &self.base.key().parameters),
            ("decoder", &self.decoder_parameters),
        ];
        let buffers = stores.iter().flat_map(|(prefix, store)| {
            let vars = store.buffers().into_iter();
            vars.map(move |(name, var)| (format!("{prefix} {name}"), bits(&var)))
        });
        buffers.collect()
    }

    /// Every variable that is trained: the base's, and the decoder's.
    fn trainable(&self) -> [BTreeMap<String, Var>; 2] {
        [self.base.trainable(), self.decoder_parameters.trainable()]
    }
}

fn views(step: u64) -> [Tensor; 2] {
    [0, 1].map(|view| normal(100 + 2 * step + view, (N as usize, 3, SIZE, SIZE)))
}

fn images(step: u64) -> Vec<u32> {
    (0..N).map(|i| (step * N + i) as u32).collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    values(tensor).into_iter().map(f32::to_bits).collect()
}

fn gradient_bits(vars: &BTreeMap<String, Var>, gradients: &ParameterGradients) -> Bits {
    let of = |(name, var): (&String, &Var)| (name.clone(), bits(gradients.get(var).unwrap()));
    vars.iter().map(of).collect()
}

/// The names whose bits differ.
fn differing<'a>(a: &'a Bits, b: &Bits) -> Vec<&'a String> {
    assert!(a.keys().eq(b.keys()) && !a.is_empty());
    a.keys().filter(|name| a[*name] != b[*name]).collect()
}

/// Two runs that differ in ν alone, after their third step, and what it gave.
fn with_and_without_pair() -> [(Run, StepOutput); 2] {
    [Arm::Full, Arm::ReconOnly].map(|arm| {
        let mut run = Run::new(&config(arm));
        // The first step fills the bank, and the second the queue of generated keys, without which a
        // pair loss is zero. No optimiser moves the networks apart.
        for step in 0..2 {
            run.gradients(step);
            run.base.after_step().unwrap();
        }
        let output = run.gradients(2);
        (run, output)
    })
}

#[test]
fn generated_images_leave_no_trace_in_running_statistics() {
    let fresh = Run::new(&config(Arm::Full)).running_statistics();
    let [(with, output), (without, plain)] = with_and_without_pair();
    assert!(output.losses.get("loss_pair").is_some_and(|loss| loss > 0.));
    assert!(plain.losses.get("loss_pair").is_none());
    let (with, without) = (with.running_statistics(), without.running_statistics());
    assert_eq!(differing(&with, &without), [""; 0]);
    // Real images do leave one, in every network.
    assert_eq!(differing(&with, &fresh).len(), fresh.len());
}

#[test]
fn the_pair_loss_reaches_encoder_and_head_but_not_the_decoder() {
    let [(run, with), (other, without)] = with_and_without_pair();
    let ([base, decoder], [other_base, other_decoder]) = (run.trainable(), other.trainable());
    let bits_of = |vars, output: &StepOutput| gradient_bits(vars, &output.gradients);
    let (a, b) = (bits_of(&decoder, &with), bits_of(&other_decoder, &without));
    assert_eq!(differing(&a, &b), [""; 0]);
    let a = gradient_bits(&base, &with.gradients);
    let b = gradient_bits(&other_base, &without.gradients);
    assert_eq!(differing(&a, &b).len(), a.len());
}

#[test]
fn with_both_weights_zero_the_gradients_are_the_bases_bit_for_bit() {
    let mut run = Run::new(&config(Arm::Base));
    let mut alone = Run::new(&config(Arm::Base));
    for step in 0..2 {
        let output = run.gradients(step);
        for var in run.decoder_parameters.trainable().values() {
            assert!(output.gradients.get(var).is_none());
        }

        let [first, second] = &views(step);
        let pass = alone
            .base
            .real([first, second].into(), &images(step))
            .unwrap();
        let (leaves, mut gradients) = (
            pass.found.tensor().unwrap().backward().unwrap(),
            ParameterGradients::default(),
        );
        let vars = alone.base.trainable();
        pass.backward(leaves.into(), &vars, &mut gradients).unwrap();

        let found = gradient_bits(&run.base.trainable(), &output.gradients);
        let expected = gradient_bits(&vars, &gradients);
        assert_eq!(differing(&found, &expected), [""; 0]);
        for run in [&mut run, &mut alone] {
            run.base.after_step().unwrap();
        }
    }
}

#[test]
fn every_variable_of_encoder_head_and_decoder_learns_in_arm_full() {
    let [(run, output), _] = with_and_without_pair();
    let [base, decoder] = run.trainable();
    for part in ["encoder.", "head."] {
        assert!(base.keys().any(|name| name.starts_with(part)), "{part}");
    }
    for (name, var) in base.into_iter().chain(decoder) {
        let Some(gradient) = output.gradients.get(&var) else {
            panic!("{name} got no gradient");
        };
        assert_eq!(gradient.dims(), var.dims(), "{name}");
        let values = values(gradient);
        assert!(values.iter().all(|g| g.is_finite()), "{name}");
        assert!(values.iter().any(|g| *g != 0.), "{name} is all zeros");
    }
}

/// Bits of all that four steps, three of them with a pair, and both optimisers leave behind.
fn four_steps() -> Bits {
    let mut run = Run::new(&config(Arm::Full));
    let [base, decoder] = run.trainable();
    let mut sgd = Sgd::new(base.clone(), &SgdConfig::default()).unwrap();
    let mut adam = Adam::new(decoder.clone(), &AdamConfig::default()).unwrap();
    for step in 0..4 {
        let mut output = run.gradients(step);
        assert_eq!(output.losses.get("loss_pair").is_some(), step > 0);
        let norm = clip_gradient_norm(&base, &mut output.gradients, Some(1.)).unwrap();
        assert!(norm.is_finite() && norm > 0.);
        sgd.step(&output.gradients, 0.05).unwrap();
        adam.step(&output.gradients, 1e-3).unwrap();
        run.base.after_step().unwrap();
    }
    let mut state = BTreeMap::new();
    for (part, tensors) in [
        ("base", run.base.state().unwrap()),
        ("method", run.method.state().unwrap()),
        ("sgd", sgd.state().unwrap()),
        ("adam", adam.state().unwrap()),
    ] {
        for (name, tensor) in tensors {
            // Counters are not f32; as f64 each keeps its value.
            let tensor = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
            let words = tensor.to_vec1::<f64>().unwrap().into_iter().flat_map(|v| {
                let bits = v.to_bits();
                [(bits >> 32) as u32, bits as u32]
            });
            state.insert(format!("{part} {name}"), words.collect());
        }
    }
    for (name, var) in run.decoder_parameters.all() {
        state.insert(format!("decoder {name}"), bits(&var));
    }
    state
}

#[test]
fn four_steps_give_the_same_bits_on_one_thread_and_on_two() {
    let [one, two] = [1, 2].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(four_steps)
    });
    assert_eq!(differing(&one, &two), [""; 0]);
}

/// One NaN, in an image or in a variable: neither a ReLU nor a maximum may make a number of it.
#[test]
fn a_single_nan_shows_in_the_loss_and_in_the_gradient_norm() {
    let places = [
        "an image",
        "conv1.weight",
        "layer2.0.bn1.bias",
        "layer4.0.bn2.weight",
        "head",
    ];
    for place in places {
        let mut run = Run::new(&config(Arm::Full));
        run.gradients(0);
        run.base.after_step().unwrap();
        let mut views = views(1);
        let head = "head.0.bias".to_owned();
        match place {
            "an image" => views[0] = poisoned(&views[0]),
            name => {
                let vars = run.base.trainable();
                let var = vars.get(&format!("encoder.{name}"));
                let var = var.unwrap_or_else(|| &vars[&head]);
                var.set(&poisoned(var)).unwrap();
            }
        }
        let kept = run.method.bank().unwrap().unwrap().len();
        let mut output = run.gradients_of(1, &views);
        assert!(output.losses.base().is_nan(), "{place}");
        assert!(output.losses.total.is_nan(), "{place}");
        assert!(output.losses.get("loss_pair").is_none(), "{place}");
        assert_eq!(run.method.bank().unwrap().unwrap().len(), kept, "{place}");
        let vars = run.base.trainable();
        let norm = clip_gradient_norm(&vars, &mut output.gradients, None).unwrap();
        assert!(norm.is_nan(), "{place}: {norm}");
    }
}

/// `tensor` with NaN as its first value.
fn poisoned(tensor: &Tensor) -> Tensor {
    let mut values = values(tensor);
    values[0] = f32::NAN;
    Tensor::from_vec(values, tensor.shape(), &Device::Cpu).unwrap()
}
