//! What was measured of a case.

use serde_json::{Map, Value, json};

use super::case::{BF16, Case, Goals};
use super::statistics::Summary;

/// Figures of one side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    /// Seconds of a repetition; of `memory`, bytes, on a device those taken from it.
    pub(super) summary: Summary,
    /// Page faults of a repetition.
    pub(super) faults: Option<f64>,
    /// Bytes of a device's memory that were in use.
    pub(super) allocated: Option<f64>,
}

/// One of PyTorch's modes: its name, and its figures or why there are none.
pub(super) type ModeOutcome = (&'static str, Result<Figures, String>);

/// A case with its figures.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) case: Case,
    /// Images of a repetition.
    pub(super) images: u64,
    /// Floating-point operations of a repetition, where they count.
    pub(super) operations: Option<f64>,
    pub(super) ours: Figures,
    pub(super) modes: Vec<ModeOutcome>,
}

impl Outcome {
    /// PyTorch's mode of the lowest median.
    pub(super) fn best(&self) -> Option<(&'static str, Figures)> {
        self.best_of(|_| true)
    }

    /// The same among the modes that compute in f32 throughout, as we do on the CPU.
    pub(super) fn best_f32(&self) -> Option<(&'static str, Figures)> {
        match self.case.goals {
            Goals::Best(_) => self.best_of(|name| name != BF16),
            Goals::Each(_) => None,
        }
    }

    fn best_of(&self, fits: impl Fn(&str) -> bool) -> Option<(&'static str, Figures)> {
        self.modes
            .iter()
            .filter(|(name, _)| fits(name))
            .filter_map(|(name, figures)| Some((*name, *figures.as_ref().ok()?)))
            .min_by(|a, b| a.1.summary.median.total_cmp(&b.1.summary.median))
    }

    /// PyTorch's best median over ours: above 1, ours takes less.
    pub(super) fn ratio(&self) -> Option<f64> {
        self.over_ours(self.best())
    }

    /// [`Outcome::ratio`] with the best of the modes in f32.
    pub(super) fn ratio_f32(&self) -> Option<f64> {
        self.over_ours(self.best_f32())
    }

    /// The figures of a mode over ours, if it did not fail.
    pub(super) fn ratio_with(&self, figures: &Result<Figures, String>) -> Option<f64> {
        self.over_ours(figures.as_ref().ok().map(|figures| ("", *figures)))
    }

    fn over_ours(&self, side: Option<(&str, Figures)>) -> Option<f64> {
        Some(side?.1.summary.median / self.ours.summary.median)
    }

    /// 10^9 operations a second.
    pub(super) fn gigaflops(&self, figures: &Figures) -> Option<f64> {
        Some(self.operations? / figures.summary.median / 1e9)
    }
}

/// An object of cases by name.
pub(super) fn json(outcomes: &[Outcome]) -> Map<String, Value> {
    outcomes.iter().map(|o| (o.case.name(), of(o))).collect()
}

fn of(outcome: &Outcome) -> Value {
    let best = outcome.best();
    let modes: Map<String, Value> = outcome
        .modes
        .iter()
        .map(|(name, figures)| {
            let value = match figures {
                Ok(found) => {
                    let mut value = side(outcome, found);
                    if let Goals::Each(_) = outcome.case.goals {
                        value["ratio"] = json!(outcome.ratio_with(figures));
                        value["goal"] = json!(outcome.case.goals.against(name));
                    }
                    value
                }
                Err(reason) => json!({ "failed": reason }),
            };
            ((*name).to_string(), value)
        })
        .collect();
    let memory = outcome.case.group == super::case::Group::Memory;
    json!({
        "unit": if memory { "bytes" } else { "seconds" },
        "images": outcome.images,
        "ours": outcome.ours.summary.median,
        "ours_iqr": outcome.ours.summary.iqr,
        "ours_detail": side(outcome, &outcome.ours),
        "torch_best": best.map(|(_, figures)| figures.summary.median),
        "torch_best_iqr": best.map(|(_, figures)| figures.summary.iqr),
        "torch_mode": best.map(|(name, _)| name),
        "ratio": outcome.ratio(),
        "torch_mode_f32": outcome.best_f32().map(|(name, _)| name),
        "ratio_f32": outcome.ratio_f32(),
        "goal": outcome.case.goals.best(),
        "torch_modes": modes,
    })
}

fn side(outcome: &Outcome, figures: &Figures) -> Value {
    json!({
        "median": figures.summary.median,
        "iqr": figures.summary.iqr,
        "repetitions": figures.summary.count,
        "faults_per_step": figures.faults,
        "gflops": outcome.gigaflops(figures),
        "allocated": figures.allocated,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::case::Group;
    use super::*;

    pub(in super::super) fn figures(median: f64) -> Figures {
        Figures {
            summary: Summary {
                median,
                iqr: median / 10.,
                count: 5,
            },
            faults: Some(12.),
            allocated: None,
        }
    }

    pub(in super::super) fn outcome(group: Group, size: &str, modes: Vec<ModeOutcome>) -> Outcome {
        Outcome {
            case: Case {
                group,
                size: size.to_string(),
                goals: Goals::Best(Some(1.)),
            },
            images: 16,
            operations: None,
            ours: figures(0.5),
            modes,
        }
    }

    #[test]
    fn the_best_mode_is_the_fastest_that_did_not_fail() {
        let modes = vec![
            ("eager", Ok(figures(2.))),
            ("bf16", Ok(figures(0.75))),
            ("compiled", Err("no compiler".to_string())),
        ];
        let outcome = outcome(Group::Train, "x", modes);
        assert_eq!(outcome.best().unwrap().0, "bf16");
        assert_eq!(outcome.ratio(), Some(1.5));
        let json = json(&[outcome]);
        let case = &json["train/x"];
        assert_eq!(case["ours"], 0.5);
        assert_eq!(case["torch_best"], 0.75);
        assert_eq!(case["torch_mode"], "bf16");
        assert_eq!(case["ratio"], 1.5);
        assert_eq!(case["torch_mode_f32"], "eager");
        assert_eq!(case["ratio_f32"], 4.);
        assert_eq!(case["torch_modes"]["compiled"]["failed"], "no compiler");
        assert_eq!(case["torch_modes"]["eager"]["iqr"], 0.2);
    }

    #[test]
    fn on_a_device_each_mode_has_its_ratio_and_goal() {
        let modes = vec![("eager", Ok(figures(1.))), ("compiled", Ok(figures(0.25)))];
        let mut outcome = outcome(Group::Train, "x", modes);
        outcome.case.goals = Goals::Each(&[("eager", 1.2)]);
        let case = &json(&[outcome])["train/x"];
        let modes = &case["torch_modes"];
        assert_eq!(
            (&modes["eager"]["ratio"], &modes["eager"]["goal"]),
            (&json!(2.), &json!(1.2))
        );
        assert_eq!(modes["compiled"]["ratio"], 0.5);
        assert_eq!(modes["compiled"]["goal"], Value::Null);
        assert_eq!(case["ratio_f32"], Value::Null);
    }

    #[test]
    fn without_pytorch_there_is_no_ratio() {
        let outcome = outcome(Group::Embed, "x", vec![]);
        assert_eq!(outcome.ratio(), None);
        assert_eq!(json(&[outcome])["embed/x"]["ratio"], Value::Null);
    }
}
