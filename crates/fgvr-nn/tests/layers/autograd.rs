//! The layers as candle modules, against the same layers on the tape.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::ModuleT;
use fgvr_nn::layers::{After, BatchNorm, Linear};
use fgvr_nn::{Activation, NormMode, Parameters, Tape};
use fgvr_testkit::{assert_close, normal};

use crate::support::{REL, bits, run};

/// Output and all gradients of `module` on candle's autograd equal those of `op` on the tape, and
/// a second backward through the same graph gives the same bits.
pub(crate) fn compare(
    x: &Tensor,
    parameters: &Parameters,
    module: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
    op: impl FnOnce(&mut Tape, &Activation) -> candle_core::Result<Activation>,
) {
    let x = Var::from_tensor(x).unwrap();
    let y = module(x.as_tensor()).unwrap();
    let dy = normal(77, y.dims());
    let loss = (&y * &dy).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    let outcome = run(x.as_tensor(), Some(&dy), op);
    assert_close("y", &y, &outcome.y.reshape(y.shape()).unwrap(), REL);
    let dx = gradients.get(&x).unwrap();
    assert_close("dx", dx, &outcome.dx, REL);
    for (name, var) in parameters.trainable() {
        assert_close(
            &name,
            gradients.get(&var).unwrap(),
            outcome.gradients.get(&var).unwrap(),
            REL,
        );
    }
    assert_eq!(bits(loss.backward().unwrap().get(&x).unwrap()), bits(dx));
}

#[test]
fn batch_norm_as_a_module_has_the_tapes_gradients_in_every_mode() {
    for shape in [vec![6, 5, 3, 2], vec![6, 5]] {
        let split = NormMode::Split {
            groups: 3,
            update: false,
        };
        for mode in [NormMode::Train, NormMode::NoUpdate, split, NormMode::Eval] {
            let parameters = Parameters::new(1);
            let norm = BatchNorm::new(5, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
            let x = normal(2, shape.as_slice());
            // Train last leaves its mark on the running statistics, so that Eval has some.
            norm.forward(&normal(3, shape.as_slice()), NormMode::Train)
                .unwrap();
            compare(
                &x,
                &parameters,
                |x| norm.forward(x, mode),
                |t, x| norm.apply(t, x, mode, After::NOTHING),
            );
        }
    }
}

#[test]
fn batch_norm_as_a_module_updates_running_statistics_in_training_alone() {
    let parameters = Parameters::new(1);
    let norm = BatchNorm::new(2, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    let x = normal(2, (4, 2));
    let before = bits(norm.running_mean());
    norm.forward_t(&x, false).unwrap();
    assert_eq!(bits(norm.running_mean()), before);
    norm.forward_t(&x, true).unwrap();
    let expected = (x.mean(0).unwrap() * 0.1).unwrap();
    assert_close("running mean", norm.running_mean(), &expected, 1e-6);
    let error = norm
        .forward_t(&normal(2, (1, 2)), true)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("need 2 or more values per channel"),
        "{error}"
    );
}

#[test]
fn linear_as_a_module_has_the_tapes_gradients() {
    let parameters = Parameters::new(1);
    let linear = Linear::new(6, 4, true, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    // Few rows and many go through different kernels.
    for rows in [3, 300] {
        compare(
            &normal(2, (rows, 6)),
            &parameters,
            |x| linear.forward_t(x, true),
            |t, x| linear.apply(t, x),
        );
    }
}
