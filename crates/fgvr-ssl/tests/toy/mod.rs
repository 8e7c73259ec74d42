//! A small encoder and decoder: candle computes them, one tape operation each carries the gradient.
#![allow(dead_code)] // each test file uses its part

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::{D, DType, Device, Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};
use fgvr_nn::optim::AdamConfig;
use fgvr_nn::{
    Activation, Buffer, Decoder, Encoder, FeatureMaps, Features, NormMode, Parameters, Tape,
};
use fgvr_ssl::{
    Base, BaseConfig, BaseKind, ByolConfig, DecoderNetwork, DietConfig, DinoConfig, MoCoConfig,
    MoCoV2, MoCoV3Config, Network, Parts, RunLength, SimSiamConfig, StepInput, StepOutput, Views,
};
use fgvr_testkit::{normal, uniform};

pub(crate) const SIDE: usize = 8;
pub(crate) const WIDTH: usize = 12;

/// Convolution, batch norm, ReLU.
pub(crate) struct ToyEncoder {
    weight: Tensor,
    gain: Tensor,
    shift: Tensor,
    mean: Tensor,
    var: Tensor,
    parameters: Parameters,
    pub(crate) at_pooled: AtPooled,
}

/// The gradients (N, C) that came back to the pooled features of each training pass, in the tapes' order.
pub(crate) type AtPooled = Arc<Mutex<Vec<Tensor>>>;

impl ToyEncoder {
    fn new(parameters: &Parameters) -> Result<Self> {
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let normal = Init::Randn {
            mean: 0.,
            stdev: 0.3,
        };
        Ok(Self {
            weight: vb.get_with_hints((WIDTH, 3, 2, 2), "conv.weight", normal)?,
            gain: vb.get_with_hints(WIDTH, "bn.weight", Init::Const(1.))?,
            shift: vb.get_with_hints(WIDTH, "bn.bias", Init::Const(0.1))?,
            mean: vb.get_with_hints(WIDTH, "bn.running_mean", Init::Const(0.))?,
            var: vb.get_with_hints(WIDTH, "bn.running_var", Init::Const(1.))?,
            parameters: parameters.clone(),
            at_pooled: AtPooled::default(),
        })
    }

    /// The map on candle's autograd, and the batch statistics where they are taken.
    pub(crate) fn graph(
        &self,
        images: &Tensor,
        norm: NormMode,
    ) -> Result<(Tensor, Option<[Tensor; 2]>)> {
        let x = images.conv2d(&self.weight, 0, 2, 1, 1)?;
        let column = |t: &Tensor| t.reshape((1, WIDTH, 1, 1));
        let groups = match norm {
            NormMode::Eval => {
                let scaled = x
                    .broadcast_sub(&column(&self.mean)?)?
                    .broadcast_div(&(column(&self.var)? + 1e-5)?.sqrt()?)?;
                return Ok((self.finish(&scaled)?, None));
            }
            NormMode::Split { groups, .. } => groups,
            NormMode::Train | NormMode::NoUpdate => 1,
        };
        let over = |t: &Tensor| t.mean_keepdim((0, 2, 3));
        let (mut parts, mut means, mut vars) = (vec![], vec![], vec![]);
        for part in x.chunk(groups, 0)? {
            let mean = over(&part)?;
            let centred = part.broadcast_sub(&mean)?;
            let var = over(&centred.sqr()?)?;
            parts.push(centred.broadcast_div(&(&var + 1e-5)?.sqrt()?)?);
            means.push(mean);
            vars.push(var);
        }
        let statistics = [means, vars].map(|of| Tensor::cat(&of, 0)?.mean(0)?.flatten_all());
        let [mean, var] = statistics;
        Ok((self.finish(&Tensor::cat(&parts, 0)?)?, Some([mean?, var?])))
    }

    fn finish(&self, scaled: &Tensor) -> Result<Tensor> {
        let column = |t: &Tensor| t.reshape((1, WIDTH, 1, 1));
        scaled
            .broadcast_mul(&column(&self.gain)?)?
            .broadcast_add(&column(&self.shift)?)?
            .relu()
    }

    fn run(&self, images: &Tensor, norm: NormMode) -> Result<(Tensor, Tensor)> {
        let (map, statistics) = self.graph(images, norm)?;
        let update = match norm {
            NormMode::Train => true,
            NormMode::Split { update, .. } => update,
            NormMode::NoUpdate | NormMode::Eval => false,
        };
        if let (true, Some(statistics)) = (update, statistics) {
            let buffers = self.parameters.buffers();
            for (name, new) in ["bn.running_mean", "bn.running_var"].iter().zip(statistics) {
                let old = &buffers[*name];
                old.set(&((old.as_tensor() * 0.9)? + (new.detach() * 0.1)?)?)?;
            }
        }
        let map = map.detach();
        let pooled = map.mean((2, 3))?;
        Ok((map, pooled))
    }
}

impl ToyEncoder {
    fn record(&self, images: &Tensor, norm: NormMode, to_images: bool) -> Result<(Features, Tape)> {
        let (map, pooled) = self.run(images, norm)?;
        let mut tape = Tape::recording();
        if to_images {
            tape.input(images, true)?;
        }
        let mut outputs = vec![];
        for value in [&map, &pooled] {
            let places = value.dims().len() == 4;
            let output = match places {
                true => put(&mut tape, value)?,
                false => put(
                    &mut tape,
                    &value.unsqueeze(D::Minus1)?.unsqueeze(D::Minus1)?,
                )?,
            };
            let (copy, images, vars) = (
                self.clone_refs(),
                images.clone(),
                self.parameters.trainable(),
            );
            let shape = output.shape();
            let at_pooled = self.at_pooled.clone();
            tape.push(&output, move |gradient, gradients| {
                let gradient = channels_first(&gradient, shape)?;
                if !places && !to_images {
                    let rows = gradient.flatten_from(1)?; // (N, C, 1, 1) -> (N, C)
                    at_pooled.lock().expect("one thread").push(rows);
                }
                let leaf = Var::from_tensor(&images.detach())?;
                let (map, _) = copy.graph(&leaf, norm)?;
                let value = match places {
                    true => map,
                    false => map.mean_keepdim((2, 3))?,
                };
                let found = (value * gradient)?.sum_all()?.backward()?;
                for var in vars.values() {
                    let d = found
                        .get(var)
                        .expect("a gradient")
                        .flatten_all()?
                        .to_vec1()?;
                    gradients.add_parameter(var, d)?;
                }
                if to_images {
                    let d = found.get(&leaf).expect("a gradient");
                    let d = d.permute((0, 2, 3, 1))?.contiguous()?; // (N, C, H, W) -> (N, H, W, C)
                    let d = d.flatten_all()?.to_vec1::<f32>()?;
                    gradients.add(INPUT, Buffer::from_slice(&d));
                }
                Ok(())
            });
            outputs.push(match places {
                true => tape.output(&output)?,
                false => tape.output_vector(&output)?,
            });
        }
        let (map, pooled) = (
            outputs[0].as_tensor().clone(),
            outputs[1].as_tensor().clone(),
        );
        Ok((Features { map, pooled }, tape))
    }
}

impl Encoder for ToyEncoder {
    fn apply(&self, _: &mut Tape, _: &Activation, _: NormMode) -> Result<FeatureMaps> {
        bail!("toy: candle computes it, no layer on a tape does")
    }

    fn forward_train(&self, images: &Tensor, norm: NormMode) -> Result<(Features, Tape)> {
        self.record(images, norm, false)
    }

    fn forward_train_to_images(&self, images: &Tensor, norm: NormMode) -> Result<(Features, Tape)> {
        self.record(images, norm, true)
    }

    fn features(&self, images: &Tensor, norm: NormMode) -> Result<Features> {
        let (map, pooled) = self.run(images, norm)?;
        Ok(Features { map, pooled })
    }

    fn width(&self) -> usize {
        WIDTH
    }
}

impl ToyEncoder {
    fn clone_refs(&self) -> Self {
        Self::new(&self.parameters).expect("the variables exist")
    }
}

/// One linear layer to pixels; counts its batches in a running statistic.
pub(crate) struct ToyDecoder {
    weight: Tensor,
    bias: Tensor,
    /// Whether pixels are normalised over the batch, in front of the bias.
    normed: bool,
    pub(crate) parameters: Parameters,
}

impl ToyDecoder {
    /// One with batch norm.
    pub(crate) fn normed(seed: u64) -> Result<Self> {
        let plain = Self::new(seed)?;
        Ok(Self {
            normed: true,
            ..plain
        })
    }

    pub(crate) fn new(seed: u64) -> Result<Self> {
        let parameters = Parameters::new(seed);
        let vb: VarBuilder = parameters.builder(DType::F32, &Device::Cpu);
        let pixels = 3 * SIDE * SIDE;
        let init = Init::Randn {
            mean: 0.,
            stdev: 0.2,
        };
        let weight = vb.get_with_hints((WIDTH, pixels), "weight", init)?;
        let bias = vb.get_with_hints(pixels, "bias", Init::Const(0.))?;
        vb.get_with_hints(1, "bn.running_mean", Init::Const(0.))?;
        Ok(Self {
            weight,
            bias,
            normed: false,
            parameters,
        })
    }

    /// A decoder over the same variables, for a SynthPair.
    pub(crate) fn network(&self) -> Option<DecoderNetwork> {
        network_of(self.copy(), &self.parameters)
    }

    fn copy(&self) -> Self {
        Self {
            weight: self.weight.clone(),
            bias: self.bias.clone(),
            normed: self.normed,
            parameters: self.parameters.clone(),
        }
    }

    /// Of pooled features, or of a map's sums over places, each place with its own share.
    pub(crate) fn graph(&self, features: &Tensor) -> Result<Tensor> {
        let pooled = match features.rank() {
            4 => {
                let (_, _, h, w) = features.dims4()?;
                let share = Tensor::arange(1f32, (h * w + 1) as f32, &Device::Cpu)?;
                let share = (share.reshape((1, 1, h, w))? * 0.1)?;
                features.broadcast_mul(&share)?.sum((2, 3))?
            }
            _ => features.clone(),
        };
        let mut x = pooled.matmul(&self.weight)?;
        if self.normed {
            let centred = x.broadcast_sub(&x.mean_keepdim(0)?)?;
            let var = centred.sqr()?.mean_keepdim(0)?;
            x = centred.broadcast_div(&(var + 1e-5)?.sqrt()?)?;
        }
        let x = x.broadcast_add(&self.bias)?;
        x.tanh()?.reshape(((), 3, SIDE, SIDE)) // (N, 3*S*S) -> (N, 3, S, S)
    }

    fn run(&self, pooled: &Tensor, norm: NormMode) -> Result<Tensor> {
        if norm == NormMode::Train {
            let batches = &self.parameters.buffers()["bn.running_mean"];
            batches.set(&(batches.as_tensor() + 1.)?)?;
        }
        self.graph(&pooled.detach()).map(|images| images.detach())
    }
}

/// Any decoder, for a SynthPair.
pub(crate) fn network_of(
    decoder: impl Decoder + Send + 'static,
    parameters: &Parameters,
) -> Option<DecoderNetwork> {
    Some(DecoderNetwork {
        decoder: Box::new(decoder),
        parameters: parameters.clone(),
        adam: AdamConfig::default(),
        learning_rate: 1e-3,
    })
}

/// The first map of a tape, which is the input here.
const INPUT: usize = 1;

impl Decoder for ToyDecoder {
    fn forward_train(&self, pooled: &Tensor, norm: NormMode) -> Result<(Var, Tape)> {
        let images = self.run(pooled, norm)?;
        let mut tape = Tape::recording();
        tape.input(pooled, true)?;
        let output = put(&mut tape, &images)?;
        let copy = self.copy();
        let (pooled, shape) = (pooled.detach(), output.shape());
        tape.push(&output, move |gradient, gradients| {
            let gradient = channels_first(&gradient, shape)?;
            let leaf = Var::from_tensor(&pooled)?;
            let found = (copy.graph(&leaf)? * gradient)?.sum_all()?.backward()?;
            for var in copy.parameters.trainable().values() {
                let d = found
                    .get(var)
                    .expect("a gradient")
                    .flatten_all()?
                    .to_vec1()?;
                gradients.add_parameter(var, d)?;
            }
            let d = found.get(&leaf).expect("a gradient").clone();
            // (N, C, h, w) -> (N, h, w, C), as the tape has maps.
            let d = match d.rank() {
                4 => d.permute((0, 2, 3, 1))?.contiguous()?,
                _ => d,
            };
            let d = d.flatten_all()?.to_vec1::<f32>()?;
            gradients.add(INPUT, Buffer::from_slice(&d));
            Ok(())
        });
        Ok((tape.output(&output)?, tape))
    }

    fn generate(&self, pooled: &Tensor, norm: NormMode) -> Result<Tensor> {
        self.run(pooled, norm)
    }
}

/// (N, C, H, W) as a map.
fn put(tape: &mut Tape, x: &Tensor) -> Result<Activation> {
    let (n, c, h, w) = x.dims4()?;
    let values = x.permute((0, 2, 3, 1))?.flatten_all()?.to_vec1::<f32>()?;
    Ok(tape.map([n, h, w, c], Buffer::from_slice(&values)))
}

fn channels_first(values: &[f32], [n, h, w, c]: [usize; 4]) -> Result<Tensor> {
    Tensor::from_slice(values, (n, h, w, c), &Device::Cpu)?
        .permute((0, 3, 1, 2))?
        .contiguous()
}

pub(crate) fn network(seed: u64) -> Network<ToyEncoder> {
    let parameters = Parameters::new(seed);
    let encoder = ToyEncoder::new(&parameters).unwrap();
    Network {
        encoder,
        parameters,
    }
}

pub(crate) fn moco_config() -> MoCoConfig {
    MoCoConfig {
        dim: 6,
        momentum: 0.9,
        queue: 20,
        pair_queue: 16,
        groups: 4,
        ..MoCoConfig::default()
    }
}

pub(crate) fn moco(seed: u64, cfg: &MoCoConfig) -> MoCoV2<ToyEncoder> {
    MoCoV2::new(network(seed), network(99), Parameters::new(seed + 1), cfg).unwrap()
}

/// Choices of every base.
#[derive(Clone)]
pub(crate) struct BaseSettings {
    pub(crate) moco: MoCoConfig,
    pub(crate) simsiam: SimSiamConfig,
    pub(crate) byol: ByolConfig,
    pub(crate) moco_v3: MoCoV3Config,
    pub(crate) dino: DinoConfig,
    pub(crate) diet: DietConfig,
}

impl BaseSettings {
    pub(crate) fn of(&self, kind: BaseKind) -> Box<dyn BaseConfig> {
        match kind {
            BaseKind::MOCO_V2 => Box::new(self.moco.clone()),
            BaseKind::SIMSIAM => Box::new(self.simsiam.clone()),
            BaseKind::BYOL => Box::new(self.byol.clone()),
            BaseKind::MOCO_V3 => Box::new(self.moco_v3.clone()),
            BaseKind::DINO => Box::new(self.dino.clone()),
            BaseKind::DIET => Box::new(self.diet.clone()),
            other => panic!("{other} is none of these"),
        }
    }
}

/// Small heads for every base, as the golden run has them; DINO takes two local crops.
pub(crate) fn settings() -> BaseSettings {
    BaseSettings {
        moco: moco_config(),
        simsiam: SimSiamConfig {
            dim: 8,
            predictor_hidden: 4,
            ..SimSiamConfig::default()
        },
        byol: ByolConfig {
            dim: 6,
            hidden: 16,
            momentum: 0.9,
            ..ByolConfig::default()
        },
        moco_v3: MoCoV3Config {
            dim: 6,
            hidden: 10,
            momentum: 0.9,
            ..MoCoV3Config::default()
        },
        dino: DinoConfig {
            prototypes: 20,
            hidden: 10,
            bottleneck: 6,
            teacher_temperature_start: 0.02,
            teacher_temperature: 0.08,
            teacher_temperature_epochs: 3,
            momentum: 0.9,
            local_crops: 2,
            ..DinoConfig::default()
        },
        // As many as batches are drawn from.
        diet: DietConfig {
            images: 50,
            ..DietConfig::default()
        },
    }
}

/// A base on toy encoders, for a run of 20 steps of 5 an epoch.
pub(crate) fn base(kind: BaseKind, settings: &BaseSettings, seed: u64) -> Box<dyn Base> {
    watched(kind, settings, seed).0
}

/// As [`base`], and what comes back to the online encoder's pooled features.
pub(crate) fn watched(
    kind: BaseKind,
    settings: &BaseSettings,
    seed: u64,
) -> (Box<dyn Base>, AtPooled) {
    let (mut made, mut logs) = (0, Vec::new());
    let mut make = || {
        made += 1;
        let network = network(seed + 100 * made);
        logs.push(network.encoder.at_pooled.clone());
        Ok(network.any())
    };
    let run = RunLength {
        steps: 20,
        steps_per_epoch: 5,
    };
    let parts = Parts {
        network: &mut make,
        seed: seed + 1,
        run,
    };
    let base = settings.of(kind).build(parts).unwrap();
    // The online network is made first.
    (base, logs.swap_remove(0))
}

/// As many local crops (N, 3, 4, 4) as the base is set to.
pub(crate) fn crops(kind: BaseKind, settings: &BaseSettings, seed: u64, n: usize) -> Vec<Tensor> {
    let count = settings.of(kind).local_crops();
    let crop = |i| uniform(1000 * (seed + 1) + i, (n, 3, 4, 4), -1., 1.);
    (0..count as u64).map(crop).collect()
}

/// Two views of `n` images, the second a noisy copy of the first; and their indices.
pub(crate) fn batch(seed: u64, n: usize) -> ([Tensor; 2], Vec<u32>) {
    let first = uniform(2 * seed, (n, 3, SIDE, SIDE), -1., 1.);
    let noise = (normal(2 * seed + 1, (n, 3, SIDE, SIDE)) * 0.1).unwrap();
    let second = (&first + noise).unwrap();
    let images = (0..n as u32).map(|i| (i + seed as u32 * 7) % 50).collect();
    ([first, second], images)
}

/// All values of all variables, by name.
pub(crate) fn values(vars: &BTreeMap<String, Var>) -> BTreeMap<String, Vec<f32>> {
    let flat = |var: &Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    vars.iter()
        .map(|(name, var)| (name.clone(), flat(var)))
        .collect()
}

/// Plain gradient descent.
pub(crate) fn descend(
    vars: &BTreeMap<String, Var>,
    gradients: &fgvr_nn::ParameterGradients,
    lr: f64,
) {
    for (name, var) in vars {
        let Some(gradient) = gradients.get(var) else {
            panic!("{name} has no gradient");
        };
        var.set(&(var.as_tensor() - (gradient * lr).unwrap()).unwrap())
            .unwrap();
    }
}

/// A step of ten whose generated pairs, if any, stay as they are; with pictures.
pub(crate) fn input<'a>(
    views: impl Into<Views<'a>>,
    images: &'a [u32],
    step: u64,
) -> StepInput<'a> {
    fn same(images: &Tensor, _: u64) -> Result<Tensor> {
        Ok(images.clone())
    }
    StepInput {
        base_weight: 1.,
        views: views.into(),
        images,
        step,
        total_steps: 10,
        seed: 3,
        augment: &same,
        augment_on_device: None,
        pictures: true,
    }
}

/// The figure of an add-on called `name`, where the step had it.
pub(crate) fn figure(output: &StepOutput, name: &str) -> Option<f64> {
    let mut figures = output.figures.iter();
    Some(figures.find(|(known, _)| *known == name)?.1)
}
