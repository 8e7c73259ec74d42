//! How well the masks and maps of a study's arms hit the parts that tell classes apart.

use serde::Serialize;
use serde_json::Value;

use super::compare::Spread;
use fgvr_report::{Align, Table};

/// One hit in one run, beside what chance gives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// What was measured: `mask`, or the name of an add-on with a map.
    pub of: String,
    /// For a mask, the share of activation on the parts of kept channels less that of masked ones; for a
    /// map, the share of it on the parts.
    pub hit: f64,
    /// The same of a random mask of equal size, or of the map's values in a random order of places.
    pub random: f64,
}

/// A hit over seeds.
#[derive(Clone, Debug, Serialize)]
pub struct HitReport {
    /// The arm.
    pub arm: String,
    /// What was measured: `mask`, or the name of an add-on with a map.
    pub of: String,
    /// Mean and s.d. of [`Hit::hit`] over seeds.
    pub hit: Spread,
    /// Mean and s.d. of [`Hit::random`] over seeds.
    pub random: Spread,
}

/// The hits that `eval.json` holds; none for a set that does not know its parts.
pub(super) fn hits(evaluation: &Value) -> Vec<Hit> {
    let parts = &evaluation["parts"];
    let number = |value: &Value| value.as_f64();
    let mask =
        number(&parts["mask"]["difference"]).zip(number(&parts["random_mask"]["difference"]));
    let mask = mask.map(|(hit, random)| Hit {
        of: "mask".to_owned(),
        hit,
        random,
    });
    let maps = parts["maps"].as_array().into_iter().flatten();
    let maps = maps.filter_map(|map| {
        Some(Hit {
            of: map["addon"].as_str()?.to_owned(),
            hit: number(&map["share"])?,
            random: number(&map["shuffled"])?,
        })
    });
    mask.into_iter().chain(maps).collect()
}

/// The hits of an arm's runs, each kind over seeds.
pub(super) fn reports(arm: &str, runs: &[&[Hit]]) -> Vec<HitReport> {
    let mut kinds: Vec<&str> = Vec::new();
    for hit in runs.iter().copied().flatten() {
        if !kinds.contains(&hit.of.as_str()) {
            kinds.push(&hit.of);
        }
    }
    let report = |of: &str| {
        let all = runs.iter().copied().flatten();
        let all: Vec<&Hit> = all.filter(|hit| hit.of == of).collect();
        let spread = |value: fn(&Hit) -> f64| {
            Spread::of(&all.iter().map(|hit| value(hit)).collect::<Vec<_>>())
        };
        Some(HitReport {
            arm: arm.to_owned(),
            of: of.to_owned(),
            hit: spread(|hit| hit.hit)?,
            random: spread(|hit| hit.random)?,
        })
    };
    kinds.into_iter().filter_map(report).collect()
}

/// In percent: mean and s.d. over seeds.
pub(super) fn table(reports: &[HitReport]) -> Table {
    let mut table = Table::new(&[
        ("arm", Align::Left),
        ("of", Align::Left),
        ("hit", Align::Right),
        ("random", Align::Right),
    ]);
    let percent = |spread: &Spread| match spread.sd {
        Some(sd) => format!("{:.2} ({:.2})", 100. * spread.mean, 100. * sd),
        None => format!("{:.2}", 100. * spread.mean),
    };
    for report in reports {
        let of = match report.of.as_str() {
            "mask" => "mask: kept - masked".to_owned(),
            other => format!("map of {other}"),
        };
        table.push([
            report.arm.clone(),
            of,
            percent(&report.hit),
            percent(&report.random),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_read_and_put_together_over_seeds() {
        let evaluation = |hit: f64| {
            serde_json::json!({"parts": {
                "mask": {"difference": hit}, "random_mask": {"difference": 0.},
                "maps": [{"addon": "lcr", "share": 2. * hit, "shuffled": 0.045}],
            }})
        };
        let [first, second] = [0.01, 0.03].map(|hit| hits(&evaluation(hit)));
        let reports = reports("both", &[&first, &second]);
        let found: Vec<_> = reports
            .iter()
            .map(|r| (r.of.as_str(), r.hit.mean))
            .collect();
        assert_eq!(found, [("mask", 0.02), ("lcr", 0.04)]);
        let text = table(&reports).to_markdown();
        assert!(
            text.contains("4.00 (2.83)") && text.contains("4.50 (0.00)"),
            "{text}"
        );
        assert!(hits(&serde_json::json!({"parts": null})).is_empty());
    }
}
