//! Logistic regression by SGD with momentum.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::hash::rng;
use crate::logistic::Classifier;
use crate::solver::{Fitted, Problem};
use crate::{Error, SgdConfig};

/// Weights from N(0, 0.01^2), biases 0.
pub(crate) fn normal_start(classes: usize, width: usize, seed: u64) -> Classifier {
    let mut start = Classifier::zeros(classes, width);
    let mut draw = rng([seed, u64::MAX, 0, 0]);
    for weight in &mut start.weight {
        let normal: f64 = StandardNormal.sample(&mut draw);
        *weight = (0.01 * normal) as f32;
    }
    start
}

/// SGD from `start`, batches by `seed`; `after_epoch` sees the classifier after each epoch.
pub(crate) fn sgd(
    problem: &Problem,
    decay: f64,
    start: Classifier,
    cfg: &SgdConfig,
    seed: u64,
    mut after_epoch: impl FnMut(&Classifier) -> Result<(), Error>,
) -> Result<Fitted, Error> {
    let n = problem.rows.n;
    let mut found = start;
    let mut velocity = Classifier::zeros(problem.classes, problem.rows.d);
    let (momentum, decay) = (cfg.momentum as f32, decay as f32);
    for epoch in 0..cfg.epochs {
        let lr = (cfg.lr * cfg.schedule.factor(epoch, cfg.epochs)) as f32;
        let mut loss = 0.;
        for batch in shuffled(n, seed, epoch).chunks(cfg.batch) {
            let features = problem.rows.select(batch).tensor()?;
            let targets: Vec<usize> = batch.iter().map(|row| problem.targets[*row]).collect();
            let gradient = found.gradient(&features, &targets)?;
            loss += gradient.loss * batch.len() as f64 / n as f64;
            let step = |value: &mut [f32], velocity: &mut [f32], gradient: &[f32]| {
                for ((value, v), g) in value.iter_mut().zip(velocity).zip(gradient) {
                    *v = momentum * *v + g + decay * *value;
                    *value -= lr * *v;
                }
            };
            step(&mut found.weight, &mut velocity.weight, &gradient.weight);
            step(&mut found.bias, &mut velocity.bias, &gradient.bias);
        }
        if !loss.is_finite() || found.weight.iter().any(|w| !w.is_finite()) {
            return Err(Error::Diverged {
                op: "linear_probe",
                loss,
                epoch,
            });
        }
        after_epoch(&found)?;
    }
    Ok(Fitted {
        classifier: found,
        iterations: cfg.epochs,
        converged: None,
    })
}

/// 0..n in an order of (seed, epoch), by Fisher and Yates.
fn shuffled(n: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut draw = rng([seed, epoch as u64, 0, 0]);
    let mut order: Vec<usize> = (0..n).collect();
    for at in (1..n).rev() {
        order.swap(at, draw.random_range(0..=at as u64) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Schedule;
    use crate::solver::tests::{assert_close, golden, problem};

    #[test]
    fn sgd_in_one_batch_takes_pytorchs_steps() {
        let golden = golden();
        let cfg = SgdConfig {
            lr: 0.5,
            momentum: 0.9,
            batch: 1000,
            epochs: 30,
            schedule: Schedule::Cosine,
        };
        let start = Classifier::zeros(7, 16);
        let mut epochs = 0;
        let count = |_: &Classifier| {
            epochs += 1;
            Ok(())
        };
        let fitted = sgd(&problem(&golden), 1e-3, start, &cfg, 0, count).unwrap();
        assert_eq!(epochs, 30);
        assert_close(&fitted.classifier.weight, &golden["sgd_weight"], 1e-4);
        assert_close(&fitted.classifier.bias, &golden["sgd_bias"], 1e-4);
    }

    #[test]
    fn an_sgd_that_diverges_is_an_error() {
        let golden = golden();
        let cfg = SgdConfig {
            lr: 1e38,
            ..SgdConfig::default()
        };
        let fitted = sgd(
            &problem(&golden),
            0.,
            Classifier::zeros(7, 16),
            &cfg,
            0,
            |_| Ok(()),
        );
        assert!(matches!(fitted, Err(Error::Diverged { .. })));
    }

    #[test]
    fn an_epoch_is_a_permutation_of_its_own() {
        let (first, second) = (shuffled(50, 1, 0), shuffled(50, 1, 1));
        assert_ne!(first, second);
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }
}
