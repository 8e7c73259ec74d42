//! What a study compares: arms, seeds and data sets, checked before anything runs.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::comparison::{self, StudyCompare};
use crate::config::did_you_mean;
use crate::{Error, Result, Silent};

/// The name of what arms start from, where it is compared with them.
pub(super) const START: &str = "start";

/// A study file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyConfig {
    /// Its title.
    pub name: String,
    /// What it asks, for people.
    #[serde(default)]
    pub about: String,
    /// Seeds, each of which every arm runs with.
    pub seeds: Vec<u64>,
    /// The arm that the others are compared with.
    pub control: String,
    /// Whose figures are reported; see [`Choice`].
    #[serde(default)]
    pub checkpoint: Choice,
    /// Whether every run, and the pretrained weights it started from, are judged by their features as they are and after
    /// the closed form that is fitted to them (`adapt.*`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub closed_form: bool,
    /// The settings that all runs start from. Where a data set has weights and no preset is named, those for careful
    /// training that fit the network, which `careful` stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Settings of all runs, as `--set` takes them.
    #[serde(default)]
    pub set: Vec<String>,
    /// The data sets.
    pub data: Vec<StudyData>,
    /// The arms.
    pub arm: Vec<StudyArm>,
    /// What is compared, named before anything runs; eight at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<StudyCompare>,
}

/// Whether a switch is off: old studies are written as they were.
fn is_false(switch: &bool) -> bool {
    !*switch
}

/// Which checkpoint's figures count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The last one, chosen by nobody.
    #[default]
    Last,
    /// Named in order to be refused: the best of many looks at the test images says little of new
    /// ones.
    BestTest,
}

/// A data set of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyData {
    /// Its name in tables and paths.
    pub name: String,
    /// `builtin:lookalikes`, or a folder.
    pub source: String,
    /// Pretrained weights that all runs on it start from, as `fgvr pretrain --weights` takes them: the network, the size
    /// of the images and how they are normalised come with them. Several networks on the same photos are several data
    /// sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// A preset in place of the study's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Settings of the runs on it.
    #[serde(default)]
    pub set: Vec<String>,
}

/// An arm of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyArm {
    /// Its name in tables and paths.
    pub name: String,
    /// Whether it leaves the network as it is: only its settings `adapt.*` count, for the closed form of the start's
    /// features, which are embedded once for all such arms.
    #[serde(default, skip_serializing_if = "is_false")]
    pub frozen: bool,
    /// Its settings.
    #[serde(default)]
    pub set: Vec<String>,
}

impl StudyConfig {
    /// Reads a study file and checks it.
    ///
    /// # Errors
    /// A file that cannot be read, is no study, or asks for what a study may not do.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// A study that comes with fgvr.
    ///
    /// # Errors
    /// An unknown name; the nearest one is named.
    pub fn preset(name: &str) -> Result<Self> {
        let known = || super::STUDIES.iter().map(|(known, ..)| *known);
        match super::STUDIES.iter().find(|(known, ..)| *known == name) {
            Some((_, _, text)) => Self::parse(text, name),
            None => Err(Error::config(
                format!("--preset {name}"),
                format!(
                    "there is no such study{}; there are: {}",
                    did_you_mean(name, known()),
                    known().collect::<Vec<_>>().join(", ")
                ),
            )),
        }
    }

    /// A study from the text of its file; `origin` names it in errors.
    ///
    /// # Errors
    /// A file that cannot be read, is no study, or asks for what a study may not do.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let study: Self = toml::from_str(text).map_err(|e: toml::de::Error| {
            let before = e.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| 1 + before.matches('\n').count());
            Error::config(origin, format!("line {line}: {}", e.message()))
        })?;
        study.validate(origin)?;
        Ok(study)
    }

    /// Refuses what can be told to be wrong without opening data or weights.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub(super) fn validate(&self, origin: &str) -> Result<()> {
        let problem = |text: String| Err(Error::config(origin, text));
        if self.checkpoint == Choice::BestTest {
            return problem(
                "checkpoint = \"best-test\" would choose on the images it reports; \
                 leave it out, and the last checkpoint counts"
                    .to_owned(),
            );
        }
        if self.seeds.is_empty() || self.arm.is_empty() || self.data.is_empty() {
            return problem("expected at least one seed, one [[arm]] and one [[data]]".to_owned());
        }
        let seeds: BTreeSet<u64> = self.seeds.iter().copied().collect();
        if seeds.len() < self.seeds.len() {
            return problem(format!("a seed stands twice in {:?}", self.seeds));
        }
        unique("arm", self.arm.iter().map(|arm| arm.name.as_str()), origin)?;
        unique("data", self.data.iter().map(|d| d.name.as_str()), origin)?;
        let is_control = |name: &str| name == self.control;
        let known = || self.arm.iter().map(|arm| arm.name.as_str());
        let is_known = known().any(is_control) || self.closed_form && is_control(START);
        if !is_known {
            return problem(format!(
                "control = {:?} names no arm; there are {}{}",
                self.control,
                known().collect::<Vec<_>>().join(", "),
                if self.closed_form { " and start" } else { "" }
            ));
        }
        self.frozen_arms(origin)?;
        comparison::validate(self, origin)?;
        // Weights are opened later, and closed forms wait for some.
        let is_whole = |data: &&StudyData| data.weights.is_none() && !self.closed_form;
        for data in self.data.iter().filter(is_whole) {
            self.equal_budgets(data, &self.base(data, &mut Silent)?, origin)?;
        }
        Ok(())
    }

    /// Arms that train nothing have no setting of a training, and what is judged by judgements has them.
    fn frozen_arms(&self, origin: &str) -> Result<()> {
        let problem = |text: String| Err(Error::config(origin, text));
        for arm in self.arm.iter().filter(|arm| arm.frozen) {
            if !self.closed_form {
                return problem(format!(
                    "arm {} is frozen and is judged by its closed form alone; set closed_form = true",
                    arm.name
                ));
            }
            let key = |set: &String| set.split('=').next().unwrap_or_default().trim().to_owned();
            let other = |key: &String| key != "adapt" && !key.starts_with("adapt.");
            if let Some(key) = arm.set.iter().map(key).find(other) {
                return problem(format!(
                    "arm {} is frozen and has {key}; only adapt.* counts for it, so take {key} out, or set it for all",
                    arm.name
                ));
            }
        }
        if self.closed_form && self.arm.iter().any(|arm| arm.name == START) {
            return problem(format!(
                "an arm is called {START:?}, which is the row of what the arms start from; rename it"
            ));
        }
        Ok(())
    }
}

/// Names that differ and can be folders.
fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>, origin: &str) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(Error::config(
                origin,
                format!("{what} {name:?}: expected a name of letters, digits, - _ + and ."),
            ));
        }
        if !seen.insert(name) {
            return Err(Error::config(
                origin,
                format!("two [[{what}]] are called {name:?}; rename one"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Elsewhere;
    use super::*;

    const STUDY: &str = r#"
name = "tiny"
seeds = [0, 1]
control = "base"
preset = "learn"
[[data]]
name = "birds"
source = "builtin:lookalikes"
[[arm]]
name = "base"
set = ["arm=base"]
[[arm]]
name = "full"
set = ["arm=full"]
"#;

    fn refused(text: &str) -> String {
        StudyConfig::parse(text, "s.toml").unwrap_err().to_string()
    }

    #[test]
    fn settings_come_in_the_order_study_data_arm() {
        let text = STUDY
            .replace(
                "preset = \"learn\"",
                "preset = \"learn\"\nset = [\"monitor.knn_every=3\"]",
            )
            .replace("\"arm=full\"", "\"arm=full\", \"monitor.knn_every=5\"");
        let study = StudyConfig::parse(&text, "s.toml").unwrap();
        let every = |arm: usize| {
            let config = study.resolve(&study.data[0], &study.arm[arm], 7).unwrap();
            (config.monitor.knn_every, config.seed)
        };
        assert_eq!((every(0), every(1)), ((3, 7), (5, 7)));
    }

    #[test]
    fn a_study_is_put_on_other_data_and_cut_down_to_some_arms() {
        let study = || StudyConfig::parse(STUDY, "s.toml").unwrap();
        let put = Elsewhere {
            data: Some("my/own photos".to_owned()),
            set: vec!["optimizer.steps=9".to_owned()],
            ..Elsewhere::default()
        };
        let cut = |arm: &str| Elsewhere {
            arms: vec![arm.to_owned()],
            ..Elsewhere::default()
        };
        let other = study().with(&put).unwrap();
        assert_eq!(
            (other.data[0].name.as_str(), other.data[0].source.as_str()),
            ("own-photos", "my/own photos")
        );
        let config = other.resolve(&other.data[0], &other.arm[1], 0).unwrap();
        assert_eq!((config.data.size, config.optimizer.steps), (64, Some(9)));
        let three = STUDY.to_owned() + "[[arm]]\nname = \"third\"\nset = [\"arm=recon-only\"]\n";
        let some = StudyConfig::parse(&three, "s.toml").unwrap();
        let some = some.with(&cut("full")).unwrap();
        let names: Vec<_> = some.arm.iter().map(|arm| arm.name.as_str()).collect();
        assert_eq!(names, ["base", "full"]);
        let error = study().with(&cut("ful")).unwrap_err();
        assert!(error.to_string().contains("did you mean full?"), "{error}");
    }

    /// Which includes that arms differ in nothing but what they may, and are not the same.
    #[test]
    fn every_study_that_comes_along_is_one() {
        for (name, ..) in super::super::STUDIES {
            let study = StudyConfig::preset(name).unwrap();
            let jobs = study.jobs(Path::new("out"), &mut Silent).unwrap();
            assert_eq!(jobs.len(), study.seeds.len() * study.arm.len(), "{name}");
            let plain: Vec<_> = study
                .arm
                .iter()
                .map(|arm| {
                    let mut config = study.resolve(&study.data[0], arm, 0).unwrap();
                    config.name.clear();
                    config
                })
                .collect();
            for (i, config) in plain.iter().enumerate() {
                let same = plain[..i].iter().position(|other| other == config);
                assert_eq!(same, None, "{name}: {} is another arm", study.arm[i].name);
            }
        }
    }

    #[test]
    fn a_study_never_chooses_on_test() {
        let error = refused(&STUDY.replace("seeds", "checkpoint = \"best-test\"\nseeds"));
        assert!(error.contains("choose on the images it reports"), "{error}");
    }

    #[test]
    fn arms_of_one_name_unequal_budgets_and_an_unknown_control_are_refused() {
        let error = refused(&STUDY.replace("name = \"full\"", "name = \"base\""));
        assert!(error.contains("two [[arm]] are called \"base\""), "{error}");
        for more in [
            "optimizer.steps=9",
            "loader.batch=32",
            "data.size=32",
            "evaluate.knn.k=5",
        ] {
            let error = refused(&STUDY.replace("arm=full", &format!("arm=full\", \"{more}")));
            let key = more.split('=').next().unwrap();
            assert!(
                error.contains(key) && error.contains("same budget"),
                "{error}"
            );
        }
        let error = refused(&STUDY.replace("control = \"base\"", "control = \"bas\""));
        assert!(error.contains("there are base, full"), "{error}");
        let error = refused(&STUDY.replace("[0, 1]", "[0, 0]"));
        assert!(error.contains("twice"), "{error}");
        let error = refused(&STUDY.replace("name = \"birds\"", "name = \"../birds\""));
        assert!(error.contains("letters, digits"), "{error}");
        let error = refused(&STUDY.replace("arm=full", "arm=ful"));
        assert!(error.contains("ful"), "{error}");
    }
}
