//! Every base on a real trunk: a narrow ResNet-10 whose variables all learn, with SynthPair on top, and with
//! every add-on at once.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use fgvr_decoder::{ConvDecoder, DecoderConfig};
use fgvr_encoder::{ResNet, ResNetConfig, Stem};
use fgvr_nn::ParameterGradients;
use fgvr_nn::Parameters;
use fgvr_nn::optim::{AdamConfig, MissingGradient, Sgd, SgdConfig};
use fgvr_ssl::{
    Addon, AddonKind, AddonParts, Arm, Base, BaseConfig, BaseKind, ByolConfig, DecoderNetwork,
    DietConfig, DinoConfig, MoCoConfig, MoCoV3Config, Network, Parts, RunLength, SimSiamConfig,
    StepInput, SynthPair, SynthPairConfig, Views, addons, supports,
};
use fgvr_testkit::normal;

const N: usize = 8;
const SIZE: usize = 32;

fn encoder() -> ResNetConfig {
    ResNetConfig {
        depth: 10,
        width: 8,
        stem: Stem::Small,
        zero_init_residual: false,
        ..ResNetConfig::default()
    }
}

/// Small heads.
fn choices(kind: BaseKind) -> Box<dyn BaseConfig> {
    match kind {
        BaseKind::MOCO_V2 => Box::new(MoCoConfig {
            dim: 16,
            queue: 32,
            pair_queue: 32,
            groups: 2,
            ..MoCoConfig::default()
        }),
        BaseKind::SIMSIAM => Box::new(SimSiamConfig {
            dim: 32,
            predictor_hidden: 8,
            ..SimSiamConfig::default()
        }),
        BaseKind::BYOL => Box::new(ByolConfig {
            dim: 16,
            hidden: 32,
            ..ByolConfig::default()
        }),
        BaseKind::MOCO_V3 => Box::new(MoCoV3Config {
            dim: 16,
            hidden: 32,
            ..MoCoV3Config::default()
        }),
        BaseKind::DINO => Box::new(DinoConfig {
            prototypes: 64,
            hidden: 32,
            bottleneck: 16,
            local_crops: 2,
            ..DinoConfig::default()
        }),
        // Of 6 steps' images.
        BaseKind::DIET => Box::new(DietConfig {
            images: 6 * N,
            ..DietConfig::default()
        }),
        other => panic!("{other} is none of these"),
    }
}

fn build(kind: BaseKind) -> Box<dyn Base> {
    let mut make = || {
        let parameters = Parameters::new(11);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let encoder = ResNet::new(&encoder(), vb)?;
        let network = Network {
            encoder,
            parameters,
        };
        Ok(network.any())
    };
    let run = RunLength {
        steps: 6,
        steps_per_epoch: 2,
    };
    let parts = Parts {
        network: &mut make,
        seed: 11,
        run,
    };
    choices(kind).build(parts).unwrap()
}

/// Views of the same images, and small crops of them where the base takes any.
struct Batch {
    global: [Tensor; 2],
    local: Vec<Tensor>,
    images: Vec<u32>,
}

fn batch(kind: BaseKind, step: u64) -> Batch {
    let first = normal(3 * step, (N, 3, SIZE, SIZE));
    let noise = (normal(3 * step + 1, (N, 3, SIZE, SIZE)) * 0.3).unwrap();
    let half = |from| {
        let rows = first.narrow(2, from, SIZE / 2).unwrap();
        rows.narrow(3, from, SIZE / 2)
            .unwrap()
            .contiguous()
            .unwrap()
    };
    Batch {
        local: match kind {
            BaseKind::DINO => vec![half(0), half(SIZE / 2)],
            _ => Vec::new(),
        },
        global: [first.clone(), (&first + noise).unwrap()],
        images: (0..N as u32).map(|i| i + N as u32 * step as u32).collect(),
    }
}

#[test]
fn every_base_trains_all_of_a_resnet_alone_with_synthpair_and_with_all_add_ons() {
    for kind in BaseKind::ALL {
        let mut arms = vec![Arm::Base];
        arms.extend(
            supports(kind, AddonKind::SYNTH_PAIR)
                .is_ok()
                .then_some(Arm::Full),
        );
        let last = arms[arms.len() - 1];
        let runs = arms.into_iter().map(|arm| (arm, false));
        for (arm, everything) in runs.chain([(last, true)]) {
            let mut base = build(kind);
            let mut cfg = SynthPairConfig {
                warm_up: 0.,
                ramp: 0.,
                bank_minimum: N,
                bank_size: 64,
                ..SynthPairConfig::default()
            };
            arm.apply(&mut cfg);
            let width = encoder().out_channels();
            let parameters = Parameters::new(1);
            let decoder = ConvDecoder::new(
                &DecoderConfig::for_size(width, SIZE, encoder().stride(), 16),
                parameters.builder(DType::F32, &Device::Cpu),
            );
            let decoder = DecoderNetwork {
                decoder: Box::new(decoder.unwrap()),
                parameters,
                adam: AdamConfig::default(),
                learning_rate: 1e-3,
            };
            let mut method = SynthPair::new(&cfg, width, Some(decoder)).unwrap();
            let sgd = SgdConfig {
                missing: MissingGradient::Skip,
                ..SgdConfig::default()
            };
            let mut addons = match everything {
                true => add_ons(kind, width),
                false => Vec::new(),
            };
            let mut trainable = base.trainable();
            trainable.extend(addons.iter().flat_map(|addon| addon.trainable()));
            let mut sgd = Sgd::new(trainable.clone(), &sgd).unwrap();
            for step in 0..4 {
                let Batch {
                    global: [first, second],
                    local,
                    images,
                } = batch(kind, step);
                let input = StepInput {
                    base_weight: 1.,
                    views: Views {
                        global: [&first, &second],
                        local: &local,
                        sent: None,
                    },
                    images: &images,
                    step,
                    total_steps: 6,
                    seed: 1,
                    augment: &|images, _| Ok(images.clone()),
                    augment_on_device: None,
                    pictures: false,
                };
                let mut all: Vec<&mut dyn Addon> = vec![&mut method];
                all.extend(addons.iter_mut().map(|a| -> &mut dyn Addon { a.as_mut() }));
                let output = fgvr_ssl::step(base.as_mut(), &mut all, input).unwrap();
                assert!(output.losses.terms.len() > addons.len(), "{kind}");
                assert!(output.losses.total.is_finite(), "{kind} {arm}");
                assert_eq!(
                    output.losses.get("loss_pair").is_some(),
                    arm == Arm::Full && step > 0
                );
                check(kind, base.as_ref(), &trainable, &output.gradients, step);
                sgd.step(&output.gradients, 0.05).unwrap();
                base.after_step().unwrap();
                for addon in &mut addons {
                    addon.after_step().unwrap();
                }
            }
        }
    }
}

/// Every add-on that the base carries, but for SynthPair, and for distillation, which needs a teacher.
fn add_ons(kind: BaseKind, width: usize) -> Vec<Box<dyn Addon + Send>> {
    let run = RunLength {
        steps: 6,
        steps_per_epoch: 2,
    };
    let all = addons().into_iter();
    let others =
        all.filter(|addon| ![AddonKind::SYNTH_PAIR, AddonKind::DISTIL].contains(&addon.kind()));
    others
        .filter(|addon| supports(kind, addon.kind()).is_ok())
        .map(|addon| {
            let parts = AddonParts::new(width, 11, run);
            addon.build(parts).unwrap()
        })
        .collect()
}

/// Every variable has a gradient but those withheld; MoCo v2 has nothing to compare with at first.
fn check(
    kind: BaseKind,
    base: &dyn Base,
    trainable: &BTreeMap<String, Var>,
    gradients: &ParameterGradients,
    step: u64,
) {
    let withheld = base.withheld();
    assert_eq!(!withheld.is_empty(), kind == BaseKind::DINO && step < 2);
    for (name, var) in trainable {
        let Some(gradient) = gradients.get(var) else {
            assert!(withheld.contains(name), "{kind}: {name} has no gradient");
            continue;
        };
        let sum = gradient.sqr().unwrap().sum_all().unwrap();
        let sum = sum.to_scalar::<f32>().unwrap();
        let starts = kind == BaseKind::MOCO_V2 && step == 0;
        assert!(
            sum.is_finite() && (sum > 0. || starts),
            "{kind}: {name}: {sum}"
        );
    }
}
