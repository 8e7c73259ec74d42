//! What is timed, against which of PyTorch's modes, and what is aimed at.

use anyhow::{Result, bail};

use crate::nearest::nearest;

/// A kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Train,
    Embed,
    Memory,
    Micro,
    Gradients,
}

impl Group {
    pub(super) const ALL: [Self; 5] = [
        Self::Train,
        Self::Embed,
        Self::Memory,
        Self::Micro,
        Self::Gradients,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Embed => "embed",
            Self::Memory => "memory",
            Self::Micro => "micro",
            Self::Gradients => "gradients",
        }
    }

    /// PyTorch's modes that it is compared with; the best of them counts.
    pub(super) fn modes(self) -> &'static [Mode] {
        match self {
            Self::Train | Self::Memory => TRAINING,
            Self::Embed => EMBEDDING,
            Self::Micro => CONVOLUTION,
            Self::Gradients => GRADIENTS,
        }
    }
}

/// A way to run PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) name: &'static str,
    /// What the script is told.
    pub(super) script: &'static str,
    /// Whether the allocator keeps large blocks. Otherwise each step gives them back to the system
    /// and pays for them again in page faults, and a comparison would be one of allocators.
    pub(super) tuned: bool,
}

impl Mode {
    const fn tuned(name: &'static str) -> Self {
        Self {
            name,
            script: name,
            tuned: true,
        }
    }
}

/// The mode that does not compute in f32 throughout.
pub(super) const BF16: &str = "bf16";

const TRAINING: &[Mode] = &[
    Mode::tuned("eager"),
    Mode::tuned("channels_last"),
    Mode::tuned(BF16),
    Mode {
        name: "untuned",
        script: "channels_last",
        tuned: false,
    },
];
const EMBEDDING: &[Mode] = &[
    Mode::tuned("channels_last"),
    Mode::tuned("folded"),
    Mode::tuned("compiled"),
    Mode::tuned(BF16),
];
const CONVOLUTION: &[Mode] = &[Mode::tuned("channels_last")];
const GRADIENTS: &[Mode] = &[Mode::tuned("f64")];

/// Something to measure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Case {
    pub(super) group: Group,
    /// `resnet50-224-b16`; with the group before it, its name.
    pub(super) size: String,
    /// The ratio (PyTorch's best over ours) that is aimed at.
    pub(super) goal: Option<f64>,
}

impl Case {
    /// `train/resnet50-224-b16`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.group.name(), self.size)
    }
}

/// What is timed, but for `micro`, whose cases the program lists itself.
const CASES: [(Group, &str, f64); 7] = [
    (Group::Train, "resnet18-64-b64", 1.5),
    (Group::Train, "resnet18-112-b32", 1.5),
    (Group::Train, "resnet50-224-b16", 1.3),
    (Group::Train, "synthpair-resnet18-64-b64", 1.5),
    (Group::Embed, "resnet50-224-b16", 1.5),
    // ViT-S/16 at 224 px; timm's is the other side.
    (Group::Embed, "vit_small_patch16_224-224-b16", 1.),
    // Four fifths of PyTorch's memory.
    (Group::Memory, "resnet50-224-b16", 1.25),
];

/// The networks whose gradients are compared.
const STEPS: [&str; 4] = [
    "resnet18-64-b16",
    "resnet18-112-b8",
    "resnet50-224-b4",
    "resnet50-96-b8",
];

/// The cases of `groups`, without those of `micro`.
pub(super) fn catalogue(groups: &[Group]) -> Vec<Case> {
    let timed = CASES.map(|(group, size, goal)| (group, size, Some(goal)));
    let steps = STEPS.map(|size| (Group::Gradients, size, None));
    let all = timed.into_iter().chain(steps);
    all.filter(|(group, ..)| groups.contains(group))
        .map(|(group, size, goal)| Case {
            group,
            size: size.to_string(),
            goal,
        })
        .collect()
}

/// The cases of `micro` by the names that the program gave.
pub(super) fn micro(names: &[String]) -> Vec<Case> {
    let sizes = names.iter().filter_map(|name| name.strip_prefix("micro/"));
    sizes
        .map(|size| Case {
            group: Group::Micro,
            size: size.to_string(),
            goal: None,
        })
        .collect()
}

/// Those cases whose name, or its part after the group, is or begins with one of `names`; all where
/// there are no names.
pub(super) fn choose(cases: Vec<Case>, names: &[String]) -> Result<Vec<Case>> {
    let fits =
        |case: &Case, name: &str| case.name().starts_with(name) || case.size.starts_with(name);
    for name in names {
        if !cases.iter().any(|case| fits(case, name)) {
            let known: Vec<String> = cases
                .iter()
                .flat_map(|c| [c.name(), c.size.clone()])
                .collect();
            let hint = nearest(name, known.iter().map(String::as_str))
                .map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            let list: Vec<String> = cases.iter().take(12).map(Case::name).collect();
            bail!("no case `{name}`{hint}; there are {}", list.join(", "));
        }
    }
    let kept = |case: &Case| names.is_empty() || names.iter().any(|name| fits(case, name));
    Ok(cases.into_iter().filter(kept).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Result<Vec<String>> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let cases = choose(catalogue(&Group::ALL), &names)?;
        Ok(cases.iter().map(Case::name).collect())
    }

    #[test]
    fn a_case_is_chosen_by_its_name_with_or_without_the_group() {
        assert_eq!(chosen(&[]).unwrap().len(), CASES.len() + STEPS.len());
        assert_eq!(
            chosen(&["embed/resnet50-224-b16"]).unwrap(),
            ["embed/resnet50-224-b16"]
        );
        assert_eq!(chosen(&["resnet50-224-b16"]).unwrap().len(), 3);
        assert_eq!(chosen(&["train/resnet18", "synth"]).unwrap().len(), 3);
        assert_eq!(chosen(&["gradients/resnet18"]).unwrap().len(), 2);
    }

    #[test]
    fn an_unknown_case_is_an_error_that_names_the_nearest() {
        let error = chosen(&["resnet18-46-b64"]).unwrap_err().to_string();
        assert!(error.contains("did you mean `resnet18-64-b64`?"), "{error}");
    }

    #[test]
    fn cases_of_micro_come_from_the_programs_list() {
        let cases = micro(&["micro/n1-h2/forward".into(), "train/x".into()]);
        assert_eq!(cases.len(), 1);
        assert_eq!(cases[0].name(), "micro/n1-h2/forward");
    }
}
