//! Where the ticks of an axis stand and what is written beside them.

/// Ticks of a linear axis at multiples of 1, 2 or 5 times a power of ten that lie in
/// `low..=high`, at most `most` of them (and at least two where the range allows).
pub(super) fn linear(low: f64, high: f64, most: usize) -> Vec<f64> {
    let most = most.max(2);
    let span = high - low;
    if !(span > 0.0 && span.is_finite()) {
        return vec![low];
    }
    let mut power = 10_f64.powf((span / most as f64).log10().floor());
    loop {
        for factor in [1.0, 2.0, 5.0] {
            let step = factor * power;
            let first = (low / step - 1e-9).ceil();
            let last = (high / step + 1e-9).floor();
            let count = last - first + 1.0;
            if count <= most as f64 {
                // Adding 0 turns -0 into 0.
                return (0..count.max(0.0) as usize)
                    .map(|i| (first + i as f64) * step + 0.0)
                    .collect();
            }
        }
        power *= 10.0;
    }
}

/// Ticks of a logarithmic axis over `low..=high`, both above 0: powers of ten, finer
/// where the range is short; at most `most` of them.
pub(super) fn logarithmic(low: f64, high: f64, most: usize) -> Vec<f64> {
    let most = most.max(2);
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let inside = |tick: &f64| *tick >= low * (1.0 - 1e-9) && *tick <= high * (1.0 + 1e-9);
    let at = |factors: &[f64], every: usize| -> Vec<f64> {
        (first..=last)
            .step_by(every)
            .flat_map(|power| factors.iter().map(move |f| f * 10_f64.powi(power)))
            .filter(inside)
            .collect()
    };
    let finest = at(&[1.0, 2.0, 5.0], 1);
    for factors in [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]] {
        let ticks = at(factors, 1);
        if (3..=most).contains(&ticks.len()) {
            return ticks;
        }
    }
    if finest.len() < 3 {
        return linear(low, high, most);
    }
    let every = ((last - first) as usize).div_ceil(most - 1).max(1);
    at(&[1.0], every)
}

/// Text of the ticks of a linear axis: all with as many decimals as tell them apart, or as powers of
/// ten where they are very large or very small.
pub(super) fn linear_labels(ticks: &[f64]) -> Vec<String> {
    let largest = ticks.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    if largest > 0.0 && !(1e-3..1e6).contains(&largest) {
        let labels: Vec<String> = ticks.iter().map(|&tick| short(tick)).collect();
        if labels.windows(2).all(|pair| pair[0] != pair[1]) {
            return labels;
        }
    }
    let step = match ticks {
        [first, second, ..] => second - first,
        _ => largest,
    };
    let places = decimals(step);
    ticks
        .iter()
        .map(|tick| format!("{tick:.places$}"))
        .collect()
}

/// Text of the ticks of a logarithmic axis: each with its own decimals, or all as powers of ten.
pub(super) fn logarithmic_labels(ticks: &[f64]) -> Vec<String> {
    if ticks.iter().all(|tick| (1e-3..1e6).contains(tick)) {
        let label = |tick: &f64| format!("{tick:.*}", decimals(*tick));
        ticks.iter().map(label).collect()
    } else {
        ticks.iter().map(|&tick| short(tick)).collect()
    }
}

/// How many decimals write `value` whole, at most 12.
fn decimals(value: f64) -> usize {
    let whole = |places: &i32| {
        let scaled = value * 10_f64.powi(*places);
        (scaled - scaled.round()).abs() <= 1e-6 * scaled.abs()
    };
    (0..12).find(whole).unwrap_or(12) as usize
}

/// A number with at most three digits after the point, as `2.5e-7`, without trailing zeros.
pub(super) fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_string();
    }
    let text = format!("{value:.3e}");
    match text.split_once('e') {
        Some((digits, power)) if digits.contains('.') => {
            let digits = digits.trim_end_matches('0').trim_end_matches('.');
            format!("{digits}e{power}")
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round_and_inside() {
        assert_eq!(
            linear_labels(&linear(0.0, 1.0, 6)),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            linear_labels(&linear(-0.3, 0.31, 5)),
            ["-0.2", "0.0", "0.2"]
        );
        assert_eq!(
            linear_labels(&linear(0.0, 12_000.0, 5)),
            ["0", "5000", "10000"]
        );
        assert_eq!(
            linear_labels(&linear(0.0, 4e8, 5)),
            ["0", "1e8", "2e8", "3e8", "4e8"]
        );
        assert_eq!(
            linear_labels(&linear(2e-7, 3.1e-7, 4)),
            ["2e-7", "2.5e-7", "3e-7"]
        );
    }

    #[test]
    fn there_are_never_more_ticks_than_asked_for() {
        for most in 2..12 {
            for (low, high) in [(0.0, 1.0), (-7.3, 912.4), (1e-9, 2e-9), (99.0, 101.0)] {
                let ticks = linear(low, high, most);
                assert!(ticks.len() <= most, "{low}..{high}, {most}: {ticks:?}");
                let ticks = logarithmic(low.abs().max(1e-9), high, most);
                assert!(ticks.len() <= most, "log {low}..{high}, {most}: {ticks:?}");
            }
        }
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten_on_long_ranges_and_finer_on_short_ones() {
        assert_eq!(
            logarithmic_labels(&logarithmic(0.01, 100.0, 6)),
            ["0.01", "0.1", "1", "10", "100"]
        );
        assert_eq!(
            logarithmic_labels(&logarithmic(0.9, 21.0, 6)),
            ["1", "2", "5", "10", "20"]
        );
        assert_eq!(logarithmic(1e-12, 1e12, 5).len(), 5);
        assert_eq!(
            logarithmic_labels(&logarithmic(1e-5, 1e-3, 5)),
            ["1e-5", "3e-5", "1e-4", "3e-4", "1e-3"]
        );
        assert!(logarithmic(3.0, 3.5, 5).len() >= 2);
    }

    #[test]
    fn a_range_of_nothing_has_one_tick() {
        assert_eq!(linear(3.0, 3.0, 5), [3.0]);
        assert_eq!(linear_labels(&[3.0]), ["3"]);
        assert_eq!(linear_labels(&[0.0]), ["0"]);
        assert_eq!(linear_labels(&[1e6, 1e6 + 0.5]), ["1000000.0", "1000000.5"]);
    }
}
