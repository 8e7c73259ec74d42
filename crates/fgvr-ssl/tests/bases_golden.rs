//! Every base against PyTorch: losses with their gradients, and the first 20 steps of training.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor, Var};
use fgvr_nn::ParameterGradients;
use fgvr_nn::optim::{Adam, AdamConfig, Lars, LarsConfig, MissingGradient, Sgd, SgdConfig};
use fgvr_ssl::{
    Base, BaseKind, ByolConfig, ByolObjective, MoCoV3Config, MoCoV3Objective, Objective, Recipe,
    SimSiamConfig, SimSiamObjective, Trunk, Views,
};
use fgvr_testkit::{Golden, assert_close, golden};
use toy::{SIDE, base, settings};

const N: usize = 8;
const STEPS: u64 = 20;

/// The script's images.
fn image_values(stream: u64, shape: (usize, usize, usize, usize)) -> Tensor {
    let (n, c, h, w) = shape;
    let values: Vec<f32> = (0..n * c * h * w)
        .map(|index| {
            let wave = (12.9898 * index as f64 + 78.233 * stream as f64 + 0.5).sin() * 43758.5453;
            (2. * (wave - wave.floor()) - 1.) as f32
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

struct Batch {
    global: [Tensor; 2],
    local: Vec<Tensor>,
    images: Vec<u32>,
}

fn batch(step: u64) -> Batch {
    let noise = |i, side| (image_values(10 * step + i, (N, 3, side, side)) * 0.3).unwrap();
    let first = image_values(10 * step, (N, 3, SIDE, SIDE));
    let crop = first.narrow(2, 2, 4).unwrap().narrow(3, 2, 4).unwrap();
    Batch {
        local: [2, 3].map(|i| (&crop + noise(i, 4)).unwrap()).into(),
        global: [first.clone(), (first + noise(1, SIDE)).unwrap()],
        images: (0..N as u32).map(|i| (i + 3 * step as u32) % 50).collect(),
    }
}

/// The optimiser of the golden run.
enum Optimiser {
    Sgd(Sgd, f64),
    Lars(Lars, f64),
    Adam(Adam, f64),
}

impl Optimiser {
    fn of(base: &dyn Base) -> Self {
        let vars = base.trainable();
        let adam = |weight_decay, exclude_norm_and_bias| AdamConfig {
            weight_decay,
            exclude_norm_and_bias,
            missing: match base.withheld().is_empty() {
                true => MissingGradient::Error,
                false => MissingGradient::Skip,
            },
            ..AdamConfig::default()
        };
        match base.kind() {
            BaseKind::MOCO_V2 | BaseKind::SIMSIAM => {
                Self::Sgd(Sgd::new(vars, &SgdConfig::default()).unwrap(), 0.1)
            }
            BaseKind::BYOL => {
                let cfg = LarsConfig {
                    trust: 0.02,
                    weight_decay: 1e-3,
                    ..LarsConfig::default()
                };
                Self::Lars(Lars::new(vars, &cfg).unwrap(), 0.2)
            }
            BaseKind::MOCO_V3 => Self::Adam(Adam::new(vars, &adam(0.1, false)).unwrap(), 1e-2),
            BaseKind::DINO => Self::Adam(Adam::new(vars, &adam(0.04, true)).unwrap(), 5e-3),
            other => panic!("{other} has no golden run"),
        }
    }

    fn step(&mut self, gradients: &ParameterGradients, step: u64, recipe: &Recipe) {
        match self {
            Self::Sgd(sgd, lr) => sgd.step(gradients, *lr).unwrap(),
            Self::Lars(lars, lr) => lars.step(gradients, *lr).unwrap(),
            Self::Adam(adam, lr) => {
                let decay = recipe.weight_decay_at(step, STEPS);
                adam.set_weight_decay(decay).unwrap();
                adam.step(gradients, *lr).unwrap();
            }
        }
    }
}

/// The golden weights, in the online and in the following network.
fn start(base: &mut dyn Base, golden: &Golden) {
    let prefix = format!("{}.start", base.kind());
    let mut state: HashMap<String, Tensor> = base.state().unwrap().into_iter().collect();
    let mut found = 0;
    for (name, tensor) in &mut state {
        let name = (["key_", "target_", "teacher_"].iter())
            .find_map(|follows| name.strip_prefix(follows))
            .unwrap_or(name);
        if let Some(given) = golden.tensors().get(&format!("{prefix}.{name}")) {
            *tensor = given.clone();
            found += 1;
        }
    }
    assert!(found >= base.trainable().len());
    base.load_state(&state).unwrap();
}

fn assert_named(what: &str, found: &BTreeMap<String, Tensor>, golden: &Golden, rel: f64) {
    let prefix = format!("{what}.");
    let expected: BTreeMap<_, _> = (golden.tensors().iter())
        .filter_map(|(name, t)| Some((name.strip_prefix(&prefix)?.to_owned(), t.clone())))
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{what}"
    );
    let largest = |t: &Tensor| {
        t.abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    for (name, tensor) in found {
        // A bias in front of a batch norm changes nothing: its gradient is rounding.
        if largest(&expected[name]) < 1e-6 {
            assert!(largest(tensor) < 1e-6, "{what} {name}");
            continue;
        }
        assert_close(&format!("{what} {name}"), tensor, &expected[name], rel);
    }
}

fn twenty_steps(kind: BaseKind) {
    let golden = golden("bases.safetensors");
    let mut settings = settings();
    // Shuffled sub-batches have no counterpart in PyTorch on one device.
    settings.moco.groups = 1;
    settings.moco.hidden = Some(10);
    let mut base = base(kind, &settings, 1);
    start(base.as_mut(), &golden);
    let mut recipe = settings.of(kind).recipe(Trunk::Vit).unwrap();
    if kind == BaseKind::MOCO_V3 {
        assert_eq!(recipe.weight_decay, [0.1, 0.1]);
    }
    recipe.batch = N;
    let mut optimiser = Optimiser::of(base.as_ref());
    let expected = golden
        .get(&format!("{kind}.losses"))
        .to_vec1::<f32>()
        .unwrap();
    let mut worst = 0f32;
    for step in 0..STEPS {
        let Batch {
            global: [first, second],
            local,
            images,
        } = batch(step);
        let views = Views {
            global: [&first, &second],
            local: if kind == BaseKind::DINO { &local } else { &[] },
            sent: None,
        };
        let pass = base.real(views, &images).unwrap();
        let loss = pass.found.tensor().unwrap().to_scalar::<f32>().unwrap();
        worst = worst.max((loss - expected[step as usize]).abs());
        let leaves = pass.found.tensor().unwrap().backward().unwrap();
        if step == 0 && kind != BaseKind::MOCO_V2 {
            for branch in &pass.branches[..2] {
                let name = format!("{kind}.pooled_grad.{}", branch.view);
                let found = leaves.get(&branch.leaves().unwrap().pooled).unwrap();
                assert_close(&name, found, &golden.get(&name), 1e-4);
            }
        }
        let (trainable, mut gradients) = (base.trainable(), ParameterGradients::default());
        pass.backward(leaves.into(), &trainable, &mut gradients)
            .unwrap();
        if step == 0 && kind != BaseKind::MOCO_V2 {
            let of = |(name, var): (String, Var)| Some((name, gradients.get(&var)?.clone()));
            let found = trainable.into_iter().filter_map(of).collect();
            assert_named(&format!("{kind}.gradient"), &found, &golden, 1e-4);
        }
        optimiser.step(&gradients, step, &recipe);
        base.after_step().unwrap();
    }
    println!("{kind}: largest difference of a loss {worst:.1e}");
    assert!(worst < 1e-3, "{kind}: {worst}");
    let end = base.trainable().into_iter();
    let end = end
        .map(|(name, var)| (name, var.as_tensor().clone()))
        .collect();
    assert_named(&format!("{kind}.end"), &end, &golden, 2e-3);
    let state = base.state().unwrap();
    let follows = state.iter().find_map(|(name, tensor)| {
        let own = name.strip_suffix("_encoder.conv.weight")?;
        assert!(["key", "target", "teacher"].contains(&own), "{own}");
        Some(tensor)
    });
    assert_eq!(follows.is_none(), kind == BaseKind::SIMSIAM);
    if let Some(follows) = follows {
        let expected = golden.get(&format!("{kind}.target.conv.weight"));
        assert_close("the network that follows", follows, &expected, 1e-3);
    }
    if kind == BaseKind::DINO {
        assert_close("centre", &state["centre"], &golden.get("dino.centre"), 1e-3);
    }
}

#[test]
fn twenty_steps_of_moco_v2_are_pytorchs() {
    twenty_steps(BaseKind::MOCO_V2);
}

#[test]
fn twenty_steps_of_simsiam_are_pytorchs() {
    twenty_steps(BaseKind::SIMSIAM);
}

#[test]
fn twenty_steps_of_byol_are_pytorchs() {
    twenty_steps(BaseKind::BYOL);
}

#[test]
fn twenty_steps_of_moco_v3_are_pytorchs() {
    twenty_steps(BaseKind::MOCO_V3);
}

#[test]
fn twenty_steps_of_dino_are_pytorchs() {
    twenty_steps(BaseKind::DINO);
}

#[test]
fn losses_and_their_gradients_are_pytorchs() {
    let golden = golden("bases.safetensors");
    let targets = golden.get("targets");
    let images: Vec<u32> = (0..6).collect();
    let check = |objective: &dyn Objective| {
        let kind = objective.kind();
        let predictions = Var::from_tensor(&golden.get("predictions")).unwrap();
        let loss = objective
            .comparison()
            .of(&predictions, &targets, &images)
            .unwrap()
            .loss;
        let expected = golden.get(&format!("{kind}.loss"));
        assert_close(kind.name(), &loss.reshape(1).unwrap(), &expected, 1e-5);
        let gradients = loss.backward().unwrap();
        let expected = golden.get(&format!("{kind}.predictions_grad"));
        assert_close(
            kind.name(),
            gradients.get(&predictions).unwrap(),
            &expected,
            1e-5,
        );
    };
    check(&SimSiamObjective::new(&SimSiamConfig::default()).unwrap());
    check(&ByolObjective::new(&ByolConfig::default()).unwrap());
    check(&MoCoV3Objective::new(&MoCoV3Config::default()).unwrap());
}
