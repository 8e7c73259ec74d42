//! Losses and the key queue on a device give what the CPU's give.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::{Device, Tensor, Var};
use fgvr_decoder::reconstruction_loss;
use fgvr_nn::cuda::Array;
use fgvr_nn::cuda::emulator::Emulator;
use fgvr_nn::cuda::ops::cosine::{Compared, Loss, cosine};
use fgvr_nn::cuda::ops::queue::Queue;
use fgvr_nn::cuda::ops::squared_error::mean_squared_error;
use fgvr_ssl::{ByolConfig, ByolObjective, KeyQueue, Objective, SimSiamConfig, SimSiamObjective};
use fgvr_testkit::{assert_close_values, normal_values, skipped};

fn emulator() -> Option<Emulator> {
    Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR")))
        .map_err(skipped)
        .ok()
}

fn on_device(emulator: &Emulator, values: &[f32]) -> Array {
    Array::from_f32(emulator, values).unwrap()
}

/// That the device's values are the tensor's.
fn same(name: &str, emulator: &Emulator, found: &Array, expected: &Tensor) {
    let wide = |values: Vec<f32>| -> Vec<f64> { values.into_iter().map(f64::from).collect() };
    let found = wide(found.to_f32(emulator).unwrap());
    let expected = wide(expected.flatten_all().unwrap().to_vec1().unwrap());
    assert_close_values(name, &found, &expected, 1e-5);
}

#[test]
fn a_device_compares_predictions_as_byol_and_simsiam_do() {
    let Some(emulator) = emulator() else { return };
    let (rows, width) = (5, 24);
    let (mut q, mut k) = (
        normal_values(1, rows * width),
        normal_values(2, rows * width),
    );
    // Rows of zeros: of the predictions one, of the targets one, in both one.
    for row in [0, 1] {
        q[row * width..][..width].fill(0.);
    }
    for row in [1, 2] {
        k[row * width..][..width].fill(0.);
    }
    let images: Vec<u32> = (0..rows as u32).collect();
    let tensor = |values: &[f32]| Tensor::from_slice(values, (rows, width), &Device::Cpu).unwrap();
    let objectives: [(Box<dyn Objective>, Loss); 2] = [
        (
            Box::new(ByolObjective::new(&ByolConfig::default()).unwrap()),
            Loss::Distance,
        ),
        (
            Box::new(SimSiamObjective::new(&SimSiamConfig::default()).unwrap()),
            Loss::HalfNegative,
        ),
    ];
    for (objective, loss) in objectives {
        let predictions = Var::from_tensor(&tensor(&q)).unwrap();
        let expected = objective
            .comparison()
            .of(predictions.as_tensor(), &tensor(&k), &images)
            .unwrap();
        let gradients = expected.loss.backward().unwrap();
        let compared = Compared {
            predictions: &on_device(&emulator, &q),
            targets: &on_device(&emulator, &k),
            rows,
            width,
            shortest: 1e-6,
        };
        let found = cosine(&emulator, &compared, loss, 1.).unwrap();
        same("loss", &emulator, &found.loss, &expected.loss);
        let gradient = gradients.get(&predictions).unwrap();
        same("gradient", &emulator, &found.gradient, gradient);
        let cosine = f64::from(found.cosine.to_f32(&emulator).unwrap()[0]);
        assert_close_values("cosine", &[cosine], &[expected.positive], 1e-5);
    }
}

#[test]
fn a_device_has_the_reconstruction_loss() {
    let Some(emulator) = emulator() else { return };
    let shape = (2, 5, 3, 3);
    let (a, b) = (normal_values(3, 90), normal_values(4, 90));
    let tensor = |values: &[f32]| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
    let images = Var::from_tensor(&tensor(&a)).unwrap();
    let expected = reconstruction_loss(images.as_tensor(), &tensor(&b)).unwrap();
    let gradients = expected.backward().unwrap();
    let (made, target) = (on_device(&emulator, &a), on_device(&emulator, &b));
    let (loss, gradient) = mean_squared_error(&emulator, &made, &target, 1.).unwrap();
    same("loss", &emulator, &loss, &expected);
    let expected = gradients.get(&images).unwrap();
    same("gradient", &emulator, &gradient, expected);
}

#[test]
fn a_device_keeps_keys_in_the_slots_of_the_key_queue() {
    let Some(emulator) = emulator() else { return };
    let (capacity, width) = (7, 4);
    let mut expected = KeyQueue::new(capacity, width).unwrap();
    let mut queue = Queue::new(&emulator, capacity, width).unwrap();
    for (push, count) in [3usize, 3, 4, 9, 7].into_iter().enumerate() {
        let keys = normal_values(push as u64, count * width);
        let images: Vec<u32> = (0..count as u32).map(|i| 10 * push as u32 + i).collect();
        let tensor = Tensor::from_slice(&keys, (count, width), &Device::Cpu).unwrap();
        expected.enqueue(&tensor, &images).unwrap();
        let images = Array::from_u32(&emulator, &images).unwrap();
        queue
            .push(&emulator, &on_device(&emulator, &keys), &images)
            .unwrap();
        let (keys, images) = expected.keys().unwrap().unwrap();
        let keys: Vec<f32> = keys.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(queue.keys().unwrap().to_f32(&emulator).unwrap(), keys);
        assert_eq!(queue.images().unwrap().to_u32(&emulator).unwrap(), images);
        assert_eq!(queue.len(), expected.len());
    }
}
