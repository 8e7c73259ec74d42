//! What was measured, for people.
#![cfg_attr(not(any(test, feature = "cuda")), allow(dead_code))]

use super::outcome::{Outcome, Row};

/// At most 100 columns.
pub(super) fn text(outcome: &Outcome) -> String {
    let ceilings = &outcome.ceilings;
    let mut products = vec![format!("bf16 {}", tera(ceilings.bf16))];
    products.push(format!("f32 {}", tera(ceilings.f32)));
    products.extend(ceilings.tf32.map(|rate| format!("tf32 {}", tera(rate))));
    let mut lines = vec![
        format!(
            "{} ({}), {} rounds",
            outcome.gpu, outcome.target, outcome.rounds
        ),
        format!(
            "ceilings: memory {:.0} GB/s; TFLOP/s of products: {}",
            ceilings.memory / 1e9,
            products.join(", ")
        ),
        String::new(),
        columns(
            "case",
            ["us", "quartiles", "GB/s", "TFLOP/s", "share"],
            "of",
        ),
    ];
    lines.extend(outcome.rows.iter().map(|row| line(outcome, row)));
    lines.join("\n")
}

fn line(outcome: &Outcome, row: &Row) -> String {
    let name = &row.work.name;
    let times = match &row.result {
        Ok(times) => times,
        Err(why) => return format!("{name:38} failed\n  {why}"),
    };
    let rates = outcome.rates(&row.work, times);
    let operations = match row.work.operations {
        0 => String::new(),
        _ => tera(rates.operations),
    };
    let cells = [
        micro(times.gpu.median),
        format!("{}-{}", micro(times.gpu.first), micro(times.gpu.third)),
        format!("{:.0}", rates.bytes / 1e9),
        operations,
        format!("{:.0}%", 100. * rates.share),
    ];
    let mark = match (rates.by_host, rates.cached) {
        (true, _) => " host",
        (_, true) => " cache",
        _ => "",
    };
    let cells = cells.each_ref().map(String::as_str);
    columns(name, cells, &format!("{}{mark}", rates.of))
}

fn columns(
    name: &str,
    [median, quartiles, bytes, operations, share]: [&str; 5],
    of: &str,
) -> String {
    let line =
        format!("{name:38} {median:>7} {quartiles:>15} {bytes:>6} {operations:>7} {share:>5} {of}");
    line.trim_end().to_owned()
}

/// Four digits where there is room for them.
fn micro(seconds: f64) -> String {
    digits(seconds * 1e6)
}

fn tera(rate: f64) -> String {
    digits(rate / 1e12)
}

fn digits(value: f64) -> String {
    match value {
        v if v < 10. => format!("{v:.2}"),
        v if v < 1000. => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use fgvr_cuda::bench::{Case, Scale, cases};

    use super::super::outcome::{Ceilings, Quartiles, Times};
    use super::*;

    fn outcome(seconds: f64) -> Outcome {
        let times = Times {
            gpu: Quartiles::of(&[seconds, 1.1 * seconds, 1.2 * seconds, 1.3 * seconds]),
            host: seconds,
            repeats: 3,
        };
        let row = |case: Case| Row {
            work: case.work,
            result: Ok(times),
        };
        Outcome {
            gpu: "a GPU".into(),
            target: "sm_90a".into(),
            cache: 50 << 20,
            rounds: 10,
            measured: Vec::new(),
            ceilings: Ceilings {
                memory: 3e12,
                bf16: 7e14,
                f32: 5e13,
                tf32: Some(4e14),
            },
            rows: cases(Scale::Training).into_iter().map(row).collect(),
        }
    }

    #[test]
    fn no_line_is_longer_than_100_columns() {
        for seconds in [1.234e-6, 1e-4, 0.0987] {
            let text = text(&outcome(seconds));
            assert!(text.lines().count() > 40);
            for line in text.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
    }

    #[test]
    fn the_share_is_that_of_the_nearer_ceiling() {
        let outcome = outcome(1e-3);
        let rates = |name: &str| {
            let row = outcome
                .rows
                .iter()
                .find(|row| row.work.name == name)
                .unwrap();
            outcome.rates(&row.work, row.result.as_ref().unwrap())
        };
        // 1 KiB of factors a value: arithmetic. 1.15 ms, the median of the four.
        let product = rates("conv: block 3x3 f32, forward");
        let operations = 2. * (256_u64 * 28 * 28 * 128 * 128 * 9) as f64;
        assert_eq!(product.of, "tf32");
        assert!((product.share - operations / 1.15e-3 / 4e14).abs() < 1e-9);
        let statistics = rates("norm: stem, statistics");
        let bytes = 2. * (256 * 112 * 112 * 64) as f64;
        assert_eq!(statistics.of, "memory");
        assert!((statistics.share - bytes / 1.15e-3 / 3e12).abs() < 1e-9);
    }

    #[test]
    fn quartiles_are_linear_between_values() {
        let found = Quartiles::of(&[4., 1., 3., 2.]);
        assert_eq!([found.first, found.median, found.third], [1.75, 2.5, 3.25]);
    }

    #[test]
    fn a_case_that_failed_says_why_in_both_outputs() {
        let mut outcome = outcome(1e-3);
        outcome.rows[0].result = Err("out of GPU memory".into());
        assert!(text(&outcome).contains("failed\n  out of GPU memory"));
        let json = outcome.json();
        assert_eq!(json["cases"][0]["error"], "out of GPU memory");
        assert_eq!(json["cases"][1]["repeats"], 3);
    }
}
