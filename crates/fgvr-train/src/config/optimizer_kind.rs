//! Which optimiser.

use serde::{Deserialize, Serialize};

/// An optimiser of encoder and heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Gradient descent with momentum: MoCo v2, SimSiam.
    #[default]
    Sgd,
    /// Layer-wise adaptive rates, for large batches: BYOL, MoCo v3 on residual networks.
    Lars,
    /// Adam with decoupled weight decay: transformers.
    Adamw,
}

fgvr_nn::named!(OptimizerKind, "Its name in settings, and of its file in a checkpoint." {
    Sgd = "sgd",
    Lars = "lars",
    Adamw = "adamw",
});
