//! Rotation and patch shuffle: what they do to images, and their gradients, also beside PyTorch.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use candle_core::{Device, Tensor};
use fgvr_ssl::{
    Addon, AddonParts, BaseKind, Pretext, PretextConfig, PretextTask, RunLength, Views, step,
};
use fgvr_testkit::{Golden, assert_close, golden};
use toy::{WIDTH, batch, input, moco, moco_config, settings, values, watched};

fn pretext(cfg: &PretextConfig) -> Pretext {
    let run = RunLength {
        steps: 10,
        steps_per_epoch: 2,
    };
    let parts = AddonParts::new(WIDTH, 2, run);
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

/// Images whose answers at this step are `wanted`.
fn images_of(task: &Pretext, seed: u64, step: u64, wanted: &[u32]) -> Vec<u32> {
    let mut next = 0;
    let found = wanted.iter().map(|wanted| {
        let image = (next..).find(|image| task.answers(seed, step, &[*image]) == [*wanted]);
        next = image.unwrap() + 1;
        next - 1
    });
    found.collect()
}

/// The order of the script that answer `answer` puts the patches of a 2 x 2 grid in.
fn order_of(task: &mut Pretext, answer: u32, golden: &Golden) -> u32 {
    // The top left pixels of the four patches, of which each keeps its own.
    let image = first_channel(&task.apply(&numbered(4), &[answer]).unwrap());
    let order = [0, 2, 8, 10].map(|place| match image[place] as i64 {
        0 => 0,
        2 => 1,
        8 => 2,
        10 => 3,
        other => panic!("pixel {other} at {place}"),
    });
    let orders = golden.get("orders").to_vec2::<i64>().unwrap();
    orders.iter().position(|of| *of == order).unwrap() as u32
}

/// The loss of a step whose trunk and answering layer have the script's weights. MoCo's own loss is flat as
/// long as its queue is empty. All were within 1e-6.
fn beside_pytorch(name: &str, cfg: &PretextConfig) {
    const WEIGHT: f64 = 0.7;
    let golden = golden("pretext.safetensors");
    let of = |what: &str| golden.get(&format!("{name}.{what}"));
    let mut task = pretext(&PretextConfig {
        weight: WEIGHT,
        ..cfg.clone()
    });
    // Which of the script's answers ours are: the orders are ours to draw.
    let count = cfg.answers() as u32;
    let theirs: Vec<u32> = match cfg.task {
        PretextTask::Rotation => (0..count).collect(),
        PretextTask::PatchShuffle => (0..count)
            .map(|answer| order_of(&mut task, answer, &golden))
            .collect(),
    };
    assert_eq!(theirs[0], 0, "the first answer is the image as it is");
    let rows = Tensor::new(theirs.as_slice(), &Device::Cpu).unwrap();
    let answers = of("answers").to_vec1::<i64>().unwrap().into_iter();
    let answers: Vec<u32> = answers
        .map(|answer| theirs.iter().position(|t| i64::from(*t) == answer).unwrap() as u32)
        .collect();

    let x = golden.get("images");
    let seen = task.apply(&x, &answers).unwrap();
    assert_close("images", &seen, &of("seen"), 0.);

    let (mut base, at_pooled) = watched(BaseKind::MOCO_V2, &settings(), 1);
    let encoder = ["conv.weight", "bn.weight", "bn.bias"];
    for name in encoder {
        let var = &base.trainable()[&format!("encoder.{name}")];
        var.set(&golden.get(name)).unwrap();
    }
    for (name, var) in task.trainable() {
        let name = name.strip_prefix("addon.pretext.").unwrap();
        var.set(&of(name).index_select(&rows, 0).unwrap()).unwrap();
    }
    let images = images_of(&task, 3, 4, &answers);
    let input = input(Views::from([&x, &x]), &images, 4);
    assert_eq!(input.seed, 3);
    let output = step(base.as_mut(), &mut [&mut task], input).unwrap();

    let term = output.losses.terms[1];
    let loss = f64::from(of("loss").to_scalar::<f32>().unwrap());
    println!("{name}: loss {} instead of {loss}", term.loss);
    assert!((term.loss - loss).abs() < 1e-5 * loss && term.weight == WEIGHT);
    let top1 = f64::from(of("top1").to_scalar::<f32>().unwrap());
    assert_eq!(output.figures, [("pretext_top1", top1)]);
    let expected = |name: &str| (of(&format!("grad.{name}")) * WEIGHT).unwrap();
    // The base's pass, then the task's.
    let at_pooled = at_pooled.lock().unwrap();
    assert_eq!(at_pooled.len(), 2);
    assert_close("grad h", &at_pooled[1], &expected("h"), 1e-5);
    for name in encoder {
        let var = &base.trainable()[&format!("encoder.{name}")];
        let found = output.gradients.get(var).unwrap();
        assert_close(name, found, &expected(name), 1e-5);
    }
    for (name, var) in task.trainable() {
        let found = output.gradients.get(&var).unwrap();
        let expected = expected(name.strip_prefix("addon.pretext.").unwrap());
        let expected = expected.index_select(&rows, 0).unwrap();
        assert_close(&name, found, &expected, 1e-5);
    }
}

#[test]
fn rotated_images_the_loss_and_its_gradients_are_pytorchs() {
    beside_pytorch("rotation", &PretextConfig::default());
}

#[test]
fn shuffled_images_the_loss_and_its_gradients_are_pytorchs() {
    beside_pytorch("patch-shuffle", &shuffle(2, 24));
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
    assert!(none.is_none() && output.losses.terms.len() == 1);
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
    assert_eq!(one.losses.terms[1].loss, two.losses.terms[1].loss);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let refused = |cfg: PretextConfig| {
        use fgvr_ssl::MethodConfig as _;
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
