//! MoCo v2: its arithmetic against PyTorch, its split batch norm, and what it saves.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor, Var};
use fgvr_nn::ParameterGradients;
use fgvr_nn::{Encoder, NormMode, Parameters};
use fgvr_ssl::{Base, MethodConfig, ProjectionHead, RunningStatistics, Shuffle, momentum_update};
use fgvr_testkit::{assert_close, golden};
use toy::{batch, descend, moco, moco_config, values};

/// One step of MoCo by itself; its loss.
fn step(base: &mut dyn Base, seed: u64) -> f32 {
    let ([first, second], images) = batch(seed, 8);
    let pass = base.real([&first, &second].into(), &images).unwrap();
    let loss = pass.found.tensor().unwrap().to_scalar::<f32>().unwrap();
    let (leaves, mut gradients) = (
        pass.found.tensor().unwrap().backward().unwrap(),
        ParameterGradients::default(),
    );
    pass.backward(leaves.into(), &base.trainable(), &mut gradients)
        .unwrap();
    descend(&base.trainable(), &gradients, 0.1);
    base.after_step().unwrap();
    loss
}

#[test]
fn momentum_and_head_are_pytorchs() {
    let golden = golden("moco.safetensors");
    let parameters = |prefix: &str| {
        let store = Parameters::new(0);
        let vb = store.builder(DType::F32, &Device::Cpu);
        let head = ProjectionHead::new(12, 10, 8, vb).unwrap();
        let named =
            |(name, _): (&String, &Var)| (name.clone(), golden.get(&format!("{prefix}.{name}")));
        let tensors: HashMap<_, _> = store.all().iter().map(named).collect();
        store.set_all(&tensors).unwrap();
        (store, head)
    };
    let (online, head) = parameters("online.0");
    let pooled = Var::from_tensor(&golden.get("pooled")).unwrap();
    let z = head.forward(&pooled).unwrap();
    assert_close("z", &z, &golden.get("z"), 1e-6);
    let gradients = (z * golden.get("weight"))
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    assert_close(
        "pooled",
        gradients.get(&pooled).unwrap(),
        &golden.get("pooled_grad"),
        1e-5,
    );
    for (name, var) in online.all() {
        let expected = golden.get(&format!("grad.{name}"));
        assert_close(&name, gradients.get(&var).unwrap(), &expected, 1e-5);
    }

    let (key, _) = parameters("key.start");
    for step in 0..3 {
        let (online, _) = parameters(&format!("online.{step}"));
        momentum_update(&online, &key, 0.99, RunningStatistics::Own).unwrap();
    }
    for (name, var) in key.all() {
        assert_close(&name, &var, &golden.get(&format!("key.end.{name}")), 1e-7);
    }
}

#[test]
fn keys_are_those_of_the_shuffled_sub_batches_in_the_order_of_the_images() {
    let cfg = moco_config();
    let mut base = moco(1, &cfg);
    let ([first, second], images) = batch(3, 8);
    let shuffle = Shuffle::new(8, [cfg.seed, 0, 0, 0]).unwrap();
    let split = NormMode::Split {
        groups: 4,
        update: false,
    };
    let shuffled = shuffle.apply(&second).unwrap();
    let expected = base
        .key()
        .encoder
        .features(&shuffled, split)
        .unwrap()
        .pooled;
    let expected = shuffle.undo(&expected).unwrap();
    let whole = base
        .key()
        .encoder
        .features(&second, NormMode::NoUpdate)
        .unwrap()
        .pooled;
    let found = base
        .real([&first, &second].into(), &images)
        .unwrap()
        .key_pooled
        .to_host()
        .unwrap();
    let rows = |t: &Tensor| t.to_vec2::<f32>().unwrap();
    assert_eq!(rows(&found), rows(&expected));
    assert_ne!(rows(&found), rows(&whole));
}

#[test]
fn keys_enter_their_queues_only_after_the_step() {
    let mut base = moco(1, &moco_config());
    let ([first, second], images) = batch(3, 8);
    let pass = base.real([&first, &second].into(), &images).unwrap();
    base.generated([&(&second).into(), &(&first).into()], &images)
        .unwrap();
    assert!(base.queues().iter().all(|queue| queue.is_empty()));
    base.after_step().unwrap();
    let [real, pair] = base.queues();
    let (keys, of) = real.keys().unwrap().unwrap();
    assert_eq!(
        keys.to_vec2::<f32>().unwrap(),
        pass.keys.to_host().unwrap().to_vec2::<f32>().unwrap()
    );
    assert_eq!((of, pair.len()), (images.as_slice(), 8));
    let error = base.after_step().unwrap_err().to_string();
    assert!(error.contains("no pass on real views"), "{error}");
}

#[test]
fn keys_of_every_accumulated_pass_enter_in_order() {
    let mut base = moco(1, &moco_config());
    let (mut real_keys, mut real_images) = (Vec::new(), Vec::new());
    let (mut pair_keys, mut pair_images) = (Vec::new(), Vec::new());
    for seed in [3, 4] {
        let ([first, second], mut images) = batch(seed, 4);
        images.iter_mut().for_each(|i| *i += 100 * seed as u32);
        let pass = base.real([&first, &second].into(), &images).unwrap();
        real_keys.extend(pass.keys.to_host().unwrap().to_vec2::<f32>().unwrap());
        real_images.extend(images.clone());
        let pass = base
            .generated([&(&second).into(), &(&first).into()], &images)
            .unwrap();
        pair_keys.extend(pass.keys.to_host().unwrap().to_vec2::<f32>().unwrap());
        pair_images.extend(images);
    }
    base.after_step().unwrap();
    let [real, pair] = base.queues();
    let (keys, images) = real.keys().unwrap().unwrap();
    assert_eq!(keys.to_vec2::<f32>().unwrap(), real_keys);
    assert_eq!(images, real_images);
    let (keys, images) = pair.keys().unwrap().unwrap();
    assert_eq!(keys.to_vec2::<f32>().unwrap(), pair_keys);
    assert_eq!(images, pair_images);
}

#[test]
fn a_forgotten_step_leaves_no_key() {
    let mut base = moco(1, &moco_config());
    let ([first, second], images) = batch(3, 8);
    base.real([&first, &second].into(), &images).unwrap();
    base.generated([&(&second).into(), &(&first).into()], &images)
        .unwrap();
    base.forget_step();
    assert!(base.after_step().is_err());
    assert!(base.queues().iter().all(|queue| queue.is_empty()));
}

#[test]
fn gradients_reach_every_trainable_variable_and_no_key_variable() {
    let mut base = moco(1, &moco_config());
    step(&mut base, 1);
    let ([first, second], images) = batch(2, 8);
    let pass = base.real([&first, &second].into(), &images).unwrap();
    let (leaves, mut gradients) = (
        pass.found.tensor().unwrap().backward().unwrap(),
        ParameterGradients::default(),
    );
    let trainable = base.trainable();
    pass.backward(leaves.into(), &trainable, &mut gradients)
        .unwrap();
    assert_eq!(gradients.get_ids().count(), trainable.len());
    for (name, var) in &trainable {
        let gradient = gradients
            .get(var)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        let largest = gradient.to_scalar::<f32>().unwrap();
        assert!(largest > 0. && largest.is_finite(), "{name}: {largest}");
    }
    for name in [
        "encoder.bn.weight",
        "encoder.conv.weight",
        "head.0.weight",
        "head.2.bias",
    ] {
        assert!(trainable.contains_key(name), "{name}");
    }
}

#[test]
fn real_passes_update_running_statistics_and_generated_ones_do_not() {
    for statistics in [RunningStatistics::Own, RunningStatistics::Copied] {
        let mut cfg = moco_config();
        cfg.running_statistics = statistics;
        let mut base = moco(1, &cfg);
        let buffers = |base: &fgvr_ssl::MoCoV2<_>| {
            [base.online(), base.key()].map(|network: &fgvr_ssl::Network<toy::ToyEncoder>| {
                values(&network.parameters.buffers())
            })
        };
        let start = buffers(&base);
        let ([first, second], images) = batch(3, 8);
        base.real([&first, &second].into(), &images).unwrap();
        let real = buffers(&base);
        assert_ne!(start[0], real[0]);
        assert_eq!(start[1] != real[1], statistics == RunningStatistics::Own);
        base.generated([&(&second).into(), &(&first).into()], &images)
            .unwrap();
        assert_eq!(real, buffers(&base));
        base.after_step().unwrap();
        let after = buffers(&base);
        assert_eq!(
            after[0] == after[1],
            statistics == RunningStatistics::Copied
        );
    }
}

#[test]
fn a_loaded_state_goes_on_bit_for_bit() {
    let cfg = moco_config();
    let mut saved = moco(1, &cfg);
    (0..4).for_each(|seed| {
        step(&mut saved, seed);
    });
    let state: HashMap<_, _> = saved.state().unwrap().into_iter().collect();
    let rest: Vec<_> = (4..7).map(|seed| step(&mut saved, seed)).collect();
    let mut loaded = moco(50, &cfg);
    loaded.load_state(&state).unwrap();
    let again: Vec<_> = (4..7).map(|seed| step(&mut loaded, seed)).collect();
    assert_eq!(rest, again);
    assert!(rest.iter().all(|loss| *loss > 0.));
    let flat = |base: &dyn Base| -> BTreeMap<String, Vec<f64>> {
        let values = |t: Tensor| {
            t.to_dtype(DType::F64)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap()
        };
        base.state()
            .unwrap()
            .into_iter()
            .map(|(name, t)| (name, values(t)))
            .collect()
    };
    assert_eq!(flat(&saved), flat(&loaded));
}

#[test]
fn a_state_that_does_not_fit_changes_nothing() {
    let mut base = moco(1, &moco_config());
    let before = values(&base.trainable());
    let good: HashMap<_, _> = moco(9, &moco_config())
        .state()
        .unwrap()
        .into_iter()
        .collect();
    let mut missing = good.clone();
    missing.remove("queue.keys");
    let mut extra = good.clone();
    extra.insert("encoder.layer9".to_owned(), good["step"].clone());
    for (state, name) in [(missing, "queue.keys"), (extra, "encoder.layer9")] {
        let error = base.load_state(&state).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        assert_eq!(values(&base.trainable()), before);
    }
    base.load_state(&good).unwrap();
    assert_ne!(values(&base.trainable()), before);
}

#[test]
fn a_configuration_out_of_range_is_refused() {
    let refused = |change: fn(&mut fgvr_ssl::MoCoConfig), field: &str| {
        let mut cfg = moco_config();
        change(&mut cfg);
        let error = cfg.validate().unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    };
    refused(|cfg| cfg.queue = 0, "queue");
    refused(|cfg| cfg.momentum = 1.1, "momentum");
    refused(|cfg| cfg.temperature = f64::NAN, "temperature");
    refused(|cfg| cfg.groups = 0, "groups");
}
