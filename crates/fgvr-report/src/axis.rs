//! The axes of a plot.

use super::svg::{FONT, text_width};
use super::ticks;

/// How values are laid along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps for equal differences.
    #[default]
    Linear,
    /// Equal steps for equal ratios. Values of 0 and below have no place and are left out; the plot
    /// says how many.
    Logarithmic,
}

/// One axis: the range of its values and its place in the picture.
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    /// Where `low` and `high` stand, in the units of the picture.
    pub(super) from: f64,
    pub(super) to: f64,
}

impl Axis {
    pub(super) fn new(scale: Scale, values: impl Iterator<Item = f64>, margin: f64) -> Self {
        let (mut low, mut high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| {
            (a.min(v), b.max(v))
        });
        if low > high {
            (low, high) = (1.0, 2.0);
        }
        match scale {
            Scale::Linear => {
                // A constant gets room above and below, relative to its own size.
                let span = high - low;
                let room = if span > 1e-12 * high.abs().max(low.abs()) && span > 0.0 {
                    span * margin
                } else {
                    high.abs().max(1e-3) * 0.1
                };
                (low, high) = (low - room, high + room);
            }
            Scale::Logarithmic => {
                let ratio = (high / low)
                    .powf(margin)
                    .max(if high > low { 1.0 } else { 1.5 });
                (low, high) = (low / ratio, high * ratio);
            }
        }
        Self {
            scale,
            low,
            high,
            from: 0.0,
            to: 0.0,
        }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        self.from + part * (self.to - self.from)
    }

    /// Ticks and their text, at most `most` of them.
    pub(super) fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        let (ticks, labels) = match self.scale {
            Scale::Linear => {
                let ticks = ticks::linear(self.low, self.high, most);
                let labels = ticks::linear_labels(&ticks);
                (ticks, labels)
            }
            Scale::Logarithmic => {
                let ticks = ticks::logarithmic(self.low, self.high, most);
                let labels = ticks::logarithmic_labels(&ticks);
                (ticks, labels)
            }
        };
        ticks.into_iter().zip(labels).collect()
    }

    /// As many ticks as fit a horizontal axis without their texts touching.
    pub(super) fn ticks_beside_each_other(&self) -> Vec<(f64, String)> {
        let mut most = 8;
        loop {
            let ticks = self.ticks(most);
            let apart = ticks.windows(2).all(|pair| {
                let room = self.place(pair[1].0) - self.place(pair[0].0);
                room > (text_width(&pair[0].1) + text_width(&pair[1].1)) / 2.0 + FONT
            });
            if apart || most == 2 {
                return ticks;
            }
            most -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_values_stand_higher_and_inside_the_picture() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let mut axis = Axis::new(scale, [0.01, 100.0].into_iter(), 0.05);
            (axis.from, axis.to) = (300.0, 20.0);
            let places: Vec<f64> = [0.01, 1.0, 100.0].map(|v| axis.place(v)).to_vec();
            assert!(places[0] > places[1] && places[1] > places[2], "{places:?}");
            assert!(places[0] < 300.0 && places[2] > 20.0, "{places:?}");
        }
    }

    #[test]
    fn tick_texts_of_the_horizontal_axis_do_not_touch() {
        for high in [1.0, 12_345.0, 999_999.0, 3e12] {
            let mut axis = Axis::new(Scale::Linear, [0.0, high].into_iter(), 0.0);
            (axis.from, axis.to) = (60.0, 700.0);
            let ticks = axis.ticks_beside_each_other();
            assert!(ticks.len() >= 2, "{high}");
            for pair in ticks.windows(2) {
                let room = axis.place(pair[1].0) - axis.place(pair[0].0);
                assert!(room > (text_width(&pair[0].1) + text_width(&pair[1].1)) / 2.0);
            }
        }
    }
}
