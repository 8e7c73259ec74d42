//! One line of the log for each epoch.

use crate::StepRow;

/// Means over the steps of an epoch that this process has seen.
#[derive(Debug, Default)]
pub(crate) struct EpochMeans {
    epoch: u64,
    loss: Mean,
    /// By name, in the order of their first step.
    terms: Vec<(&'static str, Mean)>,
    speed: Mean,
    wait: f64,
    lr: f64,
    knn: Option<f64>,
}

#[derive(Debug, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn push(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(&self) -> f64 {
        self.sum / self.count as f64
    }
}

impl EpochMeans {
    pub(crate) fn push(&mut self, row: &StepRow) {
        self.epoch = row.epoch;
        self.loss.push(row.loss);
        for (name, loss) in row.losses() {
            let known = self.terms.iter().position(|(known, _)| *known == name);
            let at = known.unwrap_or_else(|| {
                self.terms.push((name, Mean::default()));
                self.terms.len() - 1
            });
            self.terms[at].1.push(loss);
        }
        self.speed.push(row.images_per_second);
        self.wait += row.data_wait;
        self.lr = row.lr;
        self.knn = row.val_knn.or(self.knn);
    }

    /// The epoch, its losses, and what else a person looks at first.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("epoch {}: loss {:.4}", self.epoch, self.loss.value());
        for (name, mean) in &self.terms {
            line += &format!(", {name} {:.4}", mean.value());
        }
        line += &format!(
            ", lr {:.2e}, {:.0} images/s, {:.1} s waited for data",
            self.lr,
            self.speed.value(),
            self.wait
        );
        if let Some(knn) = self.knn {
            line += &format!(", kNN on the validation split {knn:.3}");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_term_is_averaged_over_the_steps_that_have_it() {
        let mut means = EpochMeans::default();
        for (loss, pair) in [(1., None), (3., Some(0.5))] {
            means.push(&StepRow {
                epoch: 4,
                loss,
                named: BTreeMap::from([("loss_base", Some(loss)), ("loss_pair", pair)]),
                ..StepRow::default()
            });
        }
        let line = means.line();
        let start = "epoch 4: loss 2.0000, base 2.0000, pair 0.5000, lr";
        assert!(line.starts_with(start), "{line}");
        assert!(!line.contains("kNN"), "{line}");
    }
}
