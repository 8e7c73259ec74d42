//! Rotation and patch shuffle: what they do to images, and their gradients.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use candle_core::{Device, Tensor};
use fgvr_ssl::{Addon, AddonParts, Pretext, PretextConfig, PretextTask, RunLength, step};
use toy::{WIDTH, batch, input, moco, moco_config, values};

fn pretext(cfg: &PretextConfig) -> Pretext {
    let run = RunLength {
        steps: 10,
        steps_per_epoch: 2,
    };
    let parts = AddonParts {
        width: WIDTH,
        seed: 2,
        run,
    };
    Pretext::new(cfg, parts).unwrap()
}

fn shuffle(grid: usize, orders: usize) -> PretextConfig {
    PretextConfig {
        task: PretextTask::PatchShuffle,
        grid,
        orders,
        ..PretextConfig::default()
    }
}

/// 0, 1, 2, ... in rows, the same in three channels.
fn numbered(side: usize) -> Tensor {
    let one = Tensor::arange(0f32, (side * side) as f32, &Device::Cpu).unwrap();
    let one = one.reshape((1, 1, side, side)).unwrap();
    one.broadcast_as((1, 3, side, side)).unwrap()
}

fn first_channel(images: &Tensor) -> Vec<f32> {
    images
        .get(0)
        .unwrap()
        .get(0)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

#[test]
fn quarter_turns_are_counter_clockwise() {
    let mut task = pretext(&PretextConfig::default());
    let turned = |task: &mut Pretext, by| first_channel(&task.apply(&numbered(2), &[by]).unwrap());
    assert_eq!(turned(&mut task, 0), [0., 1., 2., 3.]);
    assert_eq!(turned(&mut task, 1), [1., 3., 0., 2.]);
    assert_eq!(turned(&mut task, 2), [3., 2., 1., 0.]);
    assert_eq!(turned(&mut task, 3), [2., 0., 3., 1.]);
    // Another size, and four turns by one are none.
    let mut image = numbered(5);
    for _ in 0..4 {
        image = task.apply(&image, &[1]).unwrap();
    }
    assert_eq!(first_channel(&image), first_channel(&numbered(5)));
}

#[test]
fn shuffled_patches_are_moved_whole_and_all_orders_differ() {
    let mut task = pretext(&shuffle(2, 24));
    let mut seen = std::collections::BTreeSet::new();
    for answer in 0..24 {
        let image = first_channel(&task.apply(&numbered(4), &[answer]).unwrap());
        let whole = |corner: usize| {
            let at = [0, 1, 4, 5].map(|offset| image[corner + offset]);
            at.map(|v| v - at[0]) == [0., 1., 4., 5.]
        };
        assert!([0, 2, 8, 10].into_iter().all(whole), "{image:?}");
        if answer == 0 {
            assert_eq!(image, first_channel(&numbered(4)));
        }
        let mut sorted: Vec<u32> = image.iter().map(|v| *v as u32).collect();
        assert!(seen.insert(sorted.clone()), "order {answer} stands twice");
        sorted.sort_unstable();
        assert_eq!(sorted, (0..16).collect::<Vec<_>>());
    }
}

#[test]
fn answers_depend_on_seed_step_and_image_alone_and_all_occur() {
    let task = pretext(&PretextConfig::default());
    let images: Vec<u32> = (0..400).collect();
    let answers = task.answers(1, 7, &images);
    assert_eq!(answers[200..], task.answers(1, 7, &images[200..]));
    assert_ne!(answers, task.answers(1, 8, &images));
    assert_ne!(answers, task.answers(2, 7, &images));
    for answer in 0..4 {
        let count = answers.iter().filter(|a| **a == answer).count();
        assert!((60..140).contains(&count), "{answer}: {count}");
    }
}

#[test]
fn the_trunk_and_the_answering_layer_get_the_losses_gradient_and_no_running_statistic_moves() {
    let gradient = |weight: f64| {
        let mut base = moco(1, &moco_config());
        let mut task = pretext(&PretextConfig {
            weight,
            ..PretextConfig::default()
        });
        let ([first, second], images) = batch(0, 8);
        let input = input([&first, &second], &images, 0);
        let output = step(&mut base, &mut [&mut task], input).unwrap();
        let running = values(&base.online().parameters.buffers());
        let mut vars = base.online().parameters.trainable();
        vars.extend(task.trainable());
        let flat = |name: &str| {
            let found = vars.get(name).and_then(|var| output.gradients.get(var));
            found.map(|g| g.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        let of = ["conv.weight", "addon.pretext.weight"].map(flat);
        (of, output, running)
    };
    let ([alone, none], output, running) = gradient(0.);
    assert!(none.is_none() && output.losses.terms.is_empty());
    let off = PretextConfig {
        weight: 0.,
        ..PretextConfig::default()
    };
    assert!(pretext(&off).trainable().is_empty());
    let ([once, head], one, same) = gradient(1.);
    let ([twice, double], two, _) = gradient(2.);
    assert_eq!(running, same);
    let figure = one.figures[0];
    assert_eq!(figure.0, "pretext_top1");
    assert!((0. ..=1.).contains(&figure.1));
    // Linear in the weight: what it adds doubles.
    let (alone, once, twice) = (alone.unwrap(), once.unwrap(), twice.unwrap());
    let mut moved = 0;
    for ((alone, once), twice) in alone.iter().zip(&once).zip(&twice) {
        assert!(((twice - alone) - 2. * (once - alone)).abs() < 1e-5);
        moved += usize::from((once - alone).abs() > 1e-6);
    }
    assert!(moved > alone.len() / 2);
    for (one, two) in head.unwrap().iter().zip(double.unwrap()) {
        assert!((two - 2. * one).abs() < 1e-5);
    }
    assert_eq!(one.losses.terms[0].loss, two.losses.terms[0].loss);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let refused = |cfg: PretextConfig| {
        use fgvr_ssl::AddonConfig as _;
        cfg.validate().unwrap_err().to_string()
    };
    assert!(refused(shuffle(1, 4)).contains("grid is 1"));
    assert!(refused(shuffle(2, 25)).contains("orders is 25"));
    let weight = PretextConfig {
        weight: f64::NAN,
        ..PretextConfig::default()
    };
    assert!(refused(weight).contains("weight is NaN"));
    let mut task = pretext(&shuffle(3, 4));
    let error = task.apply(&numbered(8), &[0]).unwrap_err().to_string();
    assert!(
        error.contains("grid is 3, expected a divisor of the image size 8"),
        "{error}"
    );
}
