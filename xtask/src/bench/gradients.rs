//! The gradients of one training step, compared with PyTorch's in f64.
//!
//! Our program writes the step to a file, PyTorch's repeats it from there and answers with errors:
//! max|a - b| / max|b| of each parameter. benches/torch/gradients.py says what `plain` and `decided` are.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::case::Case;
use super::effort::unit;
use super::programs::Programs;
use crate::progress::Progress;
use crate::scratch::Folder;
use crate::table::Table;

/// What no parameter's error may exceed, ReLUs decided alike.
pub(super) const MOST: f64 = 1e-4;

/// The errors of one side, over all parameters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Errors {
    worst: f64,
    /// Whose the worst is.
    parameter: String,
    median: f64,
}

impl Errors {
    fn read(value: &Value) -> Result<Self> {
        Ok(Self {
            worst: number(value, "worst")?,
            parameter: value["parameter"].as_str().context("no parameter")?.into(),
            median: number(value, "median")?,
        })
    }
}

/// One side against f64.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Side {
    name: String,
    plain: Errors,
    decided: Errors,
    /// ReLUs that f64 decided otherwise.
    turned: u64,
    /// The largest input of one of them, over the root mean square of its layer's.
    furthest: f64,
}

impl Side {
    fn read(name: &str, value: &Value) -> Result<Self> {
        Ok(Self {
            name: name.to_string(),
            plain: Errors::read(&value["plain"])?,
            decided: Errors::read(&value["decided"])?,
            turned: value["turned"].as_u64().context("no number of ReLUs")?,
            furthest: number(value, "furthest")?,
        })
    }
}

/// A network's gradients.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparison {
    case: Case,
    /// Tensors that have a gradient.
    parameters: u64,
    /// Ours, and PyTorch's in f32.
    ours: Side,
    torch: Side,
}

impl Comparison {
    fn read(case: &Case, answer: &Value) -> Result<Self> {
        let side = |name: &str| {
            Side::read(name, &answer["sides"][name])
                .with_context(|| format!("it said {answer} of {name}"))
        };
        Ok(Self {
            case: case.clone(),
            parameters: answer["parameters"].as_u64().context("no parameters")?,
            ours: side("fgvr")?,
            torch: side("torch f32")?,
        })
    }

    /// Whether ours are what they should be.
    pub(super) fn right(&self) -> bool {
        self.ours.decided.worst <= MOST
    }
}

fn number(value: &Value, field: &str) -> Result<f64> {
    value[field]
        .as_f64()
        .with_context(|| format!("no {field} in {value}"))
}

/// Takes the step on both sides.
pub(super) fn compare(
    case: &Case,
    programs: &Programs,
    progress: &mut Progress,
) -> Result<Comparison> {
    let name = case.name();
    progress.now(&name, "preparing");
    let folder = Folder::new("fgvr-bench")?;
    let file = folder.path().join("step.safetensors");
    let request = format!("gradients {} {}", case.size, file.display());
    let written = programs.start_ours()?.ask(&request)?;
    progress.step(unit(case.group));
    progress.now(&name, "torch");
    let mode = case
        .group
        .modes(programs.target)
        .first()
        .context("no mode")?;
    let answer = programs.start_torch(case.group, mode)?.ask(&request)?;
    progress.step(unit(case.group));
    let comparison = Comparison::read(case, &answer)?;
    ensure!(
        written["parameters"] == answer["parameters"],
        "fgvr wrote {written}, PyTorch read {answer}"
    );
    Ok(comparison)
}

/// Two rows a network: ours, and what PyTorch's own f32 loses.
pub(super) fn table(comparisons: &[Comparison]) -> Table {
    let mut table = Table::new(&[
        "network",
        "tensors",
        "side",
        "worst",
        "of",
        "median",
        "turned",
        "furthest",
        "plain",
        "its median",
    ]);
    for comparison in comparisons {
        for (at, side) in [&comparison.ours, &comparison.torch].iter().enumerate() {
            let first = |text: String| if at == 0 { text } else { String::new() };
            table.row(vec![
                first(comparison.case.size.clone()),
                first(comparison.parameters.to_string()),
                side.name.clone(),
                shown(side.decided.worst),
                side.decided.parameter.clone(),
                shown(side.decided.median),
                side.turned.to_string(),
                match side.turned {
                    0 => String::new(),
                    _ => shown(side.furthest),
                },
                shown(side.plain.worst),
                shown(side.plain.median),
            ]);
        }
    }
    table
}

fn shown(error: f64) -> String {
    format!("{error:.1e}")
}

/// What is wrong, a line each.
pub(super) fn failures(comparisons: &[Comparison]) -> Vec<String> {
    let wrong = comparisons.iter().filter(|comparison| !comparison.right());
    wrong
        .map(|comparison| {
            format!(
                "{}: the error of {} is {}, above {}",
                comparison.case.name(),
                comparison.ours.decided.parameter,
                shown(comparison.ours.decided.worst),
                shown(MOST),
            )
        })
        .collect()
}

/// An object of cases by name.
pub(super) fn json(comparisons: &[Comparison]) -> Map<String, Value> {
    let errors = |errors: &Errors| {
        json!({
            "worst": errors.worst,
            "parameter": errors.parameter,
            "median": errors.median,
        })
    };
    let side = |side: &Side| {
        json!({
            "decided": errors(&side.decided),
            "plain": errors(&side.plain),
            "turned": side.turned,
            "furthest": side.furthest,
        })
    };
    let cases = comparisons.iter().map(|comparison| {
        let value = json!({
            "unit": "max|a-b|/max|b|",
            "parameters": comparison.parameters,
            "ours": side(&comparison.ours),
            "torch_f32": side(&comparison.torch),
            "most": MOST,
            "right": comparison.right(),
        });
        (comparison.case.name(), value)
    });
    cases.collect()
}

#[cfg(test)]
mod tests {
    use super::super::case::{Goals, Group};
    use super::*;

    fn answer(worst: f64) -> Value {
        let side = |worst: f64| {
            json!({
                "plain": { "worst": 0.25, "parameter": "layer4.2.conv2.weight", "median": 0.004 },
                "decided": { "worst": worst, "parameter": "layer4.1.bn1.weight", "median": 3e-6 },
                "turned": 16,
                "close": 3832,
                "furthest": 4.6e-6,
            })
        };
        json!({
            "gradients": "resnet50-224-b4",
            "parameters": 161,
            "loss": 7.2,
            "sides": { "fgvr": side(worst), "torch f32": side(2e-5) },
        })
    }

    fn comparison(worst: f64) -> Comparison {
        let case = Case {
            group: Group::Gradients,
            size: "resnet50-224-b4".into(),
            goals: Goals::Best(None),
        };
        Comparison::read(&case, &answer(worst)).unwrap()
    }

    #[test]
    fn an_error_above_the_limit_fails_and_is_named() {
        assert!(comparison(1e-4).right());
        assert!(!comparison(1.1e-4).right());
        let mut unknown = comparison(0.);
        unknown.ours.decided.worst = f64::NAN;
        assert!(!unknown.right());
        let failures = failures(&[comparison(9e-6), comparison(2e-3)]);
        assert_eq!(
            failures,
            ["gradients/resnet50-224-b4: the error of layer4.1.bn1.weight is 2.0e-3, above 1.0e-4"]
        );
    }

    #[test]
    fn both_sides_stand_below_each_other() {
        let text = table(&[comparison(9e-6)]).text();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let after = ["16", "4.6e-6", "2.5e-1", "4.0e-3"];
        assert_eq!(
            rows[1][..6],
            [
                "resnet50-224-b4",
                "161",
                "fgvr",
                "9.0e-6",
                "layer4.1.bn1.weight",
                "3.0e-6"
            ]
        );
        assert_eq!(rows[1][6..], after);
        assert_eq!(rows[2][..3], ["torch", "f32", "2.0e-5"]);
        assert_eq!(
            json(&[comparison(9e-6)])["gradients/resnet50-224-b4"]["ours"]["turned"],
            16
        );
    }

    #[test]
    fn an_answer_that_lacks_a_figure_is_an_error() {
        let mut answer = answer(1e-6);
        answer["sides"]["fgvr"]["decided"]["worst"] = Value::Null;
        let case = comparison(0.).case;
        let error = format!("{:#}", Comparison::read(&case, &answer).unwrap_err());
        assert!(error.contains("no worst"), "{error}");
    }
}
