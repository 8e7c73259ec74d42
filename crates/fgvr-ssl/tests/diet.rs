//! DIET against PyTorch, by hand and by finite differences.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};
use fgvr_nn::ParameterGradients;
use fgvr_nn::optim::{Adam, AdamConfig};
use fgvr_ssl::{
    AddonKind, Base, BaseConfig, BaseKind, DietConfig, Parts, RunLength, TrainingSet, Values,
    smoothed_cross_entropy, supports,
};
use fgvr_testkit::{GradCheck, assert_close, golden, gradcheck_tensors, normal};
use toy::{SIDE, batch, network};

const N: usize = 8;
const RUN: RunLength = RunLength {
    steps: 20,
    steps_per_epoch: 5,
};

fn diet(cfg: &DietConfig) -> Box<dyn Base> {
    let mut make = || Ok(network(1).any());
    let parts = Parts {
        network: &mut make,
        seed: 2,
        run: RUN,
    };
    cfg.build(parts).unwrap()
}

fn choices() -> DietConfig {
    DietConfig {
        images: 50,
        ..DietConfig::default()
    }
}

#[test]
fn cross_entropy_with_label_smoothing_and_its_gradient_are_pytorchs() {
    let golden = golden("diet.safetensors");
    let classes: Vec<u32> = (golden.get("classes").to_dtype(DType::U32).unwrap())
        .to_vec1()
        .unwrap();
    for smoothing in ["0.0", "0.3", "0.8"] {
        let logits = Var::from_tensor(&golden.get("logits")).unwrap();
        let share = smoothing.parse().unwrap();
        let loss = smoothed_cross_entropy(&logits, &classes, share).unwrap();
        let expected = golden.get(&format!("loss.{smoothing}"));
        assert_close("loss", &loss.reshape(1).unwrap(), &expected, 1e-6);
        let gradients = loss.backward().unwrap();
        let expected = golden.get(&format!("gradient.{smoothing}"));
        let found = gradients.get(&logits).unwrap();
        assert_close("gradient", found, &expected, 1e-5);
    }
}

#[test]
fn the_gradient_of_the_loss_is_that_of_finite_differences() {
    let logits = (normal(3, (4, 7)).to_dtype(DType::F64).unwrap() * 2.).unwrap();
    let loss = |z: &[Tensor]| smoothed_cross_entropy(&z[0], &[6, 0, 3, 3], 0.8);
    gradcheck_tensors("diet", loss, &[logits], &GradCheck::default());
}

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

fn twenty_steps(prefix: &str, cfg: &DietConfig) {
    let golden = golden("diet.safetensors");
    let mut base = diet(cfg);
    let mut state: HashMap<String, Tensor> = base.state().unwrap().into_iter().collect();
    let start = format!("{prefix}.start.");
    for (name, tensor) in golden.tensors() {
        if let Some(name) = name.strip_prefix(&start) {
            assert!(state.insert(name.to_owned(), tensor.clone()).is_some());
        }
    }
    base.load_state(&state).unwrap();
    let trainable = base.trainable();
    let adam = AdamConfig {
        weight_decay: 0.05,
        exclude_norm_and_bias: true,
        ..AdamConfig::default()
    };
    let mut adam = Adam::new(trainable.clone(), &adam).unwrap();
    let expected = golden.get(&format!("{prefix}.losses"));
    let expected = expected.to_vec1::<f32>().unwrap();
    let shape = (N, 3, SIDE, SIDE);
    for (step, expected) in (0u64..).zip(expected) {
        let first = image_values(10 * step, shape);
        let second = (&first + (image_values(10 * step + 1, shape) * 0.3).unwrap()).unwrap();
        let images: Vec<u32> = (0..N as u32).map(|i| (i + 3 * step as u32) % 50).collect();
        let pass = base.real([&first, &second].into(), &images).unwrap();
        let loss = pass.found.tensor().unwrap().clone();
        let value = loss.to_scalar::<f32>().unwrap();
        assert!(
            (value - expected).abs() < 1e-4,
            "{step}: {value} {expected}"
        );
        let leaves = loss.backward().unwrap();
        if step == 0 {
            for branch in &pass.branches {
                let name = format!("{prefix}.pooled_grad.{}", branch.view);
                let found = leaves.get(&branch.leaves().unwrap().pooled).unwrap();
                assert_close(&name, found, &golden.get(&name), 1e-4);
            }
        }
        let mut gradients = ParameterGradients::default();
        pass.backward(leaves.into(), &trainable, &mut gradients)
            .unwrap();
        if step == 0 {
            for (name, var) in &trainable {
                let expected = golden.get(&format!("{prefix}.gradient.{name}"));
                assert_close(name, gradients.get(var).unwrap(), &expected, 1e-4);
            }
        }
        adam.step(&gradients, 1e-2).unwrap();
        base.after_step().unwrap();
    }
    for (name, var) in &trainable {
        let expected = golden.get(&format!("{prefix}.end.{name}"));
        assert_close(name, var.as_tensor(), &expected, 2e-3);
    }
}

#[test]
fn twenty_steps_are_pytorchs() {
    twenty_steps("diet", &choices());
}

#[test]
fn twenty_steps_by_cosine_are_pytorchs() {
    let cfg = DietConfig {
        cosine: true,
        temperature: 0.1,
        ..choices()
    };
    twenty_steps("cosine", &cfg);
}

#[test]
fn a_second_view_of_another_image_is_of_the_first_ones_class() {
    let mut base = diet(&choices());
    let ([first, _], images) = batch(1, N);
    let ([neighbour, _], _) = batch(2, N);
    let loss = |base: &mut dyn Base, views: [&Tensor; 2]| {
        let pass = base.real(views.into(), &images).unwrap();
        pass.numbers().unwrap().loss
    };
    let [plain, other, mixed] = [
        [&first, &first],
        [&neighbour, &neighbour],
        [&first, &neighbour],
    ]
    .map(|views| loss(base.as_mut(), views));
    assert!((mixed - (plain + other) / 2.).abs() < 1e-5);
    assert_ne!(plain, other);
}

#[test]
fn pairs_are_classified_as_their_image_and_reach_the_classes() {
    let mut base = diet(&choices());
    let images: Vec<u32> = (0..4).collect();
    let rows = |seed| Var::from_tensor(&normal(seed, (4, toy::WIDTH))).unwrap();
    let (query, key) = (rows(1), rows(2));
    let of = |a: &Var, b: &Var| {
        let [a, b] = [a, b].map(|rows| Values::from(rows.as_tensor()));
        base.between(&a, &b, &images).unwrap().found
    };
    let [both, first, second] = [of(&query, &key), of(&query, &query), of(&key, &key)];
    let value = |found: &fgvr_ssl::Found| found.numbers().unwrap().loss;
    assert!((value(&both) - (value(&first) + value(&second)) / 2.).abs() < 1e-6);
    let gradients = both.tensor().unwrap().backward().unwrap();
    let classes = &base.trainable()["head.classes.weight"];
    for var in [&query, &key, classes] {
        assert!(gradients.get(var).is_some());
    }

    let before = base.state().unwrap();
    let ([first, second], images) = batch(3, N);
    let pair = [&(&first).into(), &(&second).into()];
    let pass = base.generated(pair, &images).unwrap();
    assert_eq!(pass.branches.len(), 2);
    for (name, tensor) in base.state().unwrap() {
        if name != "step" {
            assert_close(&name, &tensor, &before[&name], 0.);
        }
    }
}

#[test]
fn it_has_as_many_classes_as_there_are_images_and_says_what_cannot_be() {
    let mut cfg = DietConfig::default();
    let set = TrainingSet {
        images: 30,
        batch: 4,
        seed: 5,
    };
    assert!(cfg.fit_to(set).is_empty());
    let base = diet(&cfg);
    let dims = base.trainable()["head.classes.weight"].dims().to_vec();
    assert_eq!(dims, [30, toy::WIDTH]);
    // From a state alone, without its set.
    let mut of_state = DietConfig::default();
    of_state.fit_to_state(&base.state().unwrap().into_iter().collect());
    assert_eq!(of_state.images, 30);

    let mut base = base;
    let ([first, second], _) = batch(0, N);
    let far: Vec<u32> = (23..31).collect();
    let error = base.real([&first, &second].into(), &far).err().unwrap();
    assert!(
        error.to_string().contains("image 30 has no class"),
        "{error}"
    );
    let mut make = || Ok(network(1).any());
    let parts = Parts {
        network: &mut make,
        seed: 1,
        run: RUN,
    };
    let error = DietConfig::default().build(parts).err().unwrap();
    assert!(error.to_string().contains("a training set of 0 images"));
    let unsupported = supports(BaseKind::DIET, AddonKind::LODISC).unwrap_err();
    let pass = base.real([&first, &second].into(), &[0; N]).unwrap();
    let error = base.against(&pass, [&first, &second], &[0; N]).err();
    assert!(error.unwrap().to_string().contains(unsupported.reason));
}

#[test]
fn classes_go_with_their_images_where_the_set_changed() {
    let base = diet(&choices());
    let mut state: HashMap<String, Tensor> = base.state().unwrap().into_iter().collect();
    let rows = |state: &HashMap<String, Tensor>| {
        let weight = &state["head.classes.weight"];
        weight.to_vec2::<f32>().unwrap()
    };
    let before = rows(&state);
    let cfg = DietConfig {
        images: 40,
        ..choices()
    };
    assert_eq!(cfg.rows_of_images(), ["head.classes.weight"]);
    let number = |image: u32| image.checked_sub(20);
    let said = cfg.renumber(&mut state, &number).unwrap();
    assert!(
        said[0].contains("30 of 50") && said[0].contains("10 begin anew"),
        "{said:?}"
    );
    let now = rows(&state);
    assert_eq!((now.len(), &now[..30]), (40, &before[20..]));
    diet(&cfg).load_state(&state).unwrap();
}

#[cfg(feature = "serde")]
#[test]
fn the_number_of_images_is_no_setting() {
    let text = toml::to_string(&choices()).unwrap();
    assert!(!text.contains("images") && !text.contains("seed"), "{text}");
    let error = toml::from_str::<DietConfig>("images = 3\n").unwrap_err();
    assert!(error.to_string().contains("images"), "{error}");
}
