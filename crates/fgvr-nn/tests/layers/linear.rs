//! The fully connected layer.

use candle_core::{DType, Device};
use candle_nn::ModuleT;
use fgvr_nn::layers::Linear;
use fgvr_nn::{Parameters, Tape};
use fgvr_testkit::{assert_close, golden, normal};

use crate::support::{REL, bits, check, check_golden, parameters, run, with_threads};

#[test]
fn linear_is_pytorchs() {
    let golden = golden("nn_layers.safetensors");
    let (_, vb) = parameters(&golden, "linear", &["weight", "bias"]);
    let linear = Linear::new(7, 6, true, vb).unwrap();
    let outcome = check_golden(&golden, "linear", |t, x| linear.apply(t, x));
    let gradient = |tensor| outcome.gradients.get(tensor).unwrap();
    assert_close(
        "d weight",
        gradient(linear.weight()),
        &golden.get("linear.d_weight"),
        REL,
    );
    assert_close(
        "d bias",
        gradient(linear.bias().unwrap()),
        &golden.get("linear.d_bias"),
        REL,
    );
}

#[test]
fn linear_has_the_gradient_of_differences() {
    for n in [1, 5] {
        let vb = Parameters::new(1).builder(DType::F32, &Device::Cpu);
        let linear = Linear::new(4, 3, true, vb).unwrap();
        let reference = |x: &[Vec<f64>]| -> Vec<f64> {
            x[0].chunks(4)
                .flat_map(|row| {
                    let rows = x[1].chunks(4).zip(&x[2]);
                    rows.map(|(w, b)| row.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() + b)
                        .collect::<Vec<_>>()
                })
                .collect()
        };
        let vars = [linear.weight(), linear.bias().unwrap()];
        check(
            "linear",
            &normal(2, (n, 4)),
            &vars,
            |t, x| linear.apply(t, x),
            reference,
        );
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let vb = Parameters::new(1).builder(DType::F32, &Device::Cpu);
    let linear = Linear::new(700, 530, true, vb).unwrap();
    let x = normal(3, (300, 700));
    let [one, two] = [1, 2].map(|threads| {
        with_threads(threads, || {
            let outcome = run(&x, None, |t, x| linear.apply(t, x));
            let dw = outcome.gradients.get(linear.weight()).unwrap();
            let db = outcome.gradients.get(linear.bias().unwrap()).unwrap();
            [&outcome.y, &outcome.dx, dw, db].map(bits)
        })
    });
    assert_eq!(one, two);
}

#[test]
fn linear_as_a_module_takes_transposed_tokens() {
    let vb = Parameters::new(1).builder(DType::F32, &Device::Cpu);
    let linear = Linear::new(6, 18, true, vb).unwrap();
    let tokens = normal(2, (2, 6, 3)).transpose(1, 2).unwrap();
    let expected = linear.forward_t(&tokens.reshape((6, 6)).unwrap(), true);
    let y = linear.forward_t(&tokens, true).unwrap();
    assert_close("y", &y.reshape((6, 18)).unwrap(), &expected.unwrap(), 1e-6);
}

#[test]
fn wrong_shapes_are_errors() {
    let vb = Parameters::new(1).builder(DType::F32, &Device::Cpu);
    let linear = Linear::new(4, 3, false, vb).unwrap();
    let mut tape = Tape::recording();
    let map = tape.input(&normal(0, (1, 5, 2, 1)), false).unwrap();
    let error = linear.apply(&mut tape, &map).unwrap_err().to_string();
    assert!(
        error.contains("linear: expected 4 channels, found 5"),
        "{error}"
    );
}

#[test]
fn each_place_of_a_map_goes_through_the_layer_with_the_gradient_of_differences() {
    let vb = Parameters::new(1).builder(DType::F32, &Device::Cpu);
    let linear = Linear::new(4, 3, true, vb).unwrap();
    for (n, h, w) in [(1, 2, 1), (2, 1, 5), (2, 3, 2)] {
        let places = h * w;
        let reference = |x: &[Vec<f64>]| -> Vec<f64> {
            let (x, weight, bias) = (&x[0], &x[1], &x[2]);
            (0..n * 3 * places)
                .map(|i| {
                    let (image, o, place) = (i / (3 * places), i / places % 3, i % places);
                    let at = |k: usize| x[(image * 4 + k) * places + place];
                    (0..4).map(|k| weight[o * 4 + k] * at(k)).sum::<f64>() + bias[o]
                })
                .collect()
        };
        check(
            "linear per place",
            &normal(2, (n, 4, h, w)),
            &[linear.weight(), linear.bias().unwrap()],
            |t, x| linear.apply(t, x),
            reference,
        );
    }
}
