//! Which variables are trained, and which of them by a product of low rank.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Var;
use fgvr_nn::optim::LowRank;

use super::TRUNK;
use super::groups::layer;
use crate::config::OptimizerSettings;
use crate::{Error, Result};

/// What is left to train.
pub(super) struct Trained {
    /// Variables for an optimiser: in place of matrices that change by a product of low rank, the two of the product.
    pub(super) vars: BTreeMap<String, Var>,
    pub(super) low_rank: Option<LowRank>,
    /// Names of the others.
    pub(super) frozen: BTreeSet<String>,
}

impl Trained {
    /// What `settings` leave of `vars` to train.
    ///
    /// # Errors
    /// Names that are to be frozen and are none of the trunk's; a low rank without a matrix that has it.
    pub(super) fn new(
        vars: BTreeMap<String, Var>,
        settings: &OptimizerSettings,
        seed: u64,
    ) -> Result<Self> {
        let frozen = frozen(&vars, settings)?;
        let mut vars = vars;
        vars.retain(|name, _| !frozen.contains(name));
        let mut trained = Self {
            vars,
            low_rank: None,
            frozen,
        };
        if settings.low_rank > 0 {
            trained.by_low_rank(settings, seed)?;
        }
        if settings.lr > 0. && !trained.vars.keys().any(|name| name.starts_with(TRUNK)) {
            return Err(Error::config(
                "optimizer.freeze",
                "nothing of the trunk is left to train; optimizer.lr=0 trains the heads alone",
            ));
        }
        Ok(trained)
    }

    fn by_low_rank(&mut self, settings: &OptimizerSettings, seed: u64) -> Result<()> {
        let rank = settings.low_rank;
        let vars = std::mem::take(&mut self.vars).into_iter();
        let (matrices, mut rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            vars.partition(|(name, _)| name.starts_with(TRUNK));
        if matrices.is_empty() {
            return Err(Error::config(
                "optimizer.low_rank",
                format!(
                    "the trunk has no trained matrix of rank {rank} in attention, MLP or a 1x1 convolution"
                ),
            ));
        }
        let low_rank = LowRank::new(matrices, rank, settings.low_rank_alpha, seed)?;
        rest.extend(low_rank.trainable());
        (self.vars, self.low_rank) = (rest, Some(low_rank));
        Ok(())
    }
}

/// Names of those of `vars` that stay as they are. Matrices that change by a product of low rank are none of these.
///
/// # Errors
/// Names that are to be frozen and are none of the trunk's.
pub(super) fn frozen(
    vars: &BTreeMap<String, Var>,
    settings: &OptimizerSettings,
) -> Result<BTreeSet<String>> {
    let of_trunk = || vars.keys().filter_map(|name| name.strip_prefix(TRUNK));
    let idle = |pattern: &&String| !of_trunk().any(|name| covers(pattern, name));
    if let Some(pattern) = settings.freeze.iter().find(idle) {
        return Err(Error::config(
            "optimizer.freeze",
            format!(
                "no variable of the trunk is called {pattern:?}; they have timm's names, such as {}; layer1.* means all below layer1",
                of_trunk().take(3).collect::<Vec<_>>().join(", ")
            ),
        ));
    }
    let rank = settings.low_rank;
    let is_frozen = |(name, var): &(&String, &Var)| {
        let Some(own) = name.strip_prefix(TRUNK) else {
            return false;
        };
        settings.freeze.iter().any(|pattern| covers(pattern, own))
            || layer(name).is_some_and(|layer| layer < settings.freeze_layers)
            || rank > 0 && !has_rank(name, var.dims(), rank)
    };
    let found = vars.iter().filter(is_frozen);
    Ok(found.map(|(name, _)| name.clone()).collect())
}

/// Whether a variable of the trunk is a matrix that can change by a product of this rank.
fn has_rank(name: &str, dims: &[usize], rank: usize) -> bool {
    is_matrix(name, dims) && dims[..2].iter().all(|n| *n >= rank)
}

/// Whether a variable of the trunk is a weight of attention or MLP, or of a 1x1 convolution.
fn is_matrix(name: &str, dims: &[usize]) -> bool {
    match dims {
        [_, _] => name.contains(".attn.") || name.contains(".mlp."),
        [_, _, height, width] => *height == 1 && *width == 1,
        _ => false,
    }
}

/// Whether `pattern` means the variable `name`: it is its name, or `layer1.*` for all below `layer1`.
fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) if start.ends_with('.') => name.starts_with(start),
        _ => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    const SHAPES: [(&str, &[usize]); 7] = [
        ("encoder.conv_stem.weight", &[8, 3, 3, 3]),
        ("encoder.blocks.0.conv_pw.weight", &[8, 8, 1, 1]),
        ("encoder.blocks.0.conv_dw.weight", &[8, 1, 3, 3]),
        ("encoder.blocks.0.bn1.weight", &[8]),
        ("encoder.blocks.1.attn.qkv.weight", &[24, 8]),
        ("encoder.blocks.1.conv_pw.weight", &[2, 8, 1, 1]),
        ("head.projector.0.weight", &[4, 8]),
    ];

    fn trained(change: impl FnOnce(&mut OptimizerSettings)) -> Result<Trained> {
        let var = |dims: &[usize]| Var::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        let vars = SHAPES.map(|(name, dims)| (name.to_owned(), var(dims)));
        let mut settings = OptimizerSettings::default();
        change(&mut settings);
        Trained::new(vars.into(), &settings, 0)
    }

    #[test]
    fn what_is_named_or_below_a_depth_is_frozen_and_heads_never() {
        let names = |change: fn(&mut OptimizerSettings)| {
            let names: Vec<String> = trained(change).unwrap().frozen.into_iter().collect();
            names
        };
        assert!(names(|_| {}).is_empty());
        assert_eq!(names(|s| s.freeze_layers = 1), ["encoder.conv_stem.weight"]);
        assert_eq!(names(|s| s.freeze_layers = 2).len(), 4);
        let named = names(|s| s.freeze = vec!["blocks.1.*".into(), "conv_stem.weight".into()]);
        assert_eq!(named.len(), 3);
        for (change, words) in [
            (
                (|s| s.freeze = vec!["blocks.7.*".into()]) as fn(&mut OptimizerSettings),
                "blocks.7.*",
            ),
            (|s| s.freeze_layers = 9, "nothing of the trunk"),
        ] {
            let error = trained(change).map(drop).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_low_rank_takes_the_place_of_matrices_that_have_it_and_the_rest_of_the_trunk_is_frozen() {
        let found = trained(|s| s.low_rank = 4).unwrap();
        let names: Vec<&str> = found.vars.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "encoder.blocks.0.conv_pw.weight.lora_a",
                "encoder.blocks.0.conv_pw.weight.lora_b",
                "encoder.blocks.1.attn.qkv.weight.lora_a",
                "encoder.blocks.1.attn.qkv.weight.lora_b",
                "head.projector.0.weight",
            ]
        );
        assert_eq!(found.frozen.len(), 4);
        let error = trained(|s| s.low_rank = 100)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(error.contains("rank 100"), "{error}");
    }
}
