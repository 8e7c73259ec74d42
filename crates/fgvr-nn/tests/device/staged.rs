//! Images staged by another thread, and maps that enter several tapes.

use std::thread;

use candle_core::{DType, Device::Cpu, Tensor};
use fgvr_nn::layers::relu;
use fgvr_nn::{Activation, ParameterGradients, Tape};
use fgvr_testkit::normal;

use crate::support::devices;

fn values(map: &Activation) -> Vec<f32> {
    let tensor = map.to_tensor().expect("a tensor");
    let flat = tensor.flatten_all().expect("values");
    flat.to_vec1().expect("f32")
}

#[test]
fn a_staged_map_is_that_of_the_input() {
    for (device, _) in devices() {
        for shape in [(2, 3, 8, 8), (1, 3, 5, 7), (3, 1, 4, 4), (0, 3, 2, 2)] {
            let images = normal(1, shape);
            let staged = thread::scope(|scope| {
                let staged = scope.spawn(|| device.stage(&images));
                staged.join().unwrap().unwrap()
            });
            let (n, c, h, w) = shape;
            assert_eq!(staged.shape(), [n, h, w, c]);
            let received = device.receive(staged).unwrap();
            let mut tape = Tape::inference().on(Some(&device));
            let expected = tape.input(&images, false).unwrap();
            assert_eq!(received.shape(), expected.shape());
            assert_eq!(values(&received), values(&expected));
        }
        assert_eq!(device.memory().unwrap().held, 0);
    }
}

#[test]
fn a_view_of_a_tensor_is_staged_as_it_is_seen() {
    for (device, _) in devices() {
        let images = normal(2, (4, 3, 6, 6)).narrow(0, 1, 2).unwrap();
        let images = images.transpose(2, 3).unwrap();
        let map = device.receive(device.stage(&images).unwrap()).unwrap();
        let mut tape = Tape::inference().on(Some(&device));
        assert_eq!(values(&map), values(&tape.input(&images, false).unwrap()));
    }
}

#[test]
fn a_map_enters_several_tapes_as_a_constant() {
    let images = normal(3, (2, 3, 4, 4));
    let mut places: Vec<_> = devices()
        .into_iter()
        .map(|(device, _)| Some(device))
        .collect();
    places.push(None);
    for device in places {
        let mut first = Tape::recording().on(device.as_ref());
        // The tape that it came from still wants its gradient.
        let of_first = first.input(&images, true).unwrap();
        let y = relu(&mut first, &of_first).unwrap();
        for _ in 0..2 {
            let mut tape = Tape::recording().on(device.as_ref());
            let map = tape.constant(&of_first).unwrap();
            assert!(!tape.needs_gradient(&map));
            assert_eq!(values(&map), values(&of_first));
            let y = relu(&mut tape, &map).unwrap();
            tape.output(&y).unwrap();
        }
        assert!(first.needs_gradient(&of_first));
        let y = first.output(&y).unwrap();
        let leaves = y.as_tensor().sum_all().unwrap().backward().unwrap();
        let dx = first
            .backward(&leaves, &mut ParameterGradients::default())
            .unwrap();
        let expected = images.gt(0f32).unwrap().to_dtype(DType::F32).unwrap();
        let off = (dx.unwrap() - expected).unwrap().abs().unwrap();
        assert_eq!(off.sum_all().unwrap().to_scalar::<f32>().unwrap(), 0.);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let devices = devices();
    let [(device, _), (of_bf16, _)] = &devices[..] else {
        return;
    };
    let vectors = Tensor::zeros((2, 3), DType::F32, &Cpu).unwrap();
    let error = device.stage(&vectors).unwrap_err().to_string();
    assert!(
        error.contains("stage: expected (N, C, H, W), found [2, 3]"),
        "{error}"
    );
    let integers = Tensor::zeros((1, 1, 2, 2), DType::U32, &Cpu).unwrap();
    assert!(device.stage(&integers).is_err());

    let images = normal(4, (1, 3, 2, 2));
    let map = device.receive(device.stage(&images).unwrap()).unwrap();
    let refused = |mut tape: Tape| tape.constant(&map).unwrap_err().to_string();
    let error = refused(Tape::recording());
    assert!(
        error.contains("expected a map on the CPU, found one on Device"),
        "{error}"
    );
    // The same machine, another type of maps.
    let error = refused(Tape::recording().on(Some(of_bf16)));
    assert!(error.contains("tape: expected a map on"), "{error}");
    let staged = crate::support::devices()[0].0.stage(&images).unwrap();
    let error = device.receive(staged).unwrap_err().to_string();
    assert!(error.contains("found bytes of another"), "{error}");
}
