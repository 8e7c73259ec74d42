//! What is timed, against which of PyTorch's modes, and what is aimed at.

use anyhow::{Result, bail};

use super::target::{Device, Target};
use crate::nearest::nearest;

/// A kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Train,
    Embed,
    Memory,
    Micro,
    Judge,
    Gradients,
}

impl Group {
    pub(super) const ALL: [Self; 6] = [
        Self::Train,
        Self::Embed,
        Self::Memory,
        Self::Micro,
        Self::Judge,
        Self::Gradients,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Embed => "embed",
            Self::Memory => "memory",
            Self::Micro => "micro",
            Self::Judge => "judge",
            Self::Gradients => "gradients",
        }
    }

    /// PyTorch's modes that it is compared with. On the CPU the best of them counts, on a device each.
    pub(super) fn modes(self, target: Target) -> &'static [Mode] {
        match self {
            _ if target.is_device() => ON_DEVICE,
            Self::Train | Self::Memory => TRAINING,
            Self::Embed => EMBEDDING,
            Self::Micro => CONVOLUTION,
            Self::Judge => JUDGING,
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
/// Other programs for the same; which of them do a case, [`Case::modes`] says.
const JUDGING: &[Mode] = &[Mode::tuned(FAISS), Mode::tuned(TORCH), Mode::tuned(SKLEARN)];
const GRADIENTS: &[Mode] = &[Mode::tuned("f64")];
/// Channels-last both; what else they are is said in benches/torch/mode.py.
const ON_DEVICE: &[Mode] = &[Mode::tuned(EAGER), Mode::tuned(COMPILED)];

const FAISS: &str = "faiss";
const TORCH: &str = "torch";
const SKLEARN: &str = "sklearn";
const EAGER: &str = "eager";
const COMPILED: &str = "compiled";

/// Goals by the names of modes.
type ModeGoals = &'static [(&'static str, f64)];

/// The ratios (PyTorch's figure over ours) that are aimed at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goals {
    /// With PyTorch's best mode.
    Best(Option<f64>),
    /// With modes by name.
    Each(ModeGoals),
}

impl Goals {
    /// What is aimed at against the best mode.
    pub(super) fn best(self) -> Option<f64> {
        match self {
            Self::Best(goal) => goal,
            Self::Each(_) => None,
        }
    }

    /// What is aimed at against one mode.
    pub(super) fn against(self, mode: &str) -> Option<f64> {
        match self {
            Self::Best(_) => None,
            Self::Each(goals) => goals.iter().find(|(name, _)| *name == mode).map(|g| g.1),
        }
    }
}

/// Something to measure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Case {
    pub(super) group: Group,
    /// `resnet50-224-b16`; with the group before it, its name.
    pub(super) size: String,
    pub(super) goals: Goals,
}

impl Case {
    /// `train/resnet50-224-b16`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.group.name(), self.size)
    }

    /// The modes that it is compared with.
    pub(super) fn modes(&self, target: Target) -> Vec<Mode> {
        let does = |mode: &&Mode| {
            let search = self.size.starts_with("inside") || self.size.starts_with("gallery");
            self.group != Group::Judge || search == (mode.name != SKLEARN)
        };
        self.group
            .modes(target)
            .iter()
            .filter(does)
            .copied()
            .collect()
    }
}

/// What is timed on the CPU, but for `micro`, whose cases the program lists itself.
const CASES: [(Group, &str, f64); 9] = [
    (Group::Train, "resnet18-64-b64", 1.5),
    (Group::Train, "resnet18-112-b32", 1.5),
    (Group::Train, "resnet50-224-b16", 1.3),
    (Group::Train, "synthpair-resnet18-64-b64", 1.5),
    (Group::Embed, "resnet50-224-b16", 1.5),
    // ViT-S/16 at 224 px; timm's is the other side.
    (Group::Embed, "vit_small_patch16_224-224-b16", 1.),
    (Group::Embed, "tf_efficientnet_lite0-160-b32", 1.),
    (Group::Embed, "tf_efficientnet_lite0-224-b32", 1.),
    // Four fifths of PyTorch's memory.
    (Group::Memory, "resnet50-224-b16", 1.25),
];

/// What judging features is timed on.
const JUDGED: [(&str, ModeGoals); 4] = [
    ("inside-12000x512-k200", &[(FAISS, 3.), (TORCH, 3.)]),
    ("gallery-1000000x384-q1000-k10", &[]),
    ("knn-6000x512-q2000-c100", &[(SKLEARN, 1.)]),
    ("probe-6000x512-q2000-c100", &[(SKLEARN, 1.)]),
];

/// What is measured on a GPU, with the goals against PyTorch's modes. The goal for memory is no more than
/// PyTorch takes.
const GPU_CASES: [(Group, &str, ModeGoals); 5] = [
    (
        Group::Train,
        "moco-resnet50-224-b256",
        &[(EAGER, 1.2), (COMPILED, 1.)],
    ),
    (
        Group::Train,
        "synthpair-resnet50-224-b256",
        &[(COMPILED, 1.)],
    ),
    (
        Group::Embed,
        "resnet50-224-b256",
        &[(EAGER, 1.2), (COMPILED, 1.2)],
    ),
    (
        Group::Memory,
        "moco-resnet50-224-b256",
        &[(EAGER, 1.), (COMPILED, 1.)],
    ),
    (
        Group::Memory,
        "synthpair-resnet50-224-b256",
        &[(EAGER, 1.), (COMPILED, 1.)],
    ),
];

/// What an emulator can do in seconds: the same, small.
const EMULATED: [(Group, &str); 5] = [
    (Group::Train, "moco-resnet18-32-b4"),
    (Group::Train, "synthpair-resnet18-32-b4"),
    (Group::Embed, "resnet18-32-b4"),
    (Group::Memory, "moco-resnet18-32-b4"),
    (Group::Memory, "synthpair-resnet18-32-b4"),
];

/// The networks whose gradients are compared.
const STEPS: [&str; 4] = [
    "resnet18-64-b16",
    "resnet18-112-b8",
    "resnet50-224-b4",
    "resnet50-96-b8",
];

/// The cases of `groups` on `target`, without those of `micro`.
pub(super) fn catalogue(groups: &[Group], target: Target) -> Vec<Case> {
    let all: Vec<(Group, &str, Goals)> = match target.device {
        Device::Cpu => {
            let timed = CASES.map(|(group, size, goal)| (group, size, Goals::Best(Some(goal))));
            let steps = STEPS.map(|size| (Group::Gradients, size, Goals::Best(None)));
            let judged = JUDGED.map(|(size, goals)| (Group::Judge, size, Goals::Each(goals)));
            timed.into_iter().chain(judged).chain(steps).collect()
        }
        Device::Cuda(_) => GPU_CASES
            .map(|(group, size, goals)| (group, size, Goals::Each(goals)))
            .into(),
        Device::Emulator => EMULATED
            .map(|(group, size)| (group, size, Goals::Each(&[])))
            .into(),
    };
    all.into_iter()
        .filter(|(group, ..)| groups.contains(group))
        .map(|(group, size, goals)| Case {
            group,
            size: size.to_string(),
            goals,
        })
        .collect()
}

/// The case of `groups` that has this whole name, `train/moco-resnet18-32-b4`, though it is in no list; it has
/// no goal.
fn unlisted(name: &str, groups: &[Group], target: Target) -> Option<Case> {
    let (group, size) = name.split_once('/')?;
    let timed = [Group::Train, Group::Embed, Group::Memory];
    let group = *groups
        .iter()
        .find(|known| known.name() == group && timed.contains(known))?;
    let mut parts = size.rsplit('-');
    let number = |digits: &str| digits.parse::<usize>().is_ok_and(|number| number > 0);
    let batch = parts.next()?.strip_prefix('b')?;
    let side = parts.next()?;
    (number(batch) && number(side) && parts.next().is_some()).then(|| Case {
        group,
        size: size.to_string(),
        goals: match target.is_device() {
            true => Goals::Each(&[]),
            false => Goals::Best(None),
        },
    })
}

/// The cases of `micro` by the names that the program gave.
pub(super) fn micro(names: &[String]) -> Vec<Case> {
    let sizes = names.iter().filter_map(|name| name.strip_prefix("micro/"));
    sizes
        .map(|size| Case {
            group: Group::Micro,
            size: size.to_string(),
            goals: Goals::Best(None),
        })
        .collect()
}

/// Those cases whose name, or its part after the group, is or begins with one of `names`, and those of `groups`
/// that a name describes in full; all where there are no names.
pub(super) fn choose(
    mut cases: Vec<Case>,
    names: &[String],
    groups: &[Group],
    target: Target,
) -> Result<Vec<Case>> {
    let fits =
        |case: &Case, name: &str| case.name().starts_with(name) || case.size.starts_with(name);
    for name in names {
        if cases.iter().any(|case| fits(case, name)) {
            continue;
        }
        if let Some(case) = unlisted(name, groups, target) {
            cases.push(case);
        } else {
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
        chosen_on(Target::CPU, &names)
    }

    fn chosen_on(target: Target, names: &[String]) -> Result<Vec<String>> {
        let groups = target.groups();
        let cases = choose(catalogue(groups, target), names, groups, target)?;
        Ok(cases.iter().map(Case::name).collect())
    }

    fn gpu() -> Target {
        Target::parse(Some("cuda"), None).unwrap()
    }

    #[test]
    fn a_gpu_has_the_cases_of_its_goals() {
        let names = chosen_on(gpu(), &[]).unwrap();
        assert_eq!(
            names,
            [
                "train/moco-resnet50-224-b256",
                "train/synthpair-resnet50-224-b256",
                "embed/resnet50-224-b256",
                "memory/moco-resnet50-224-b256",
                "memory/synthpair-resnet50-224-b256",
            ]
        );
        let cases = catalogue(&[Group::Train], gpu());
        assert_eq!(cases[0].goals.against("eager"), Some(1.2));
        assert_eq!(cases[0].goals.against("compiled"), Some(1.));
        assert_eq!(cases[1].goals.against("eager"), None);
        assert_eq!(cases[0].goals.best(), None);
        for case in catalogue(gpu().groups(), gpu()) {
            let Goals::Each(goals) = case.goals else {
                panic!("{case:?}");
            };
            let modes = case.group.modes(gpu());
            for (name, _) in goals {
                assert!(modes.iter().any(|mode| mode.name == *name), "{name}");
            }
        }
    }

    #[test]
    fn a_whole_name_is_a_case_though_no_list_has_it() {
        let name = "memory/moco-resnet18-32-b4".to_string();
        let names = chosen_on(gpu(), std::slice::from_ref(&name)).unwrap();
        assert_eq!(names, [name]);
        assert_eq!(chosen(&["train/resnet18-46-b64"]).unwrap().len(), 1);
        for wrong in [
            "train/resnet18-46",
            "train/46-b64",
            "train/x-46-b0",
            "fly/x-46-b1",
            "micro/x-46-b1",
        ] {
            assert!(chosen(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_case_is_chosen_by_its_name_with_or_without_the_group() {
        assert_eq!(
            chosen(&[]).unwrap().len(),
            CASES.len() + JUDGED.len() + STEPS.len()
        );
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
