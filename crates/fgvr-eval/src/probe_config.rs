//! How a linear probe is made: the default, and protocols of papers.

use crate::{Error, LbfgsConfig, Scaling, Schedule, SgdConfig, Solver};

/// How the classifier is trained.
///
/// The default is logistic regression on standardised features, whose weight decay is chosen on rows
/// held out of `train`. [`ProbeConfig::moco`] and [`ProbeConfig::lodisc`] are protocols of papers.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct ProbeConfig {
    /// What is done to the features first. By default [`Scaling::Standardise`].
    pub scaling: Scaling,
    /// The method. By default L-BFGS.
    pub solver: Solver,
    /// Weight decays to choose from; with one, nothing is held out. Not applied to the bias by L-BFGS. By default the
    /// powers of ten from 1e-4 to 10.
    pub weight_decays: Vec<f64>,
    /// Share of each class's training rows held out for that choice, in (0, 1). By default 0.1.
    pub val_fraction: f64,
    /// Decides which rows are held out, and the start and the order of SGD. By default 0.
    pub seed: u64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            scaling: Scaling::Standardise,
            solver: Solver::Lbfgs(LbfgsConfig::default()),
            weight_decays: vec![1e-4, 1e-3, 1e-2, 1e-1, 1., 10.],
            val_fraction: 0.1,
            seed: 0,
        }
    }
}

impl ProbeConfig {
    /// The protocol of MoCo's linear evaluation as LCR (arXiv:2303.01669) runs it: L2-normalised
    /// features, SGD with learning rate 30, momentum 0.9, no weight decay, batches of 256, 100 epochs,
    /// the rate times 0.1 at epochs 60 and 80.
    ///
    /// # Differs
    /// The features are given, so training images are not augmented; and the result is that of the last
    /// epoch, where the released code reports the best test accuracy over epochs
    /// ([`crate::ProbeReport::best_on_test`]).
    #[must_use]
    pub fn moco() -> Self {
        let schedule = Schedule::Steps {
            epochs: vec![60, 80],
            factor: 0.1,
        };
        Self {
            scaling: Scaling::L2Normalise,
            solver: Solver::Sgd(SgdConfig {
                lr: 30.,
                momentum: 0.9,
                batch: 256,
                epochs: 100,
                schedule,
            }),
            weight_decays: vec![0.],
            ..Self::default()
        }
    }

    /// The protocol of LoDisc (arXiv:2403.04066): features as they are, SGD with learning rate
    /// 0.5 * batch/256 on a cosine, momentum 0.9, no weight decay, 100 epochs.
    ///
    /// # Differs
    /// As [`ProbeConfig::moco`].
    #[must_use]
    pub fn lodisc(batch: usize) -> Self {
        let lr = 0.5 * batch as f64 / 256.;
        Self {
            scaling: Scaling::None,
            solver: Solver::Sgd(SgdConfig {
                lr,
                batch,
                ..SgdConfig::default()
            }),
            weight_decays: vec![0.],
            ..Self::default()
        }
    }

    /// An error that names the first field out of range.
    pub(crate) fn check(&self, op: &'static str) -> Result<(), Error> {
        let config = |field, value: String, expected| {
            Err(Error::Config {
                op,
                field,
                value,
                expected,
            })
        };
        self.solver.check(op)?;
        if self.weight_decays.is_empty() {
            return config("weight_decays", "empty".into(), "at least one");
        }
        if let Some(decay) = self
            .weight_decays
            .iter()
            .find(|w| !(w.is_finite() && **w >= 0.))
        {
            return config("weight_decays", decay.to_string(), "finite values >= 0");
        }
        if !(self.val_fraction > 0. && self.val_fraction < 1.) {
            return config(
                "val_fraction",
                self.val_fraction.to_string(),
                "a value in (0, 1)",
            );
        }
        Ok(())
    }
}
