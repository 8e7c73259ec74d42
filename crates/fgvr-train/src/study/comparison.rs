//! Comparisons that a study names before anything runs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::StudyConfig;
use super::config::START;
use crate::config::did_you_mean;
use crate::{Error, Result};

/// More of them and the correction for looking at many leaves nothing to be found.
const MOST: usize = 8;

/// Two sides that are compared by one figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyCompare {
    /// An arm, or `start`.
    pub arm: String,
    /// What it is compared with: another arm, or `start`; or the same in another form.
    pub with: String,
    /// What they are compared by.
    pub figure: JudgedFigure,
    /// Which features of the arm.
    #[serde(default)]
    pub form: Form,
    /// Which features of the other side, where they are of another form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with_form: Option<Form>,
}

/// A figure that a judged row has query by query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JudgedFigure {
    /// Whether the nearest training images vote for the query's class.
    #[serde(rename = "kNN")]
    Knn,
    /// The average precision of the training images for the query.
    #[serde(rename = "mAP")]
    Map,
    /// Whether a linear probe on the training images names the query's class.
    #[serde(rename = "probe")]
    Probe,
}

impl JudgedFigure {
    /// All, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Knn, Self::Map, Self::Probe];

    /// As it stands in tables and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Knn => "kNN",
            Self::Map => "mAP",
            Self::Probe => "probe",
        }
    }
}

/// What is done to features before they are judged.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Nothing.
    Plain,
    /// The closed form that was fitted to the training images (`adapt.*`).
    #[default]
    ClosedForm,
}

impl Form {
    /// Both, in the order of tables.
    pub const ALL: [Self; 2] = [Self::Plain, Self::ClosedForm];

    /// A row of tables: `side`, or `side + closed form`.
    #[must_use]
    pub fn row(self, side: &str) -> String {
        match self {
            Self::Plain => side.to_owned(),
            Self::ClosedForm => format!("{side} + closed form"),
        }
    }
}

impl StudyCompare {
    /// Both sides, each with its form.
    #[must_use]
    pub fn sides(&self) -> [(&str, Form); 2] {
        let with_form = self.with_form.unwrap_or(self.form);
        [(&self.arm, self.form), (&self.with, with_form)]
    }
}

impl fmt::Display for StudyCompare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [side, with] = self.sides().map(|(side, form)| form.row(side));
        write!(f, "{side} over {with}")
    }
}

/// Refuses comparisons that cannot be made, and more of them than can be told apart from chance.
///
/// # Errors
/// What is wrong, and what would be right.
pub(super) fn validate(study: &StudyConfig, origin: &str) -> Result<()> {
    let problem = |text: String| Err(Error::config(origin, text));
    let named = &study.compare;
    if named.len() > MOST {
        return problem(format!(
            "expected at most {MOST} [[compare]], found {}: each is corrected for all others, and many leave nothing to be \
             found; keep those that the study is for",
            named.len()
        ));
    }
    if !named.is_empty() && !study.closed_form {
        return problem(
            "[[compare]] is of what queries were answered, which a study keeps with closed_form = true; set it"
                .to_owned(),
        );
    }
    let known = || {
        let arms = study.arm.iter().map(|arm| arm.name.as_str());
        arms.chain([START])
    };
    for (number, comparison) in named.iter().enumerate() {
        let sides = comparison.sides();
        for (side, form) in sides {
            if !known().any(|name| name == side) {
                return problem(format!(
                    "[[compare]] {}: there is no arm {side:?}{}; there are {}",
                    number + 1,
                    did_you_mean(side, known()),
                    known().collect::<Vec<_>>().join(", ")
                ));
            }
            let is_frozen = (study.arm.iter()).any(|arm| arm.name == side && arm.frozen);
            if is_frozen && form == Form::Plain {
                return problem(format!(
                    "[[compare]] {}: arm {side} is frozen, and its plain features are those of the start; compare with \
                     {START:?}, or with form = \"closed-form\"",
                    number + 1
                ));
            }
        }
        if sides[0] == sides[1] {
            return problem(format!(
                "[[compare]] {}: {comparison} compares it with itself",
                number + 1
            ));
        }
        let same = |other: &StudyCompare| {
            (other.figure, other.sides()) == (comparison.figure, comparison.sides())
        };
        if named[..number].iter().any(same) {
            return problem(format!(
                "[[compare]] {}: {comparison} by {} stands there twice; take one out",
                number + 1,
                comparison.figure.name()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUDY: &str = r#"
name = "tiny"
seeds = [0, 1]
control = "start"
closed_form = true
[[data]]
name = "birds"
source = "builtin:lookalikes"
weights = "some/weights"
[[arm]]
name = "full"
[[arm]]
name = "total"
frozen = true
set = ["adapt.kind=total"]
"#;

    fn with(compare: &str) -> Result<StudyConfig> {
        StudyConfig::parse(&format!("{STUDY}{compare}"), "s.toml")
    }

    fn refused(compare: &str) -> String {
        with(compare).unwrap_err().to_string()
    }

    #[test]
    fn a_comparison_is_of_closed_forms_unless_it_says_otherwise() {
        let study = with(
            "[[compare]]\narm = \"full\"\nwith = \"start\"\nfigure = \"kNN\"\n\
             [[compare]]\narm = \"full\"\nwith = \"full\"\nfigure = \"mAP\"\nwith_form = \"plain\"\n\
             [[compare]]\narm = \"full\"\nwith = \"start\"\nfigure = \"probe\"\nform = \"plain\"\n",
        )
        .unwrap();
        let said: Vec<String> = study.compare.iter().map(ToString::to_string).collect();
        let expected = [
            "full + closed form over start + closed form",
            "full + closed form over full",
            "full over start",
        ];
        assert_eq!(said, expected);
        let written = toml::to_string_pretty(&study).unwrap();
        assert_eq!(StudyConfig::parse(&written, "s.toml").unwrap(), study);
    }

    #[test]
    fn comparisons_that_cannot_be_made_are_refused() {
        let one = |arm: &str, more: &str| {
            format!("[[compare]]\narm = \"{arm}\"\nwith = \"start\"\nfigure = \"kNN\"\n{more}")
        };
        for (compare, words) in [
            (one("ful", ""), "did you mean full?"),
            (one("ful", ""), "there are full, total, start"),
            (one("start", ""), "compares it with itself"),
            (one("total", "form = \"plain\""), "are those of the start"),
            (one("full", "") + &one("full", ""), "stands there twice"),
        ] {
            let error = refused(&compare);
            assert!(error.contains(words), "{words}: {error}");
        }
        let figures = ["kNN", "mAP", "probe"];
        let nine = (0..9).map(|i| {
            let form = ["plain", "closed-form", "plain"][i / 3];
            let with = ["plain", "closed-form", "closed-form"][i / 3];
            format!(
                "[[compare]]\narm = \"full\"\nwith = \"start\"\nfigure = \"{}\"\nform = \"{form}\"\nwith_form = \"{with}\"\n",
                figures[i % 3]
            )
        });
        let nine: Vec<String> = nine.collect();
        with(&nine[..8].concat()).unwrap();
        let error = refused(&nine.concat());
        assert!(error.contains("at most 8 [[compare]], found 9"), "{error}");
        let plain = STUDY.replace("closed_form = true\n", "");
        let plain = plain.replace("control = \"start\"", "control = \"full\"");
        let plain = plain.replace("frozen = true\n", "");
        let error = StudyConfig::parse(&(plain + &one("full", "")), "s.toml").unwrap_err();
        assert!(error.to_string().contains("set it"), "{error}");
    }

    #[test]
    fn frozen_arms_have_nothing_but_the_closed_form() {
        let said = |text: &str| {
            let error = StudyConfig::parse(text, "s.toml").unwrap_err();
            error.to_string()
        };
        let error = said(&STUDY.replace("adapt.kind=total", "optimizer.lr=1"));
        assert!(error.contains("only adapt.* counts"), "{error}");
        let error = said(&STUDY.replace("closed_form = true", "closed_form = false"));
        assert!(error.contains("names no arm") || error.contains("set closed_form"));
        let error = said(&STUDY.replace("\"full\"", "\"start\""));
        assert!(error.contains("rename it"), "{error}");
    }
}
