//! What holds for every base: it trains all of its network, resumes bit for bit, whatever the number of
//! threads, and refuses what cannot be.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use candle_nn::Init;
use fgvr_nn::NormMode;
use fgvr_nn::ParameterGradients;
use fgvr_ssl::{
    Base, BaseKind, Dino, MoCoV3, MoCoV3Config, Network, Parts, RunLength, RunningStatistics,
    SimSiam, SimSiamConfig, Views,
};
use fgvr_testkit::assert_close;
use toy::{BaseSettings, ToyEncoder, base, batch, crops, network, settings, values};

const N: usize = 8;
const RUN: RunLength = RunLength {
    steps: 20,
    steps_per_epoch: 5,
};

/// Loss and gradients of one batch; nothing is stepped.
fn gradients(base: &mut dyn Base, settings: &BaseSettings, seed: u64) -> (f32, ParameterGradients) {
    let ([first, second], images) = batch(seed, N);
    let local = crops(base.kind(), settings, seed, N);
    let views = Views {
        global: [&first, &second],
        local: &local,
        sent: None,
    };
    let pass = base.real(views, &images).unwrap();
    let loss = pass.found.tensor().unwrap().to_scalar::<f32>().unwrap();
    let (leaves, mut gradients) = (
        pass.found.tensor().unwrap().backward().unwrap(),
        ParameterGradients::default(),
    );
    pass.backward(leaves.into(), &base.trainable(), &mut gradients)
        .unwrap();
    (loss, gradients)
}

fn step(base: &mut dyn Base, settings: &BaseSettings, seed: u64) -> f32 {
    let (loss, gradients) = gradients(base, settings, seed);
    let withheld = base.withheld();
    let mut vars = base.trainable();
    vars.retain(|name, _| !withheld.contains(name));
    toy::descend(&vars, &gradients, 0.1);
    base.after_step().unwrap();
    loss
}

fn state(base: &dyn Base) -> BTreeMap<String, Vec<f64>> {
    let flat = |t: Tensor| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1();
    let state = base.state().unwrap().into_iter();
    state.map(|(name, t)| (name, flat(t).unwrap())).collect()
}

#[test]
fn gradients_reach_every_trainable_variable_and_only_those() {
    for kind in BaseKind::ALL {
        let settings = settings();
        let mut base = base(kind, &settings, 1);
        // MoCo v2 has no negatives at its first step, DINO's prototypes are frozen in the first epoch.
        (0..6).for_each(|seed| {
            step(base.as_mut(), &settings, seed);
        });
        assert!(base.withheld().is_empty(), "{kind}");
        let (_, gradients) = gradients(base.as_mut(), &settings, 9);
        let trainable = base.trainable();
        assert_eq!(gradients.get_ids().count(), trainable.len(), "{kind}");
        for (name, var) in &trainable {
            let gradient = gradients.get(var).unwrap().abs().unwrap();
            let largest = gradient.max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(
                largest > 0. && largest.is_finite(),
                "{kind}: {name}: {largest}"
            );
        }
        let all = base.encoder_parameters().trainable();
        assert!(
            all.keys()
                .all(|name| trainable.contains_key(&format!("encoder.{name}")))
        );
    }
}

#[test]
fn a_loaded_state_goes_on_bit_for_bit() {
    for kind in BaseKind::ALL {
        let settings = settings();
        let mut saved = base(kind, &settings, 1);
        (0..4).for_each(|seed| {
            step(saved.as_mut(), &settings, seed);
        });
        let before: HashMap<_, _> = saved.state().unwrap().into_iter().collect();
        // Over the end of the first epoch, in which DINO's prototypes are frozen.
        let rest: Vec<_> = (4..8)
            .map(|seed| step(saved.as_mut(), &settings, seed))
            .collect();
        let mut loaded = base(kind, &settings, 50);
        loaded.load_state(&before).unwrap();
        let again: Vec<_> = (4..8)
            .map(|seed| step(loaded.as_mut(), &settings, seed))
            .collect();
        assert_eq!(rest, again, "{kind}");
        assert_eq!(state(saved.as_ref()), state(loaded.as_ref()), "{kind}");
    }
}

#[test]
fn a_state_that_does_not_fit_changes_nothing() {
    for kind in BaseKind::ALL {
        let mut base = base(kind, &settings(), 1);
        let start = state(base.as_ref());
        let good: HashMap<_, _> = toy::base(kind, &settings(), 9)
            .state()
            .unwrap()
            .into_iter()
            .collect();
        let mut missing = good.clone();
        missing.remove("step");
        let mut extra = good.clone();
        extra.insert("encoder.layer9".to_owned(), good["step"].clone());
        for (given, name) in [(missing, "step"), (extra, "encoder.layer9")] {
            let error = base.load_state(&given).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert_eq!(state(base.as_ref()), start);
        }
    }
}

#[test]
fn steps_have_the_same_bits_for_any_number_of_threads() {
    for kind in BaseKind::ALL {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let settings = settings();
                let mut base = base(kind, &settings, 1);
                let of = |seed| step(base.as_mut(), &settings, seed).to_bits();
                let losses: Vec<_> = (0..4).map(of).collect();
                (losses, state(base.as_ref()))
            })
        };
        assert_eq!(run(1), run(3), "{kind}");
    }
}

#[test]
fn a_forgotten_step_is_no_step() {
    for kind in BaseKind::ALL {
        let settings = settings();
        let mut base = base(kind, &settings, 1);
        gradients(base.as_mut(), &settings, 0);
        base.forget_step();
        let error = base.after_step().unwrap_err().to_string();
        assert!(error.contains("no pass on real views"), "{kind}: {error}");
    }
}

#[test]
fn only_dino_takes_local_crops_and_it_takes_as_many_as_it_was_told() {
    let ([first, second], images) = batch(0, N);
    for kind in BaseKind::ALL {
        let mut base = base(kind, &settings(), 1);
        let local = vec![crops(BaseKind::DINO, &settings(), 0, N).remove(0)];
        let views = Views {
            global: [&first, &second],
            local: &local,
            sent: None,
        };
        let error = base.real(views, &images).err().unwrap().to_string();
        assert!(
            error.contains("found 1 local crops, expected"),
            "{kind}: {error}"
        );
    }
}

#[test]
fn the_target_follows_and_its_running_statistics_are_its_own_or_copied() {
    for statistics in [RunningStatistics::Own, RunningStatistics::Copied] {
        let mut settings = settings();
        settings.byol.running_statistics = statistics;
        settings.moco_v3.running_statistics = statistics;
        settings.dino.running_statistics = statistics;
        for (kind, follows) in [
            (BaseKind::BYOL, "target_"),
            (BaseKind::MOCO_V3, "target_"),
            (BaseKind::DINO, "teacher_"),
        ] {
            let mut base = base(kind, &settings, 1);
            let of = |base: &dyn Base, name: &str| state(base)[name].clone();
            let (mine, theirs) = (
                "encoder.conv.weight",
                format!("{follows}encoder.conv.weight"),
            );
            let start = of(base.as_ref(), mine);
            assert_eq!(start, of(base.as_ref(), &theirs), "{kind}");
            step(base.as_mut(), &settings, 0);
            let (online, target) = (of(base.as_ref(), mine), of(base.as_ref(), &theirs));
            for ((start, online), target) in start.iter().zip(online).zip(target) {
                // m = 0.9 after the first step.
                assert!(
                    (target - (0.9 * start + 0.1 * online)).abs() < 1e-6,
                    "{kind}"
                );
            }
            // The second pass is the first in which the two networks differ.
            step(base.as_mut(), &settings, 1);
            let name = "encoder.bn.running_mean";
            let (online, target) = (
                of(base.as_ref(), name),
                of(base.as_ref(), &format!("{follows}{name}")),
            );
            assert_eq!(
                online == target,
                statistics == RunningStatistics::Copied,
                "{kind}"
            );
            assert!(target.iter().any(|v| *v != 0.), "{kind}");
        }
    }
}

#[test]
fn looking_at_the_gradient_changes_nothing() {
    let ([first, second], images) = batch(2, N);
    for kind in BaseKind::ALL {
        let settings = settings();
        let mut base = base(kind, &settings, 1);
        (0..2).for_each(|seed| {
            step(base.as_mut(), &settings, seed);
        });
        let before = state(base.as_ref());
        let (features, gradient) = base.gradient_at_pooled(&first, &second, &images).unwrap();
        assert_eq!(before, state(base.as_ref()), "{kind}");
        assert_eq!(gradient.dims(), features.pooled.dims());
        let expected = base.encoder().features(&first, NormMode::Eval).unwrap();
        assert_close(kind.name(), &features.pooled, &expected.pooled, 1e-6);
        let rows = gradient.to_vec2::<f32>().unwrap();
        assert!(
            rows.iter().all(|row| row.iter().any(|v| *v != 0.)),
            "{kind}"
        );
        let (_, again) = base.gradient_at_pooled(&first, &second, &images).unwrap();
        assert_eq!(rows, again.to_vec2::<f32>().unwrap(), "{kind}");
    }
}

#[test]
fn against_its_own_views_a_pass_has_its_own_loss_and_leaves_no_trace() {
    let ([first, second], images) = batch(2, N);
    for kind in BaseKind::ALL {
        if kind.refuses_view_targets().is_some() {
            continue;
        }
        // Sub-batches are shuffled anew for other images.
        let mut settings = settings();
        settings.moco.groups = 1;
        let mut base = base(kind, &settings, 1);
        step(base.as_mut(), &settings, 0);
        let local = crops(kind, &settings, 2, N);
        let views = Views {
            global: [&first, &second],
            local: &local,
            sent: None,
        };
        let pass = base.real(views, &images).unwrap();
        let before = state(base.as_ref());
        let again = base.against(&pass, views.global, &images).unwrap();
        let again = again.tensor().unwrap();
        assert_close(kind.name(), again, pass.found.tensor().unwrap(), 1e-5);
        let rows = |from: usize, of: &Tensor| of.narrow(2, from, toy::SIDE / 2).unwrap();
        let nothing = second.zeros_like().unwrap();
        let parts = [rows(0, &nothing), rows(toy::SIDE / 2, &second)];
        let masked = Tensor::cat(&parts, 2).unwrap();
        let other = base.against(&pass, [&masked, &masked], &images).unwrap();
        let other = other.tensor().unwrap();
        assert_eq!(before, state(base.as_ref()), "{kind}");
        let (a, b) = (
            other.to_scalar::<f32>().unwrap(),
            again.to_scalar::<f32>().unwrap(),
        );
        assert_ne!(a, b, "{kind}");
        // It leads back to the queries' features.
        let total = (pass.found.tensor().unwrap() + other).unwrap();
        let (alone, both) = (
            pass.found.tensor().unwrap().backward().unwrap(),
            total.backward().unwrap(),
        );
        let of = |leaves: GradStore| -> Vec<Vec<Vec<f32>>> {
            let gradients = pass.pooled_gradient(&leaves.into()).unwrap();
            let rows = gradients
                .iter()
                .map(|rows| rows.to_host().unwrap().to_vec2().unwrap());
            rows.collect()
        };
        assert_ne!(of(alone), of(both), "{kind}");
        assert_eq!(base.target_encoder().is_none(), kind == BaseKind::SIMSIAM);
    }
}

/// A toy encoder with two more variables, called as a vision transformer calls its patch projection.
fn with_patch_projection(seed: u64) -> Network<ToyEncoder> {
    let network = network(seed);
    let vb = network.parameters.builder(DType::F32, &Device::Cpu);
    for name in ["weight", "bias"] {
        let vb = vb.pp("patch_embed.proj");
        vb.get_with_hints(3, name, Init::Const(seed as f64))
            .unwrap();
    }
    network
}

#[test]
fn moco_v3_leaves_a_patch_projection_as_it_was() {
    let trained = |freeze_patch_projection| {
        let cfg = MoCoV3Config {
            dim: 6,
            hidden: 10,
            freeze_patch_projection,
            ..MoCoV3Config::default()
        };
        let mut make = || Ok(with_patch_projection(1));
        let parts = Parts {
            network: &mut make,
            seed: 1,
            run: RUN,
        };
        let names = MoCoV3::new(&cfg, parts).unwrap().trainable();
        names
            .keys()
            .filter(|name| name.contains("patch_embed.proj"))
            .count()
    };
    assert_eq!([trained(true), trained(false)], [0, 2]);
}

#[test]
fn dino_warms_its_temperature_freezes_its_prototypes_and_moves_its_centre() {
    let settings = settings();
    let mut seed = 0;
    let mut make = || {
        seed += 1;
        Ok(network(seed))
    };
    let parts = Parts {
        network: &mut make,
        seed: 1,
        run: RUN,
    };
    let mut dino = Dino::new(&settings.dino, parts).unwrap();
    let prototypes =
        |dino: &Dino<ToyEncoder>| values(&dino.trainable())["head.last_layer.weight_v"].clone();
    let start = prototypes(&dino);
    let mut temperatures = Vec::new();
    for number in 0..18 {
        assert_eq!(dino.withheld().is_empty(), number >= 5);
        temperatures.push(dino.teacher_temperature());
        let centre = dino.centre().to_vec2::<f32>().unwrap();
        step(&mut dino, &settings, number);
        assert_ne!(centre, dino.centre().to_vec2::<f32>().unwrap());
        assert_eq!(start == prototypes(&dino), number < 5, "{number}");
    }
    let expected = [0.02, 0.05, 0.08, 0.08];
    for (step, found) in temperatures.into_iter().enumerate() {
        assert!(
            (found - expected[step / 5]).abs() < 1e-12,
            "{step}: {found}"
        );
    }
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let refused = |kind: BaseKind, change: fn(&mut BaseSettings), texts: [&str; 2]| {
        let mut changed = settings();
        changed.of(kind).validate().unwrap();
        change(&mut changed);
        let error = changed.of(kind).validate().unwrap_err().to_string();
        let line = error.lines().next().unwrap();
        for text in texts {
            assert!(line.contains(text), "{line}");
        }
        let mut make = || Ok(network(1).any());
        let parts = Parts {
            network: &mut make,
            seed: 1,
            run: RUN,
        };
        assert!(changed.of(kind).build(parts).is_err());
    };
    let momentum = ["momentum is 1", "try 0.99"];
    refused(BaseKind::MOCO_V2, |s| s.moco.momentum = 1., momentum);
    refused(BaseKind::BYOL, |s| s.byol.momentum = 1., momentum);
    refused(BaseKind::MOCO_V3, |s| s.moco_v3.momentum = 1., momentum);
    refused(BaseKind::DINO, |s| s.dino.momentum = 1., momentum);
    let temperature = ["temperature is 0", "expected a positive number"];
    refused(BaseKind::MOCO_V2, |s| s.moco.temperature = 0., temperature);
    refused(
        BaseKind::MOCO_V3,
        |s| s.moco_v3.temperature = 0.,
        temperature,
    );
    refused(
        BaseKind::DINO,
        |s| s.dino.student_temperature = 0.,
        temperature,
    );
    refused(
        BaseKind::DINO,
        |s| s.dino.centre_momentum = 1.,
        ["centre_momentum", "try 0.9"],
    );
    refused(
        BaseKind::SIMSIAM,
        |s| s.simsiam.predictor_hidden = 0,
        ["predictor_hidden", "at least 1"],
    );
    refused(
        BaseKind::BYOL,
        |s| s.byol.dim = 0,
        ["byol: dim is 0", "at least 1"],
    );
    refused(BaseKind::DIET, |s| s.diet.temperature = 0., temperature);
    refused(
        BaseKind::DIET,
        |s| s.diet.label_smoothing = 1.,
        ["label_smoothing is 1", "try 0.8"],
    );
}

#[test]
fn a_queue_smaller_than_the_batch_is_refused_with_what_to_do() {
    let mut settings = settings();
    (settings.moco.queue, settings.moco.pair_queue) = (8, 7);
    let mut base = base(BaseKind::MOCO_V2, &settings, 1);
    let ([first, second], images) = batch(0, N);
    base.real([&first, &second].into(), &images).unwrap();
    let error = base
        .generated([&(&first).into(), &(&second).into()], &images)
        .err()
        .unwrap();
    let error = error.to_string();
    assert!(
        error.contains("raise moco.pair_queue to 8 or more"),
        "{error}"
    );
}

#[test]
fn a_run_without_steps_is_refused() {
    let mut make = || Ok(network(1));
    let parts = Parts {
        network: &mut make,
        seed: 1,
        run: RunLength { steps: 0, ..RUN },
    };
    let error = SimSiam::new(&SimSiamConfig::default(), parts)
        .err()
        .unwrap();
    assert!(error.to_string().contains("0 steps"), "{error}");
}

#[cfg(feature = "serde")]
#[test]
fn choices_are_read_from_toml_and_unknown_keys_refused() {
    use fgvr_ssl::ByolConfig;
    let read = |text: &str| toml::from_str::<ByolConfig>(text).map_err(|e| e.to_string());
    let found = read("dim = 32\nmomentum_schedule = \"constant\"\n").unwrap();
    assert_eq!(found.dim, 32);
    assert_eq!(found.hidden, ByolConfig::default().hidden);
    assert!(read("dims = 32\n").unwrap_err().contains("dims"));
    let kinds = toml::Value::try_from(BaseKind::ALL).unwrap();
    assert_eq!(kinds[0].as_str(), Some("moco-v2"));
}
