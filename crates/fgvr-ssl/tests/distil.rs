//! Distillation: its losses against PyTorch and finite differences, and what it asks for.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use candle_core::{DType, Device, Tensor, Var};
use fgvr_ssl::{
    Addon, AddonConfig as _, AddonParts, BaseKind, DistilConfig, DistilForm, RunLength, StepInput,
    Term, feature_loss, similarity_loss, step,
};
use fgvr_testkit::{GradCheck, assert_close, golden, gradcheck_tensors, normal};
use toy::{WIDTH, base, batch, settings};

const N: usize = 8;
const TEMPERATURES: [f64; 2] = [0.3, 0.2];

#[test]
fn losses_and_their_gradients_are_pytorchs() {
    let golden = golden("distil.safetensors");
    let var = |name: &str| Var::from_tensor(&golden.get(name)).unwrap();
    let (student, projector, taught) = (var("student"), var("projector"), golden.get("taught"));
    let projected = student.matmul(&projector.t().unwrap()).unwrap();
    let (feature, mean) = feature_loss(&projected, &taught).unwrap();
    assert_close("feature", &feature, &golden.get("feature"), 1e-9);
    let loss = feature.to_scalar::<f64>().unwrap();
    assert!((1. - mean - loss).abs() < 1e-12);
    let gradients = feature.backward().unwrap();
    for (name, var) in [
        ("feature_student", &student),
        ("feature_projector", &projector),
    ] {
        assert_close(name, gradients.get(var).unwrap(), &golden.get(name), 1e-9);
    }
    let images = golden.get("images").to_vec1::<i64>().unwrap();
    let images: Vec<u32> = images.iter().map(|i| *i as u32).collect();
    let similarity = similarity_loss(&student, &taught, &images, TEMPERATURES).unwrap();
    assert_close("similarity", &similarity, &golden.get("similarity"), 1e-9);
    let gradients = similarity.backward().unwrap();
    let found = gradients.get(&student).unwrap();
    assert_close("student", found, &golden.get("similarity_student"), 1e-9);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let random = |seed, shape: (usize, usize)| normal(seed, shape).to_dtype(DType::F64).unwrap();
    let taught = fgvr_ssl::l2_normalise(&random(1, (6, 3))).unwrap();
    let (student, projected) = (random(2, (6, 4)), random(3, (6, 3)));
    let images = [4, 0, 1, 4, 7, 2];
    gradcheck_tensors(
        "feature",
        |x| Ok(feature_loss(&x[0], &taught)?.0),
        &[projected],
        &GradCheck::f64(),
    );
    gradcheck_tensors(
        "similarity",
        |x| similarity_loss(&x[0], &taught, &images, TEMPERATURES),
        &[student],
        &GradCheck::f64(),
    );
}

#[test]
fn equal_features_have_no_loss_and_other_shapes_an_error() {
    let rows = normal(1, (5, 4)).to_dtype(DType::F64).unwrap();
    let unit = fgvr_ssl::l2_normalise(&rows).unwrap();
    let images = [0, 1, 2, 3, 4];
    let zero = |loss: Tensor| loss.to_scalar::<f64>().unwrap().abs() < 1e-12;
    assert!(zero(feature_loss(&rows, &unit).unwrap().0));
    assert!(zero(
        similarity_loss(&rows, &unit, &images, [0.2; 2]).unwrap()
    ));
    let said = |error: candle_core::Error| error.to_string();
    let wide = normal(1, (5, 3)).to_dtype(DType::F64).unwrap();
    assert!(said(feature_loss(&wide, &unit).unwrap_err()).contains("[5, 3]"));
    let alone = similarity_loss(&rows, &unit, &[7; 5], [0.2; 2]).unwrap_err();
    assert!(said(alone).contains("one image alone"));
}

/// A teacher of `images` images.
fn built(cfg: &DistilConfig, teacher: Option<&Tensor>) -> Box<dyn Addon + Send> {
    let run = RunLength {
        steps: 20,
        steps_per_epoch: 2,
    };
    let parts = AddonParts {
        teacher,
        ..AddonParts::new(WIDTH, 2, run)
    };
    cfg.build(parts).unwrap()
}

/// The terms of a step from the same start, and the names of the gradients that arrived.
fn terms(cfg: &DistilConfig, base_weight: f64) -> (Vec<Term>, f64) {
    let teacher = normal(8, (60, 9));
    let mut addon = built(cfg, Some(&teacher));
    let mut base = base(BaseKind::SIMSIAM, &settings(), 1);
    let ([first, second], images) = batch(0, N);
    let mut input = StepInput::new([&first, &second], &images, 0, 20);
    input.base_weight = base_weight;
    let mut trained = base.trainable();
    trained.extend(addon.trainable());
    let output = step(base.as_mut(), &mut [addon.as_mut()], input).unwrap();
    let mut head = 0.;
    for (name, var) in trained {
        let gradient = output.gradients.get(&var);
        let Some(gradient) = gradient else {
            panic!("{name} got no gradient");
        };
        let sum = gradient
            .abs()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(sum.is_finite(), "{name}");
        if name.starts_with("head.") {
            head += f64::from(sum);
        } else {
            assert!(sum > 0., "{name}: nothing arrives");
        }
    }
    (output.losses.terms, head)
}

#[test]
fn each_form_reaches_every_variable_and_a_base_weight_of_zero_leaves_it_alone() {
    for (form, names) in [
        (DistilForm::Feature, &["loss_distil"][..]),
        (DistilForm::Similarity, &["loss_distil_similarity"]),
        (DistilForm::Both, &["loss_distil", "loss_distil_similarity"]),
    ] {
        let cfg = DistilConfig {
            form,
            weight: 2.,
            ..DistilConfig::default()
        };
        let (found, head) = terms(&cfg, 0.);
        assert_eq!(head, 0.);
        assert_eq!((found[0].name, found[0].weight), ("loss_base", 0.));
        for name in names {
            // One for both views.
            let of: Vec<_> = found.iter().filter(|term| term.name == *name).collect();
            assert_eq!((of.len(), of[0].weight), (1, 2.), "{name}");
        }
        assert!(terms(&cfg, 1.).1 > 0.);
    }
}

#[test]
fn without_a_teacher_or_with_too_short_a_one_a_step_says_so() {
    let mut base = base(BaseKind::SIMSIAM, &settings(), 1);
    let ([first, second], images) = batch(0, N);
    let short = Tensor::ones((1, 3), DType::F32, &Device::Cpu).unwrap();
    for (teacher, words) in [
        (None, "no features of a teacher"),
        (Some(&short), "saw 1 images"),
    ] {
        let mut addon = built(&DistilConfig::default(), teacher);
        let input = StepInput::new([&first, &second], &images, 0, 20);
        let error = step(base.as_mut(), &mut [addon.as_mut()], input)
            .err()
            .unwrap();
        assert!(error.to_string().contains(words), "{error}");
    }
}
