//! The optimisers' kernels against their equations in f64.

mod support;

use std::sync::Arc;

use fgvr_cuda::ops::optimizer::{Adam, Lars, Parameter, Parameters, Sgd};
use fgvr_cuda::{Array, DType, Machine, Memory, Result};
use support::{Random, close, on_each_machine};

/// A part of a pack, whole packs, whole chunks, chunks and a rest, nothing.
const LENGTHS: &[usize] = &[1, 7, 64, 0, 4096, 4097, 9003];

/// Parameters as the machine and as the equations have them.
struct Case {
    parameters: Vec<Parameter>,
    values: Vec<Vec<f64>>,
    gradients: Vec<Vec<f64>>,
    moments: Vec<Vec<Vec<f64>>>,
}

impl Case {
    fn new(machine: &dyn Machine, random: &mut Random, moments: usize) -> Result<Self> {
        let mut case = Self {
            parameters: Vec::new(),
            values: Vec::new(),
            gradients: Vec::new(),
            moments: Vec::new(),
        };
        for (at, len) in LENGTHS.iter().enumerate() {
            let value = random.normals(*len, 0.2, 1.);
            let gradient = random.normals(*len, 0., 0.3);
            // A mean of squares is not negative.
            let moment = |i| -> Vec<f32> {
                let values = random.normals(*len, 0., 0.1);
                let sign = |v: f32| if i == 1 { v * v } else { v };
                values.into_iter().map(sign).collect()
            };
            let moments: Vec<Vec<f32>> = (0..moments).map(moment).collect();
            case.parameters.push(Parameter {
                // One that does not start at 16 bytes.
                value: match at {
                    2 => shifted(machine, &value)?,
                    _ => Array::from_f32(machine, &value)?,
                },
                gradient: Array::from_f32(machine, &gradient)?,
                moments: moments
                    .iter()
                    .map(|m| Array::from_f32(machine, m))
                    .collect::<Result<_>>()?,
                decays: at % 2 == 0,
                adapts: at % 3 != 0,
            });
            case.values.push(widened(&value));
            case.gradients.push(widened(&gradient));
            case.moments
                .push(moments.iter().map(|m| widened(m)).collect());
        }
        Ok(case)
    }

    /// That the machine has what the equations give.
    fn compare(&self, machine: &dyn Machine, tolerance: f64) -> Result<()> {
        for (at, parameter) in self.parameters.iter().enumerate() {
            let found = parameter.value.to_f32(machine)?;
            close("value", &found, &self.values[at], tolerance);
            for (found, expected) in parameter.moments.iter().zip(&self.moments[at]) {
                close("moment", &found.to_f32(machine)?, expected, tolerance);
            }
        }
        Ok(())
    }

    /// v = momentum v + rate (factor g + decay p), p = p - lr v, with a rate for each tensor.
    fn momentum_step(
        &mut self,
        lr: f64,
        momentum: f64,
        decay: f64,
        factor: f64,
        rate: impl Fn(&Self, usize) -> f64,
    ) {
        for at in 0..self.values.len() {
            let decay = if self.parameters[at].decays {
                decay
            } else {
                0.
            };
            let rate = rate(self, at);
            for i in 0..self.values[at].len() {
                let d = factor * self.gradients[at][i] + decay * self.values[at][i];
                let v = &mut self.moments[at][0][i];
                *v = momentum * *v + rate * d;
                self.values[at][i] -= lr * *v;
            }
        }
    }
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// Values that start 4 bytes into their memory.
fn shifted(machine: &dyn Machine, values: &[f32]) -> Result<Array> {
    let all: Vec<f32> = std::iter::once(0.).chain(values.iter().copied()).collect();
    let array = Array::from_f32(machine, &all)?;
    let memory = array.memory();
    let part = Memory::new(
        memory.address() + 4,
        memory.bytes() - 4,
        Arc::new(array.clone()),
    );
    Array::over(part, DType::F32, values.len())
}

#[test]
fn sgd_steps_as_its_equation() {
    on_each_machine(|machine, random| {
        let mut case = Case::new(machine, random, 1)?;
        let table = Parameters::new(machine, &case.parameters)?;
        let factor = Array::from_f32(machine, &[0.5])?;
        for (step, factor) in [None, Some(&factor)].into_iter().enumerate() {
            let sgd = Sgd {
                lr: 0.3 / (step as f64 + 1.),
                momentum: 0.9,
                weight_decay: 0.05,
            };
            table.sgd(machine, sgd, factor)?;
            let factor = if factor.is_some() { 0.5 } else { 1. };
            case.momentum_step(sgd.lr, 0.9, 0.05, factor, |_, _| 1.);
        }
        case.compare(machine, 1e-6)
    });
}

#[test]
fn adam_steps_as_its_equation() {
    on_each_machine(|machine, random| {
        let mut case = Case::new(machine, random, 2)?;
        let table = Parameters::new(machine, &case.parameters)?;
        let factor = Array::from_f32(machine, &[0.25])?;
        for steps in 7..9 {
            let adam = Adam {
                lr: 0.01,
                betas: [0.9, 0.999],
                eps: 1e-8,
                weight_decay: 0.1,
                steps,
            };
            table.adam(machine, adam, Some(&factor))?;
            let correction = |beta: f64| 1. - beta.powf(steps as f64);
            for at in 0..case.values.len() {
                let decay = if case.parameters[at].decays { 0.1 } else { 0. };
                for i in 0..case.values[at].len() {
                    let g = 0.25 * case.gradients[at][i];
                    let p = &mut case.values[at][i];
                    let [m, v] = &mut case.moments[at][..] else {
                        unreachable!()
                    };
                    *p -= adam.lr * decay * *p;
                    m[i] = 0.9 * m[i] + 0.1 * g;
                    v[i] = 0.999 * v[i] + 0.001 * g * g;
                    let root = (v[i] / correction(0.999)).sqrt();
                    *p -= adam.lr * m[i] / correction(0.9) / (root + adam.eps);
                }
            }
        }
        case.compare(machine, 3e-6)
    });
}

#[test]
fn lars_adapts_the_rate_of_each_tensor() {
    on_each_machine(|machine, random| {
        let mut case = Case::new(machine, random, 1)?;
        let table = Parameters::new(machine, &case.parameters)?;
        let factor = Array::from_f32(machine, &[0.5])?;
        let lars = Lars {
            lr: 0.3,
            trust: 0.02,
            momentum: 0.9,
            weight_decay: 0.05,
        };
        table.lars(machine, lars, Some(&factor))?;
        let rate = |case: &Case, at: usize| {
            let Parameter { decays, adapts, .. } = case.parameters[at];
            let (p, g) = (&case.values[at], &case.gradients[at]);
            let decay = if decays { 0.05 } else { 0. };
            let of_d = |(p, g): (&f64, &f64)| (0.5 * g + decay * p).powi(2);
            let (of_p, of_d): (f64, f64) = (
                p.iter().map(|p| p * p).sum(),
                p.iter().zip(g).map(of_d).sum(),
            );
            match adapts && of_p > 0. && of_d > 0. {
                true => 0.02 * (of_p / of_d).sqrt(),
                false => 1.,
            }
        };
        let rates: Vec<f64> = (0..LENGTHS.len()).map(|at| rate(&case, at)).collect();
        close("rates", &table.lars_rates().to_f32(machine)?, &rates, 1e-6);
        case.momentum_step(0.3, 0.9, 0.05, 0.5, rate);
        case.compare(machine, 1e-6)
    });
}

#[test]
fn lars_leaves_the_rate_where_a_length_is_zero_and_sums_tiny_gradients() {
    on_each_machine(|machine, _| {
        let parameter = |value: f32, gradient: f32| -> Result<Parameter> {
            Ok(Parameter {
                value: Array::from_f32(machine, &[value; 5])?,
                gradient: Array::from_f32(machine, &[gradient; 5])?,
                moments: vec![Array::from_f32(machine, &[0.; 5])?],
                decays: false,
                adapts: true,
            })
        };
        let parameters = [
            parameter(0., 1.)?,
            parameter(1., 0.)?,
            parameter(1., 1e-30)?,
        ];
        let table = Parameters::new(machine, &parameters)?;
        let lars = Lars {
            lr: 0.1,
            trust: 1e-3,
            momentum: 0.9,
            weight_decay: 0.,
        };
        table.lars(machine, lars, None)?;
        let rates = table.lars_rates().to_f32(machine)?;
        assert_eq!(rates[..2], [1.; 2]);
        close("rate", &[rates[2] / 1e27], &[1.], 1e-6);
        let found = parameters[2].value.to_f32(machine)?;
        close("value", &found, &[1. - 1e-4; 5], 1e-7);
        Ok(())
    });
}

#[test]
fn gradients_are_clipped_to_the_norm_of_all_together() {
    on_each_machine(|machine, random| {
        let case = Case::new(machine, random, 1)?;
        let table = Parameters::new(machine, &case.parameters)?;
        let all = case.gradients.iter().flatten();
        let norm = all.map(|g| g * g).sum::<f64>().sqrt();
        let made = table.gradient_norm(machine, None)?;
        let found = made.norm.to_f64(machine)?[0];
        assert!((found / norm - 1.).abs() < 1e-12, "{found} {norm}");
        assert_eq!(made.factor.to_f32(machine)?, [1.]);
        let made = table.gradient_norm(machine, Some(norm * 1.01))?;
        assert_eq!(made.factor.to_f32(machine)?, [1.]);
        table.scale_gradients(machine, &made.factor)?;
        let made = table.gradient_norm(machine, Some(0.5))?;
        let factor = 0.5 / (norm + 1e-6);
        close("factor", &made.factor.to_f32(machine)?, &[factor], 1e-7);
        table.scale_gradients(machine, &made.factor)?;
        for (parameter, gradient) in case.parameters.iter().zip(&case.gradients) {
            let expected: Vec<f64> = gradient.iter().map(|g| g * factor).collect();
            let found = parameter.gradient.to_f32(machine)?;
            close("gradient", &found, &expected, 1e-7);
        }
        Ok(())
    });
}

#[test]
fn gradients_elsewhere_are_those_of_the_next_step() {
    on_each_machine(|machine, random| {
        let mut case = Case::new(machine, random, 1)?;
        let mut table = Parameters::new(machine, &case.parameters)?;
        let gradients: Vec<Vec<f32>> = LENGTHS
            .iter()
            .map(|len| random.normals(*len, 0., 0.3))
            .collect();
        let arrays: Vec<Array> = gradients
            .iter()
            .enumerate()
            .map(|(at, values)| match at {
                5 => shifted(machine, values),
                _ => Array::from_f32(machine, values),
            })
            .collect::<Result<_>>()?;
        let short = table.set_gradients(machine, &arrays[1..]).err();
        let text = short.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(text, "optimiser: tensors: expected 7, found 6");
        let reversed: Vec<Array> = arrays.iter().rev().cloned().collect();
        assert!(table.set_gradients(machine, &reversed).is_err());
        table.set_gradients(machine, &arrays)?;
        let sgd = Sgd {
            lr: 0.3,
            momentum: 0.9,
            weight_decay: 0.05,
        };
        table.sgd(machine, sgd, None)?;
        case.gradients = gradients.iter().map(|values| widened(values)).collect();
        case.momentum_step(0.3, 0.9, 0.05, 1., |_, _| 1.);
        case.compare(machine, 1e-6)
    });
}

#[test]
fn a_norm_that_is_no_number_scales_nothing() {
    on_each_machine(|machine, _| {
        for value in [f32::NAN, f32::INFINITY] {
            let parameter = Parameter {
                value: Array::from_f32(machine, &[1.; 6])?,
                gradient: Array::from_f32(machine, &[1., 2., value, 4., 5., 6.])?,
                moments: vec![Array::from_f32(machine, &[0.; 6])?],
                decays: false,
                adapts: false,
            };
            let table = Parameters::new(machine, std::slice::from_ref(&parameter))?;
            let made = table.gradient_norm(machine, Some(1.))?;
            assert!(!made.norm.to_f64(machine)?[0].is_finite());
            assert_eq!(made.factor.to_f32(machine)?, [1.]);
            let sgd = Sgd {
                lr: 0.5,
                momentum: 0.,
                weight_decay: 0.,
            };
            table.sgd(machine, sgd, Some(&made.factor))?;
            let found = parameter.value.to_f32(machine)?;
            assert_eq!([found[1], found[3]], [0., -1.]);
            assert!(!found[2].is_finite());
        }
        Ok(())
    });
}

#[test]
fn what_cannot_step_is_refused() {
    on_each_machine(|machine, _| {
        let array = |len: usize| Array::from_f32(machine, &vec![0.; len]);
        let one = |value: &Array, gradient: usize, moments: usize| -> Result<Parameter> {
            Ok(Parameter {
                value: value.clone(),
                gradient: array(gradient)?,
                moments: vec![array(3)?; moments],
                decays: true,
                adapts: true,
            })
        };
        let text = |found: Result<()>| found.err().map(|e| e.to_string()).unwrap_or_default();
        let value = array(3)?;
        let made = |parameters: &[Parameter]| Parameters::new(machine, parameters).map(|_| ());
        assert_eq!(
            text(made(&[one(&value, 2, 1)?])),
            "optimiser: array of a tensor: expected 3 of F32, found 2 of F32"
        );
        assert_eq!(
            text(made(&[one(&value, 3, 1)?, one(&value, 3, 1)?])),
            "optimiser: tensors: expected no array twice among those that are written, found one of tensor 1 again"
        );
        assert_eq!(
            text(made(&[one(&value, 3, 1)?, one(&array(3)?, 3, 0)?])),
            "optimiser: moments: expected 1 for each parameter, found 0"
        );
        let table = Parameters::new(machine, &[one(&value, 3, 1)?])?;
        let sgd = Sgd {
            lr: -1.,
            momentum: 0.9,
            weight_decay: 0.,
        };
        assert_eq!(
            text(table.sgd(machine, sgd, None)),
            "sgd: learning rate: expected a finite number, 0 or more, found -1"
        );
        let adam = Adam {
            lr: 0.1,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.,
            steps: 1,
        };
        assert_eq!(
            text(table.adam(machine, adam, None)),
            "adam: moments: expected 2 for each parameter, found 1"
        );
        assert_eq!(
            text(table.gradient_norm(machine, Some(0.)).map(|_| ())),
            "gradient norm: maximum: expected more than 0, found 0"
        );
        // Without parameters there is nothing to do.
        let none = Parameters::new(machine, &[])?;
        none.adam(machine, adam, None)?;
        assert_eq!(
            none.gradient_norm(machine, None)?.norm.to_f64(machine)?,
            [0.]
        );
        Ok(())
    });
}
