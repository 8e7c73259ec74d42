//! Logistic regression by L-BFGS.

use std::collections::VecDeque;

use crate::logistic::Classifier;
use crate::solver::{Fitted, Problem};
use crate::{Error, LbfgsConfig};

/// Steps that L-BFGS remembers.
const MEMORY: usize = 10;
/// Share of the decrease promised by the slope that a step must keep.
const ARMIJO: f64 = 1e-4;
/// Relative error of a loss computed in f32.
const NOISE: f64 = 1e-6;
/// Halvings of a step before the line search gives up.
const HALVINGS: usize = 30;

/// Minimises mean cross-entropy + `decay`/2 |W|^2 (the bias is free), starting from `start`.
///
/// Nocedal and Wright, Algorithm 7.5. Products of matrices are in f32, sums and vectors in f64.
pub(crate) fn lbfgs(
    problem: &Problem,
    decay: f64,
    start: Classifier,
    cfg: &LbfgsConfig,
) -> Result<Fitted, Error> {
    let features = problem.rows.tensor()?;
    let weights = start.weight.len();
    let evaluate = |point: &[f64]| -> Result<(f64, Vec<f64>), Error> {
        let gradient = classifier(point, weights).gradient(&features, &problem.targets)?;
        let mut slope: Vec<f64> = gradient
            .weight
            .into_iter()
            .chain(gradient.bias)
            .map(f64::from)
            .collect();
        let (point, slope_of_weights) = (&point[..weights], &mut slope[..weights]);
        slope_of_weights
            .iter_mut()
            .zip(point)
            .for_each(|(s, w)| *s += decay * w);
        Ok((gradient.loss + decay / 2. * dot(point, point), slope))
    };

    let mut point: Vec<f64> = start
        .weight
        .iter()
        .chain(&start.bias)
        .map(|v| f64::from(*v))
        .collect();
    let (mut loss, mut slope) = evaluate(&point)?;
    let mut memory: VecDeque<Step> = VecDeque::with_capacity(MEMORY);
    let mut iterations = 0;
    let flat = |slope: &[f64]| slope.iter().all(|g| g.abs() <= cfg.tolerance);
    while iterations < cfg.iterations && !flat(&slope) {
        iterations += 1;
        let mut direction = two_loops(&slope, &memory);
        if dot(&direction, &slope) >= 0. {
            // Rounding has spoilt the memory: start again along the gradient.
            memory.clear();
            direction = slope.iter().map(|g| -g).collect();
        }
        let descent = dot(&direction, &slope);
        // Without memory the direction has the gradient's length, which says nothing of the scale.
        let mut length = if memory.is_empty() {
            descent.abs().sqrt().recip().min(1.)
        } else {
            1.
        };
        let mut accepted = None;
        for _ in 0..HALVINGS {
            let next: Vec<f64> = point
                .iter()
                .zip(&direction)
                .map(|(p, d)| p + length * d)
                .collect();
            let (next_loss, next_slope) = evaluate(&next)?;
            let lower = next_loss <= loss + ARMIJO * length * descent;
            // Close to the optimum the losses differ by less than f32 tells; the slopes still do
            // (Hager and Zhang's approximate Wolfe condition).
            let as_low = next_loss <= loss + NOISE * loss.abs()
                && dot(&direction, &next_slope) <= (2. * ARMIJO - 1.) * descent;
            if lower || as_low {
                accepted = Some((next, next_loss, next_slope));
                break;
            }
            length /= 2.;
        }
        // No lower point along a descent direction: f32 tells no more differences here.
        let Some((next, next_loss, next_slope)) = accepted else {
            break;
        };
        if memory.len() == MEMORY {
            memory.pop_front();
        }
        memory.extend(Step::between(&point, &next, &slope, &next_slope));
        (point, loss, slope) = (next, next_loss, next_slope);
    }
    let converged = Some(flat(&slope));
    Ok(Fitted {
        classifier: classifier(&point, weights),
        iterations,
        converged,
    })
}

fn classifier(point: &[f64], weights: usize) -> Classifier {
    let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect();
    Classifier {
        weight: narrow(&point[..weights]),
        bias: narrow(&point[weights..]),
    }
}

/// A remembered step: s, y and s·y.
struct Step {
    moved: Vec<f64>,
    bent: Vec<f64>,
    product: f64,
}

impl Step {
    /// `None` where the curvature along the step is not positive beyond rounding.
    fn between(from: &[f64], to: &[f64], slope: &[f64], next: &[f64]) -> Option<Self> {
        let minus = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>();
        let (moved, bent) = (minus(to, from), minus(next, slope));
        let product = dot(&moved, &bent);
        (product > 1e-10 * dot(&bent, &bent)).then_some(Self {
            moved,
            bent,
            product,
        })
    }
}

/// Minus the inverse Hessian's estimate times the gradient.
fn two_loops(slope: &[f64], memory: &VecDeque<Step>) -> Vec<f64> {
    let mut direction: Vec<f64> = slope.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for step in memory.iter().rev() {
        let share = dot(&step.moved, &direction) / step.product;
        add(&mut direction, -share, &step.bent);
        shares.push(share);
    }
    if let Some(last) = memory.back() {
        let scale = last.product / dot(&last.bent, &last.bent);
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for (step, share) in memory.iter().zip(shares.into_iter().rev()) {
        let back = dot(&step.bent, &direction) / step.product;
        add(&mut direction, share - back, &step.moved);
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], scale: f64, values: &[f64]) {
    to.iter_mut().zip(values).for_each(|(t, v)| *t += scale * v);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solver::tests::{assert_close, golden, problem};

    #[test]
    fn lbfgs_finds_the_optimum_that_pytorch_finds_in_f64() {
        let golden = golden();
        let cfg = LbfgsConfig {
            iterations: 500,
            tolerance: 1e-6,
        };
        let fitted = lbfgs(&problem(&golden), 0.01, Classifier::zeros(7, 16), &cfg).unwrap();
        assert_eq!(fitted.converged, Some(true));
        assert_close(&fitted.classifier.weight, &golden["optimum_weight"], 1e-4);
        // The bias is free up to a common shift; from zeros it keeps the mean 0.
        assert_close(&fitted.classifier.bias, &golden["optimum_bias"], 1e-4);
    }
}
