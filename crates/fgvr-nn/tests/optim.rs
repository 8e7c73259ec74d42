//! The optimisers against five steps of PyTorch's, and their state.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var};
use fgvr_nn::ParameterGradients;
use fgvr_nn::optim::{
    Adam, AdamConfig, Lars, LarsConfig, MissingGradient, Sgd, SgdConfig, clip_gradient_norm,
};
use fgvr_testkit::{Golden, assert_close, golden, normal};

const NAMES: [&str; 3] = ["conv.weight", "norm.weight", "norm.bias"];
const STEPS: usize = 5;

fn start(golden: &Golden) -> BTreeMap<String, Var> {
    let var = |name: &str| Var::from_tensor(&golden.get(&format!("start.{name}"))).unwrap();
    NAMES.map(|name| (name.to_owned(), var(name))).into()
}

fn gradients(golden: &Golden, step: usize, vars: &BTreeMap<String, Var>) -> ParameterGradients {
    let mut gradients = ParameterGradients::default();
    for (name, var) in vars {
        gradients.insert(var, golden.get(&format!("gradient.{step}.{name}")));
    }
    gradients
}

fn lr(step: usize) -> f64 {
    0.1 / (step + 1) as f64
}

/// Every variable after every step.
fn check_steps(
    case: &str,
    vars: &BTreeMap<String, Var>,
    mut step: impl FnMut(&ParameterGradients, f64) -> Result<()>,
) {
    let golden = golden("nn_optim.safetensors");
    for i in 0..STEPS {
        step(&gradients(&golden, i, vars), lr(i)).unwrap();
        for (name, var) in vars {
            let name = format!("{case}.{i}.{name}");
            assert_close(&name, var, &golden.get(&name), 2e-6);
        }
    }
}

#[test]
fn sgd_steps_as_pytorch() {
    let golden = golden("nn_optim.safetensors");
    for (case, momentum, exclude_norm_and_bias) in [
        ("sgd", 0.9, true),
        ("sgd_all", 0.9, false),
        ("sgd_plain", 0., false),
    ] {
        let vars = start(&golden);
        let cfg = SgdConfig {
            momentum,
            weight_decay: 1e-2,
            exclude_norm_and_bias,
            ..SgdConfig::default()
        };
        let mut sgd = Sgd::new(vars.clone(), &cfg).unwrap();
        check_steps(case, &vars, |gradients, lr| sgd.step(gradients, lr));
        assert_eq!(sgd.steps(), STEPS as u64);
        if momentum > 0. {
            let state = sgd.state().unwrap();
            for name in NAMES {
                let golden = golden.get(&format!("{case}.momentum_buffer.{name}"));
                assert_close(name, &state[&format!("{name}.momentum")], &golden, 2e-6);
            }
        }
    }
}

#[test]
fn adam_steps_as_pytorchs_adamw() {
    let golden = golden("nn_optim.safetensors");
    for (case, beta2, eps, exclude_norm_and_bias) in [
        ("adamw", 0.99, 1e-8, true),
        ("adamw_all", 0.999, 1e-6, false),
    ] {
        let vars = start(&golden);
        let cfg = AdamConfig {
            beta2,
            eps,
            weight_decay: 5e-2,
            exclude_norm_and_bias,
            ..AdamConfig::default()
        };
        let mut adam = Adam::new(vars.clone(), &cfg).unwrap();
        check_steps(case, &vars, |gradients, lr| adam.step(gradients, lr));
        let state = adam.state().unwrap();
        for (name, moment) in NAMES
            .iter()
            .flat_map(|n| ["exp_avg", "exp_avg_sq"].map(|m| (n, m)))
        {
            let golden = golden.get(&format!("{case}.{moment}.{name}"));
            assert_close(moment, &state[&format!("{name}.{moment}")], &golden, 2e-6);
        }
        assert_eq!(state["norm.bias.step"].to_scalar::<i64>().unwrap(), 5);
    }
}

#[test]
fn a_weight_decay_set_anew_counts_from_the_next_step_on() {
    let run = |first: f64, second: f64, set: Option<f64>| {
        let golden = golden("nn_optim.safetensors");
        let vars = start(&golden);
        let cfg = |weight_decay| AdamConfig {
            weight_decay,
            ..AdamConfig::default()
        };
        let mut adam = Adam::new(vars.clone(), &cfg(first)).unwrap();
        adam.step(&gradients(&golden, 0, &vars), 0.1).unwrap();
        if let Some(decay) = set {
            adam.set_weight_decay(decay).unwrap();
        } else {
            let state = adam.state().unwrap().into_iter().collect();
            adam = Adam::new(vars.clone(), &cfg(second)).unwrap();
            adam.load_state(&state).unwrap();
        }
        adam.step(&gradients(&golden, 1, &vars), 0.1).unwrap();
        bits(&vars)
    };
    assert_eq!(run(0.04, 0.4, Some(0.4)), run(0.04, 0.4, None));
    assert_ne!(run(0.04, 0.4, Some(0.4)), run(0.04, 0.4, Some(0.04)));
    let mut adam = Adam::new(BTreeMap::new(), &AdamConfig::default()).unwrap();
    assert!(adam.set_weight_decay(-1.).is_err());
}

#[test]
fn lars_steps_as_its_formula_in_pytorch() {
    let golden = golden("nn_optim.safetensors");
    for (case, momentum, weight_decay, exclude_norm_and_bias) in
        [("lars", 0.9, 1e-2, true), ("lars_all", 0.5, 0.5, false)]
    {
        let vars = start(&golden);
        let cfg = LarsConfig {
            trust: 0.1,
            momentum,
            weight_decay,
            exclude_norm_and_bias,
            ..LarsConfig::default()
        };
        let mut lars = Lars::new(vars.clone(), &cfg).unwrap();
        check_steps(case, &vars, |gradients, lr| lars.step(gradients, lr));
        assert_eq!(lars.steps(), STEPS as u64);
        let state = lars.state().unwrap();
        for name in NAMES {
            let golden = golden.get(&format!("{case}.momentum_buffer.{name}"));
            assert_close(name, &state[&format!("{name}.momentum")], &golden, 2e-6);
        }
    }
}

/// One step of LARS from `value` with `gradient`, without momentum, at lr 0.5.
fn lars_step(value: &Tensor, gradient: &Tensor, weight_decay: f64) -> Tensor {
    let cfg = LarsConfig {
        momentum: 0.,
        weight_decay,
        ..LarsConfig::default()
    };
    let var = Var::from_tensor(&value.copy().unwrap()).unwrap();
    let mut lars = Lars::new([("a".to_owned(), var.clone())].into(), &cfg).unwrap();
    let mut gradients = ParameterGradients::default();
    gradients.insert(&var, gradient.clone());
    lars.step(&gradients, 0.5).unwrap();
    var.as_detached_tensor()
}

#[test]
fn lars_steps_a_share_of_the_variables_length_whatever_that_of_the_gradient() {
    let value = normal(1, (30, 700)); // more than one piece
    let gradient = normal(2, (30, 700));
    let length = |t: &Tensor| -> f64 {
        let squares = t.sqr().unwrap().to_dtype(DType::F64).unwrap();
        squares
            .sum_all()
            .unwrap()
            .to_scalar::<f64>()
            .unwrap()
            .sqrt()
    };
    let share = 1e-3 * length(&value) / length(&gradient);
    let expected = (&value - (&gradient * (0.5 * share)).unwrap()).unwrap();
    // The squares of the smallest gradients are no floats.
    for scale in [1., 1e-25, 1e20] {
        let after = lars_step(&value, &(&gradient * scale).unwrap(), 0.);
        assert_close("a", &after, &expected, 1e-6);
    }
}

#[test]
fn lars_takes_a_plain_step_where_a_length_is_zero() {
    let (some, zeros) = (normal(1, (2, 3)), normal(1, (2, 3)).zeros_like().unwrap());
    assert_close(
        "from zero",
        &lars_step(&zeros, &some, 1e-3),
        &(&some * -0.5).unwrap(),
        0.,
    );
    assert_close("by zero", &lars_step(&some, &zeros, 0.), &some, 0.);
    assert_close("zeros", &lars_step(&zeros, &zeros, 1e-3), &zeros, 0.);
}

#[test]
fn a_nan_in_the_gradient_is_not_hidden_by_the_adapted_rate() {
    let mut gradient = normal(2, 6).to_vec1::<f32>().unwrap();
    gradient[4] = f32::NAN;
    let gradient = Tensor::from_vec(gradient, (2, 3), &Device::Cpu).unwrap();
    let after = lars_step(&normal(1, (2, 3)), &gradient, 0.);
    let after: Vec<f32> = after.flatten_all().unwrap().to_vec1().unwrap();
    assert!(after.iter().all(|v| v.is_nan()), "{after:?}");
}

#[test]
fn every_optimiser_steps_with_the_same_bits_for_any_number_of_threads_and_in_place() {
    let steps = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            let mut all = Vec::new();
            for which in 0..3 {
                let vars: BTreeMap<_, _> = [("a", 50_021), ("b", 7), ("c", 33_000)]
                    .map(|(name, len)| {
                        let var = Var::from_tensor(&normal(len as u64, (1, len))).unwrap();
                        (name.to_owned(), var)
                    })
                    .into();
                let mut gradients = ParameterGradients::default();
                for (i, var) in vars.values().enumerate() {
                    gradients.insert(var, normal(i as u64, var.dims()));
                }
                // A view taken before the steps sees them: the memory stays.
                let views: Vec<Tensor> = vars.values().map(|v| v.as_tensor().clone()).collect();
                let clone = || vars.clone();
                for _ in 0..2 {
                    match which {
                        0 => Sgd::new(clone(), &SgdConfig::default())
                            .unwrap()
                            .step(&gradients, 0.1),
                        1 => Adam::new(clone(), &AdamConfig::default())
                            .unwrap()
                            .step(&gradients, 0.1),
                        _ => Lars::new(clone(), &LarsConfig::default())
                            .unwrap()
                            .step(&gradients, 0.1),
                    }
                    .unwrap();
                }
                for (view, var) in views.iter().zip(vars.values()) {
                    assert_close("view", view, var, 0.);
                }
                all.push(bits(&vars));
            }
            all
        })
    };
    let one = steps(1);
    assert_eq!(one, steps(2));
    assert_eq!(one, steps(5));
}

#[test]
fn one_variable_under_two_names_is_an_error() {
    let var = Var::from_tensor(&normal(0, 2)).unwrap();
    let twice = [("a".to_owned(), var.clone()), ("b".to_owned(), var)].into();
    let complaint = Sgd::new(twice, &SgdConfig::default())
        .err()
        .unwrap()
        .to_string();
    assert!(
        complaint.contains("sgd: a and b are one variable"),
        "{complaint}"
    );
}

#[test]
fn a_variable_larger_than_a_piece_steps_whole() {
    let var = Var::from_tensor(&normal(1, (3, 20_000))).unwrap();
    let gradient = normal(2, (3, 20_000));
    let expected = (var.as_tensor() - (&gradient * 0.5).unwrap()).unwrap();
    let cfg = SgdConfig {
        momentum: 0.,
        weight_decay: 0.,
        ..SgdConfig::default()
    };
    let mut sgd = Sgd::new([("a".to_owned(), var.clone())].into(), &cfg).unwrap();
    let mut gradients = ParameterGradients::default();
    gradients.insert(&var, gradient);
    sgd.step(&gradients, 0.5).unwrap();
    assert_close("a", &var, &expected, 0.);
}

fn bits(vars: &BTreeMap<String, Var>) -> Vec<Vec<u32>> {
    let bits = |v: &Var| -> Vec<u32> {
        let values: Vec<f32> = v.flatten_all().unwrap().to_vec1().unwrap();
        values.iter().map(|v| v.to_bits()).collect()
    };
    vars.values().map(bits).collect()
}

/// Two more steps from a state that went through a file equal two more steps without a stop.
fn check_resume<O>(
    new: impl Fn(BTreeMap<String, Var>) -> O,
    step: impl Fn(&mut O, &ParameterGradients, f64) -> Result<()>,
    state: impl Fn(&O) -> BTreeMap<String, Tensor>,
    load: impl Fn(&mut O, &HashMap<String, Tensor>) -> Result<()>,
) {
    let golden = golden("nn_optim.safetensors");
    let vars = start(&golden);
    let mut optimiser = new(vars.clone());
    for i in 0..3 {
        step(&mut optimiser, &gradients(&golden, i, &vars), lr(i)).unwrap();
    }
    let copy = |v: &Var| Var::from_tensor(&v.as_tensor().copy().unwrap().detach()).unwrap();
    let resumed_vars: BTreeMap<_, _> = vars.iter().map(|(n, v)| (n.clone(), copy(v))).collect();
    let mut resumed = new(resumed_vars.clone());
    let saved: HashMap<_, _> = state(&optimiser).into_iter().collect();
    load(&mut resumed, &saved).unwrap();
    for i in 3..STEPS {
        step(&mut optimiser, &gradients(&golden, i, &vars), lr(i)).unwrap();
        step(&mut resumed, &gradients(&golden, i, &resumed_vars), lr(i)).unwrap();
    }
    assert_eq!(bits(&vars), bits(&resumed_vars));

    let before: Vec<_> = state(&resumed)
        .into_iter()
        .map(|(n, t)| (n, t.to_string()))
        .collect();
    let fails = |state: &HashMap<String, Tensor>, resumed: &mut O| {
        load(resumed, state).unwrap_err().to_string()
    };
    let mut lacking = saved.clone();
    lacking.remove("norm.bias.step");
    assert!(fails(&lacking, &mut resumed).contains("state lacks norm.bias.step"));
    let mut more = saved.clone();
    more.insert("other.step".to_owned(), saved["step"].clone());
    assert!(fails(&more, &mut resumed).contains("other.step, which belongs to no variable"));
    let mut shaped = saved.clone();
    shaped.insert("step".to_owned(), normal(0, 3));
    assert!(fails(&shaped, &mut resumed).contains("state's step is [3] F32, expected [] I64"));
    let after: Vec<_> = state(&resumed)
        .into_iter()
        .map(|(n, t)| (n, t.to_string()))
        .collect();
    assert_eq!(before, after);
}

#[test]
fn a_restored_state_continues_bit_for_bit_and_a_wrong_one_changes_nothing() {
    check_resume(
        |vars| Sgd::new(vars, &SgdConfig::default()).unwrap(),
        Sgd::step,
        |sgd| sgd.state().unwrap(),
        Sgd::load_state,
    );
    check_resume(
        |vars| Adam::new(vars, &AdamConfig::default()).unwrap(),
        Adam::step,
        |adam| adam.state().unwrap(),
        Adam::load_state,
    );
    check_resume(
        |vars| Lars::new(vars, &LarsConfig::default()).unwrap(),
        Lars::step,
        |lars| lars.state().unwrap(),
        Lars::load_state,
    );
}

#[test]
fn a_missing_gradient_is_an_error_that_names_the_variable_and_changes_nothing() {
    let golden = golden("nn_optim.safetensors");
    let vars = start(&golden);
    let mut given = gradients(&golden, 0, &vars);
    given.remove(&vars["norm.weight"]);
    let before = bits(&vars);
    let mut sgd = Sgd::new(vars.clone(), &SgdConfig::default()).unwrap();
    let error = sgd.step(&given, 0.1).unwrap_err().to_string();
    assert!(
        error.contains("sgd: norm.weight has no gradient"),
        "{error}"
    );
    given.insert(&vars["norm.weight"], normal(0, 3));
    let error = sgd.step(&given, 0.1).unwrap_err().to_string();
    assert!(
        error.contains("gradient of norm.weight is [3] F32, expected [4] F32"),
        "{error}"
    );
    assert_eq!(bits(&vars), before);
    assert_eq!(sgd.steps(), 0);
}

#[test]
fn a_skipped_variable_stays_and_keeps_its_own_step_count() {
    let golden = golden("nn_optim.safetensors");
    let vars = start(&golden);
    let cfg = AdamConfig {
        missing: MissingGradient::Skip,
        ..AdamConfig::default()
    };
    let mut adam = Adam::new(vars.clone(), &cfg).unwrap();
    let mut given = gradients(&golden, 0, &vars);
    given.remove(&vars["norm.weight"]);
    let before = bits(&vars);
    adam.step(&given, 0.1).unwrap();
    let after = bits(&vars);
    let changed: Vec<_> = before.iter().zip(&after).map(|(b, a)| b != a).collect();
    assert_eq!(changed, [true, true, false]); // conv.weight, norm.bias, norm.weight
    let state = adam.state().unwrap();
    assert_eq!(state["norm.weight.step"].to_scalar::<i64>().unwrap(), 0);
    assert_eq!(state["norm.bias.step"].to_scalar::<i64>().unwrap(), 1);
}

#[test]
fn constants_that_make_no_sense_are_errors() {
    let vars = || -> BTreeMap<String, Var> {
        [("a".to_owned(), Var::from_tensor(&normal(0, 2)).unwrap())].into()
    };
    let sgd = SgdConfig {
        momentum: 1.,
        ..SgdConfig::default()
    };
    assert!(Sgd::new(vars(), &sgd).is_err_and(|e| e.to_string().contains("momentum 1 (0 to 1)")));
    let adam = AdamConfig {
        eps: f64::NAN,
        ..AdamConfig::default()
    };
    assert!(Adam::new(vars(), &adam).is_err_and(|e| e.to_string().contains("eps NaN")));
    for (trust, momentum, weight_decay) in [
        (0., 0.9, 0.),
        (f64::INFINITY, 0.9, 0.),
        (1e-3, -0.1, 0.),
        (1e-3, 0.9, f64::NAN),
    ] {
        let cfg = LarsConfig {
            trust,
            momentum,
            weight_decay,
            ..LarsConfig::default()
        };
        assert!(Lars::new(vars(), &cfg).is_err_and(|e| e.to_string().contains("lars: trust")));
    }
    let mut sgd = Sgd::new(vars(), &SgdConfig::default()).unwrap();
    let error = sgd
        .step(&ParameterGradients::default(), f64::NAN)
        .unwrap_err()
        .to_string();
    assert!(error.contains("found NaN"), "{error}");
    let double = Var::zeros(2, DType::F64, &Device::Cpu).unwrap();
    let double = Sgd::new([("b".to_owned(), double)].into(), &SgdConfig::default());
    assert!(double.is_err_and(|e| e.to_string().contains("sgd: b is F64")));
}

#[test]
fn clipping_is_pytorchs() {
    let golden = golden("nn_optim.safetensors");
    let vars = start(&golden);
    let mut given = gradients(&golden, 0, &vars);
    let norm = clip_gradient_norm(&vars, &mut given, None).unwrap();
    let expected = f64::from(golden.get("clip.norm").to_vec1::<f32>().unwrap()[0]);
    assert!(
        (norm / expected - 1.).abs() < 1e-6,
        "{norm} instead of {expected}"
    );
    assert_eq!(
        clip_gradient_norm(&vars, &mut given, Some(1.5)).unwrap(),
        norm
    );
    for (name, var) in &vars {
        assert_close(
            name,
            given.get(var).unwrap(),
            &golden.get(&format!("clip.{name}")),
            1e-6,
        );
    }
    // What is short enough stays, bit for bit.
    let before = given.get(&vars["conv.weight"]).unwrap().clone();
    clip_gradient_norm(&vars, &mut given, Some(2.)).unwrap();
    assert_close(
        "short",
        given.get(&vars["conv.weight"]).unwrap(),
        &before,
        0.,
    );
}

#[test]
fn clipping_leaves_gradients_that_are_not_finite_to_the_caller() {
    let var = Var::from_tensor(&normal(0, 2)).unwrap();
    let vars: BTreeMap<_, _> = [("a".to_owned(), var.clone())].into();
    let mut given = ParameterGradients::default();
    given.insert(
        &var,
        Tensor::new(&[f32::INFINITY, 1.], &Device::Cpu).unwrap(),
    );
    assert!(
        clip_gradient_norm(&vars, &mut given, Some(1.))
            .unwrap()
            .is_infinite()
    );
    assert_eq!(
        given.get(&var).unwrap().to_vec1::<f32>().unwrap(),
        [f32::INFINITY, 1.]
    );
    let error = clip_gradient_norm(&vars, &mut given, Some(0.))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("expected a positive maximum, found 0"),
        "{error}"
    );
}
