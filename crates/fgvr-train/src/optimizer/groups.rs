//! Which variables have which rate.

use std::collections::BTreeMap;

use candle_core::Var;

use crate::config::{OptimizerKind, OptimizerSettings};

/// Variables that share a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Group {
    part: Part,
    /// The highest rate.
    pub(super) peak: f64,
    /// Whether it keeps that rate throughout, such as SimSiam's predictor.
    pub(super) is_constant: bool,
    /// Whether it is of the trunk.
    pub(super) is_trunk: bool,
}

/// What a group's file in a checkpoint is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// All that is in no other group.
    Scheduled,
    Heads,
    Constant,
    /// A layer of the trunk, from the images on.
    Layer(usize),
}

impl Group {
    /// The name of its file in a checkpoint.
    pub(super) fn file(self, kind: OptimizerKind) -> String {
        let kind = kind.name();
        match self.part {
            Part::Scheduled => kind.to_owned(),
            Part::Heads => format!("{kind}_heads"),
            Part::Constant => format!("{kind}_constant"),
            Part::Layer(layer) => format!("{kind}_layer_{layer:02}"),
        }
    }
}

/// `vars` by their rates. Those whose names begin with one of `constant` keep their peak.
pub(super) fn grouped(
    vars: BTreeMap<String, Var>,
    settings: &OptimizerSettings,
    constant: &[&str],
) -> Vec<(Group, BTreeMap<String, Var>)> {
    let decays = settings.layer_decay != 1.;
    // Only what has to be apart is: a run without rates of their own is one group.
    let apart =
        decays || settings.head_lr.is_some() || settings.head_steps > 0 || settings.low_rank > 0;
    let layers = vars.keys().filter_map(|name| layer(name));
    let above_all = layers
        .filter(|l| *l != TOP)
        .max()
        .map_or(0, |last| last + 1);
    let part = |name: &str| {
        if constant.iter().any(|prefix| name.starts_with(prefix)) {
            return Part::Constant;
        }
        match layer(name) {
            Some(layer) if decays => Part::Layer(layer.min(above_all)),
            None if apart => Part::Heads,
            _ => Part::Scheduled,
        }
    };
    let mut parts: BTreeMap<Part, BTreeMap<String, Var>> = BTreeMap::new();
    for (name, var) in vars {
        parts.entry(part(&name)).or_default().insert(name, var);
    }
    let group = |part: Part| Group {
        part,
        peak: match part {
            Part::Scheduled => settings.lr,
            Part::Heads | Part::Constant => settings.head_lr.unwrap_or(settings.lr),
            Part::Layer(layer) => {
                let below = i32::try_from(above_all - layer).unwrap_or(i32::MAX);
                settings.lr * settings.layer_decay.powi(below)
            }
        },
        is_constant: part == Part::Constant,
        is_trunk: match part {
            Part::Scheduled => apart,
            Part::Layer(_) => true,
            Part::Heads | Part::Constant => false,
        },
    };
    parts
        .into_iter()
        .map(|(part, vars)| (group(part), vars))
        .collect()
}

/// What comes after all numbered layers of a trunk.
const TOP: usize = usize::MAX;

/// How far from the images a variable of the trunk stands, by timm's names: 0 for what comes before the first
/// block or stage; `None` for what is no part of a trunk.
pub(super) fn layer(name: &str) -> Option<usize> {
    let mut parts = name.strip_prefix("encoder.")?.split('.');
    let first = parts.next()?;
    Some(match first {
        "blocks" => 1 + parts.next()?.parse::<usize>().ok()?,
        "norm" | "fc_norm" | "conv_head" | "bn2" => TOP,
        _ => match first.strip_prefix("layer") {
            Some(stage) => stage.parse().ok()?,
            None => 0,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    const NAMES: [&str; 6] = [
        "encoder.patch_embed.proj.weight",
        "encoder.blocks.0.attn.qkv.weight",
        "encoder.blocks.1.attn.qkv.weight",
        "encoder.norm.weight",
        "head.projector.0.weight",
        "head.predictor.0.weight",
    ];

    fn files(settings: &OptimizerSettings, constant: &[&str]) -> Vec<(String, f64, usize)> {
        let var = || Var::zeros(2, DType::F32, &Device::Cpu).unwrap();
        let vars = NAMES.map(|name| (name.to_owned(), var())).into();
        grouped(vars, settings, constant)
            .into_iter()
            .map(|(group, vars)| (group.file(OptimizerKind::Adamw), group.peak, vars.len()))
            .collect()
    }

    #[test]
    fn a_run_without_rates_of_their_own_is_one_group() {
        let settings = OptimizerSettings {
            lr: 2.,
            ..OptimizerSettings::default()
        };
        assert_eq!(files(&settings, &[]), [("adamw".to_owned(), 2., 6)]);
        let found = files(&settings, &["head.predictor"]);
        let expected = [("adamw", 2., 5), ("adamw_constant", 2., 1)];
        assert_eq!(found, expected.map(|(f, p, n)| (f.to_owned(), p, n)));
    }

    #[test]
    fn heads_have_their_rate_and_layers_less_the_nearer_they_are_to_the_images() {
        let settings = OptimizerSettings {
            lr: 2.,
            head_lr: Some(8.),
            layer_decay: 0.5,
            ..OptimizerSettings::default()
        };
        let expected = [
            ("adamw_heads", 8., 2),
            ("adamw_layer_00", 0.25, 1),
            ("adamw_layer_01", 0.5, 1),
            ("adamw_layer_02", 1., 1),
            ("adamw_layer_03", 2., 1),
        ];
        let expected = expected.map(|(f, p, n)| (f.to_owned(), p, n));
        assert_eq!(files(&settings, &[]), expected);
        assert_eq!(layer("encoder.layer3.0.conv1.weight"), Some(3));
        assert_eq!(layer("encoder.conv1.weight"), Some(0));
        assert_eq!(layer("addon.lcr.weight"), None);
    }
}
