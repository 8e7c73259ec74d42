//! What frozen layers leave of a step.

use std::collections::BTreeMap;
use std::time::Duration;

use fgvr_testkit::normal;

use super::*;
use crate::config::Layers;

const IMAGES: usize = 8;

fn config(settings: &[&str]) -> PretrainConfig {
    let common = [
        "loader.batch=8",
        "data.size=32",
        "encoder.width=8",
        "optimizer.steps=3",
        "decoder.hidden=16",
        "decoder.channels=16",
        "synthpair.warm_up=0",
        "synthpair.ramp=0",
        "synthpair.bank_minimum=8",
        "moco.queue=24",
        "moco.pair_queue=24",
        "moco_v3.hidden=16",
        "moco_v3.dim=8",
    ];
    let mut layers = Layers::default();
    let all = common.iter().chain(settings);
    all.for_each(|setting| layers.set(setting).unwrap());
    layers.resolve().unwrap()
}

fn batch() -> Batch {
    Batch {
        views: [0, 1].map(|v| normal(v, (IMAGES, 3, 32, 32))).into(),
        crops: Vec::new(),
        indices: (0..IMAGES as u32).collect(),
        labels: vec![None; IMAGES],
        epoch: 0,
        batch: 0,
        last_of_epoch: false,
        wait: Duration::ZERO,
    }
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Gradients by name, of the base, the add-ons and what has an optimiser of its own, of a second batch: the bank is empty at the
/// first. And the running statistics after it.
fn gradients(settings: &[&str]) -> [BTreeMap<String, Vec<f32>>; 2] {
    let mut trainer = Trainer::new(&config(settings), 96, &Compute::cpu()).unwrap();
    trainer.pass(&batch(), None, false).unwrap();
    trainer
        .addons
        .iter_mut()
        .for_each(|a| a.after_step().unwrap());
    let output = trainer.pass(&batch(), None, false).unwrap();
    let mut vars = trainer.base.trainable();
    for addon in &trainer.addons {
        vars.extend(addon.trainable());
        vars.extend(
            addon
                .own_optimizer()
                .into_iter()
                .flat_map(|own| own.parameters.trainable()),
        );
    }
    let found = vars
        .into_iter()
        .filter_map(|(name, var)| Some((name, flat(output.gradients.get(&var)?))));
    let found = found.collect();
    let running = trainer.encoder_parameters.buffers().into_iter();
    [
        found,
        running.map(|(name, var)| (name, flat(&var))).collect(),
    ]
}

#[test]
fn the_lowest_frozen_layers_get_no_gradient_and_all_others_the_same_bits() {
    for method in [
        &["base=moco-v3", "arm=base"][..],
        &["base=moco-v3", "arm=base", "optimizer.trunk_norm=running"],
        &["base=moco-v2", "arm=full"],
        &["base=moco-v2", "arm=full", "synthpair.perceptual=0.1"],
        &["base=byol", "arm=full", "synthpair.space=map"],
    ] {
        let [all, running] = gradients(method);
        for (frozen, is_frozen) in [
            (
                "optimizer.freeze_layers=2",
                &(|n: &str| {
                    ["conv1.", "bn1.", "layer1."].iter().any(|p| {
                        n.strip_prefix("encoder.")
                            .is_some_and(|own| own.starts_with(p))
                    })
                }) as &dyn Fn(&str) -> bool,
            ),
            (
                "optimizer.freeze=[\"conv1.weight\", \"bn1.*\"]",
                &(|n: &str| n.starts_with("encoder.conv1.") || n.starts_with("encoder.bn1.")),
            ),
            // Above a trained one.
            ("optimizer.freeze=[\"layer2.*\"]", &(|_: &str| false)),
        ] {
            let [found, followed] = gradients(&[method, &[frozen]].concat());
            let mut expected = all.clone();
            expected.retain(|name, _| !is_frozen(name));
            assert!(found.keys().eq(expected.keys()), "{method:?} {frozen}");
            assert!(found == expected, "{method:?} {frozen}");
            assert!(followed == running, "{method:?} {frozen}");
        }
    }
}

#[test]
fn a_low_rank_and_frozen_layers_train_what_is_left() {
    for settings in [
        &["optimizer.low_rank=2"][..],
        &["optimizer.freeze_layers=3", "optimizer.low_rank=2"],
        &["optimizer.lr=0", "optimizer.freeze_layers=9"],
    ] {
        let settings = [
            &["base=moco-v3", "arm=base", "optimizer.clip=1"][..],
            settings,
        ]
        .concat();
        let mut trainer = Trainer::new(&config(&settings), 96, &Compute::cpu()).unwrap();
        let (row, _) = trainer.step(&[batch()], false).unwrap();
        assert!(
            row.gradient_norm > 0. && row.gradient_norm.is_finite(),
            "{settings:?}"
        );
    }
}
