//! InfoNCE against PyTorch, against differences, and against what a queue can hold.
#![allow(clippy::unwrap_used)] // in helpers of tests

use candle_core::{DType, Device, Tensor, Var};
use fgvr_ssl::{Negatives, info_nce, l2_normalise};
use fgvr_testkit::{Golden, GradCheck, assert_close, golden, gradcheck_tensors, normal};

const T: f64 = 0.2;

fn indices(golden: &Golden, name: &str) -> Vec<u32> {
    golden
        .get(name)
        .to_dtype(DType::U32)
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn number(golden: &Golden, name: &str) -> f64 {
    f64::from(golden.get(name).to_vec1::<f32>().unwrap()[0])
}

fn rows(seed: u64, n: usize, d: usize) -> Tensor {
    l2_normalise(&normal(seed, (n, d))).unwrap()
}

#[test]
fn loss_and_gradients_are_pytorchs() {
    let golden = golden("info_nce.safetensors");
    let (keys, queue) = (golden.get("keys"), golden.get("queue"));
    let images = indices(&golden, "images");
    let excluding = indices(&golden, "queue_images");
    for (case, of) in [
        ("plain", vec![999; excluding.len()]),
        ("excluded", excluding),
    ] {
        let features = Var::from_tensor(&golden.get("features")).unwrap();
        let queries = l2_normalise(&features).unwrap();
        let leaf = Var::from_tensor(&queries.detach()).unwrap();
        let negatives = Some(Negatives {
            keys: &queue,
            images: &of,
        });
        let found = info_nce(&leaf, &keys, &images, negatives, T).unwrap();
        let dq = found.loss.backward().unwrap().get(&leaf).unwrap().clone();
        assert_close(
            case,
            &dq,
            &golden.get(&format!("{case}.queries_grad")),
            1e-5,
        );
        let through = info_nce(&queries, &keys, &images, negatives, T).unwrap();
        let gradients = through.loss.backward().unwrap();
        let df = gradients.get(&features).unwrap();
        assert_close(
            case,
            df,
            &golden.get(&format!("{case}.features_grad")),
            1e-5,
        );
        let loss = found.loss.reshape(1).unwrap();
        assert_close(case, &loss, &golden.get(&format!("{case}.loss")), 1e-6);
        assert!((found.top1 - number(&golden, &format!("{case}.top1"))).abs() < 1e-6);
        assert!((found.positive - number(&golden, "positive")).abs() < 1e-6);
        if case == "excluded" {
            let negative = number(&golden, "excluded.negative");
            assert!((found.negative.unwrap() - negative).abs() < 1e-6);
        }
    }
}

#[test]
fn gradient_of_the_queries_is_that_of_differences() {
    let double = |t: Tensor| t.to_dtype(DType::F64).unwrap();
    let (keys, queue) = (double(rows(1, 4, 6)), double(rows(2, 9, 6)));
    let of = [0, 1, 2, 3, 4, 5, 6, 7, 8];
    gradcheck_tensors(
        "info_nce",
        |x| {
            let negatives = Some(Negatives {
                keys: &queue,
                images: &of,
            });
            Ok(info_nce(&l2_normalise(&x[0])?, &keys, &[2, 3, 20, 21], negatives, T)?.loss)
        },
        &[double(normal(3, (4, 6)))],
        &GradCheck::f64(),
    );
}

#[test]
fn a_key_of_the_same_image_is_not_a_negative() {
    let (queries, keys) = (rows(1, 2, 8), rows(2, 2, 8));
    let queue = Tensor::cat(&[&rows(3, 3, 8), &queries], 0).unwrap();
    let without = queue.narrow(0, 0, 3).unwrap();
    let loss = |negatives| {
        let found = info_nce(&queries, &keys, &[5, 5], Some(negatives), T).unwrap();
        (
            found.loss.to_scalar::<f32>().unwrap(),
            found.negative,
            found.top1,
        )
    };
    let same = loss(Negatives {
        keys: &queue,
        images: &[1, 2, 3, 5, 5],
    });
    let absent = loss(Negatives {
        keys: &without,
        images: &[1, 2, 3],
    });
    assert!((same.0 - absent.0).abs() < 1e-6);
    assert!((same.1.unwrap() - absent.1.unwrap()).abs() < 1e-6);
    assert_eq!(same.2, absent.2);
    let other = loss(Negatives {
        keys: &queue,
        images: &[1, 2, 3, 6, 6],
    });
    assert!(other.0 > same.0 + 0.5, "{} {}", other.0, same.0);
}

#[test]
fn without_any_negative_loss_and_gradient_are_zero() {
    let queries = Var::from_tensor(&rows(1, 3, 8)).unwrap();
    let (keys, queue) = (rows(2, 3, 8), rows(3, 2, 8));
    let alike = Negatives {
        keys: &queue,
        images: &[4, 4],
    };
    for negatives in [None, Some(alike)] {
        let found = info_nce(&queries, &keys, &[4, 4, 4], negatives, T).unwrap();
        assert_eq!(found.loss.to_scalar::<f32>().unwrap(), 0.);
        assert_eq!(found.negative, None);
        let gradients = found.loss.backward().unwrap();
        let dq = gradients
            .get(&queries)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        assert!(dq.to_scalar::<f32>().unwrap() < 1e-6);
    }
}

#[test]
fn a_collapsed_encoder_scores_zero() {
    let ones = l2_normalise(&Tensor::ones((4, 8), DType::F32, &Device::Cpu).unwrap()).unwrap();
    let negatives = Negatives {
        keys: &ones,
        images: &[10, 11, 12, 13],
    };
    let found = info_nce(&ones, &ones, &[0, 1, 2, 3], Some(negatives), T).unwrap();
    assert_eq!(found.top1, 0.);
    assert!((found.loss.to_scalar::<f32>().unwrap() - 5f32.ln()).abs() < 1e-5);
}

#[test]
fn shapes_that_do_not_agree_are_named() {
    let (queries, keys) = (rows(1, 16, 8), rows(2, 8, 8));
    let error = |keys: &Tensor, images: &[u32], negatives, t| {
        info_nce(&queries, keys, images, negatives, t)
            .unwrap_err()
            .to_string()
    };
    let images = [0; 16];
    assert!(error(&keys, &images, None, T).contains("keys are [8, 8], expected [16, 8]"));
    assert!(error(&queries, &[0; 3], None, T).contains("3 image indices, expected 16"));
    assert!(error(&queries, &images, None, 0.).contains("temperature is 0"));
    let narrow = rows(3, 5, 7);
    let negatives = Some(Negatives {
        keys: &narrow,
        images: &[0; 5],
    });
    assert!(error(&queries, &images, negatives, T).contains("[5, 7]"));
}
