//! Line plots as SVG text.

use std::fmt::Write;

use super::axis::{Axis, Scale};
use super::html::escape;
use super::table::wrap;
use super::ticks;

/// One line of a plot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points (x, y), drawn in this order. The line breaks where one is not finite.
    pub points: Vec<(f64, f64)>,
}

/// A line plot of several series over one pair of axes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plot {
    /// What the plot shows.
    pub title: String,
    /// Name and unit of the horizontal axis.
    pub x_label: String,
    /// Name and unit of the vertical axis.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
    /// Scale of the horizontal axis.
    pub x_scale: Scale,
    /// Scale of the vertical axis.
    pub y_scale: Scale,
}

const WIDTH: f64 = 560.0;
/// Height of the area the lines stand in.
const HEIGHT: f64 = 240.0;
pub(super) const FONT: f64 = 14.0;
/// No character of a common sans-serif face is wider on average than this, in text of some length.
const CHARACTER: f64 = FONT * 0.62;
const LINE: f64 = FONT * 1.5;
/// A longer series is thinned to about this many points: more than the columns of pixels it covers.
const MOST_POINTS: usize = 1200;

/// Mid-tone colours with a contrast of at least 3 : 1 to both white and near-black, in an order
/// whose neighbours differ in lightness and for the colour-blind; the dashes tell lines apart in
/// grey.
const STYLES: [(&str, &str); 8] = [
    ("#1f7fd0", ""),
    ("#d9600f", "7 3"),
    ("#1a9161", "2 3"),
    ("#b65fc4", "9 3 2 3"),
    ("#a8800a", "12 4"),
    ("#e0457b", "4 2"),
    ("#5f7d8c", "1 2"),
    ("#7a74e0", "6 2 1 2 1 2"),
];

impl Plot {
    /// The plot as an `<svg>` element. It takes the width of its surroundings and their text colour,
    /// so it can be read on a light and on a dark page; alone in a file it brings its own style.
    pub fn to_svg(&self) -> String {
        let kept =
            |value: f64, scale: Scale| value.is_finite() && (scale == Scale::Linear || value > 0.0);
        let has_place = |&(x, y): &(f64, f64)| kept(x, self.x_scale) && kept(y, self.y_scale);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let drawn = points().filter(|point| has_place(point)).count();
        let finite = points()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .count();

        let placed = || points().copied().filter(has_place);
        let mut x = Axis::new(self.x_scale, placed().map(|point| point.0), 0.0);
        let mut y = Axis::new(self.y_scale, placed().map(|point| point.1), 0.05);
        let y_ticks = if drawn == 0 { Vec::new() } else { y.ticks(6) };
        let widest = y_ticks
            .iter()
            .map(|(_, text)| text_width(text))
            .fold(0.0, f64::max);

        let left = widest + 2.5 * LINE;
        let title = wrap(&self.title, ((WIDTH - left) / CHARACTER) as usize);
        let title_height = (title.len() as f64 + 0.6) * LINE;
        let (legend, legend_height) = self.legend(left, title_height);
        let top = title_height + legend_height;
        (x.from, x.to) = (left, WIDTH - 2.0 * LINE);
        (y.from, y.to) = (top + HEIGHT, top);
        let bottom = top + HEIGHT;
        let mut notes = Vec::new();
        if finite > drawn {
            notes.push(format!("{} points at or below 0 not shown", finite - drawn));
        }
        if points().count() > finite {
            notes.push(format!("{} points not finite", points().count() - finite));
        }
        let height = bottom + 2.8 * LINE + if notes.is_empty() { 0.0 } else { LINE };

        let mut svg = format!(
            r#"<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{}" font-family="system-ui, sans-serif" font-size="{FONT}" fill="currentColor"><style>.plot{{color:#1c2024}}@media(prefers-color-scheme:dark){{.plot{{color:#e6e8ea}}}}</style>"#,
            escape(&self.description())
        );
        for (index, title) in title.iter().enumerate() {
            let y = LINE * (index as f64 + 1.0);
            text(&mut svg, left, y, "start", title, r#" font-weight="600""#);
        }
        svg.push_str(&legend);
        for (value, label) in &y_ticks {
            let at = y.place(*value);
            line(&mut svg, (x.from, at), (x.to, at), 0.15);
            text(&mut svg, left - 6.0, at + FONT * 0.35, "end", label, "");
        }
        if drawn > 0 {
            for (value, label) in &x.ticks_beside_each_other() {
                let at = x.place(*value);
                line(&mut svg, (at, bottom), (at, bottom + 5.0), 0.6);
                text(&mut svg, at, bottom + 1.2 * LINE, "middle", label, "");
            }
        }
        line(&mut svg, (x.from, bottom), (x.to, bottom), 0.6);
        text(
            &mut svg,
            (x.from + x.to) / 2.0,
            bottom + 2.2 * LINE,
            "middle",
            &shorten(&self.x_label, x.to - x.from),
            "",
        );
        let (middle, turned) = (top + HEIGHT / 2.0, LINE * 0.8);
        text(
            &mut svg,
            turned,
            middle,
            "middle",
            &shorten(&self.y_label, HEIGHT),
            &format!(r#" transform="rotate(-90 {turned:.1} {middle:.1})""#),
        );
        for (index, series) in self.series.iter().enumerate() {
            for run in series.points.split(|point| !has_place(point)) {
                let run: Vec<(f64, f64)> =
                    run.iter().map(|&(a, b)| (x.place(a), y.place(b))).collect();
                curve(&mut svg, index, &thin(&run));
            }
        }
        if drawn == 0 {
            let middle = (x.from + x.to) / 2.0;
            text(
                &mut svg,
                middle,
                top + HEIGHT / 2.0,
                "middle",
                "no data",
                "",
            );
        }
        if !notes.is_empty() {
            text(
                &mut svg,
                x.from,
                height - LINE * 0.4,
                "start",
                &notes.join("; "),
                r#" font-style="italic""#,
            );
        }
        svg.push_str("</svg>");
        svg
    }

    /// The plot in words, for those who cannot see it.
    fn description(&self) -> String {
        let mut text = format!("{}. {} over {}.", self.title, self.y_label, self.x_label);
        for series in &self.series {
            let finite = |point: &&(f64, f64)| point.0.is_finite() && point.1.is_finite();
            let mut ends = series.points.iter().filter(finite);
            match (ends.next(), ends.next_back()) {
                (Some(first), Some(last)) => {
                    let _ = write!(
                        text,
                        " {}: from {} to {}.",
                        series.name,
                        ticks::short(first.1),
                        ticks::short(last.1)
                    );
                }
                (Some(only), None) => {
                    let _ = write!(text, " {}: {}.", series.name, ticks::short(only.1));
                }
                _ => {
                    let _ = write!(text, " {}: no data.", series.name);
                }
            }
        }
        text
    }

    /// The names of the series, in as many lines as they need below `top`, and their height.
    fn legend(&self, left: f64, top: f64) -> (String, f64) {
        let mut svg = String::new();
        let (mut at, mut line) = (left, 0.0);
        for (index, series) in self.series.iter().enumerate() {
            let name = shorten(&series.name, WIDTH - left - 60.0);
            let width = 34.0 + text_width(&name) + 1.5 * FONT;
            if at + width > WIDTH && at > left {
                (at, line) = (left, line + LINE);
            }
            let y = top + line + LINE * 0.6;
            curve(
                &mut svg,
                index,
                &[(at, y - FONT * 0.35), (at + 28.0, y - FONT * 0.35)],
            );
            text(&mut svg, at + 34.0, y, "start", &name, "");
            at += width;
        }
        let lines = if self.series.is_empty() {
            0.0
        } else {
            line + LINE * 1.4
        };
        (svg, lines)
    }
}

/// An upper bound of the width of `text` as drawn.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// `text`, cut with an ellipsis where it is wider than `width`.
fn shorten(text: &str, width: f64) -> String {
    let room = (width / CHARACTER) as usize;
    if text.chars().count() <= room {
        return text.to_string();
    }
    let mut short: String = text.chars().take(room.saturating_sub(1)).collect();
    short.push('\u{2026}');
    short
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str, more: &str) {
    let text = escape(text);
    let _ = write!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}"{more}>{text}</text>"#
    );
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), opacity: f64) {
    let _ = write!(
        svg,
        r#"<path d="M{:.1} {:.1}L{:.1} {:.1}" stroke="currentColor" stroke-opacity="{opacity}"/>"#,
        from.0, from.1, to.0, to.1
    );
}

/// Colour and dashes of series `index`: a colour that comes again has other dashes.
fn style(index: usize) -> (&'static str, &'static str) {
    let n = STYLES.len();
    (STYLES[index % n].0, STYLES[(index + 3 * (index / n)) % n].1)
}

/// A line through `points` in the style of series `index`; a lone point is a dot.
fn curve(svg: &mut String, index: usize, points: &[(f64, f64)]) {
    let (colour, dashes) = style(index);
    match points {
        [] => {}
        [(x, y)] => {
            let _ = write!(
                svg,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#
            );
        }
        _ => {
            let mut path = String::new();
            for (at, (x, y)) in points.iter().enumerate() {
                let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" });
            }
            let dashes = if dashes.is_empty() {
                String::new()
            } else {
                format!(r#" stroke-dasharray="{dashes}""#)
            };
            let _ = write!(
                svg,
                r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"{dashes}/>"#
            );
        }
    }
}

/// The first, lowest, highest and last point of each stretch of a long line, so that peaks stay.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(MOST_POINTS + 4);
    for stretch in points.chunks(points.len().div_ceil(MOST_POINTS / 4)) {
        let by_height = |a: &usize, b: &usize| stretch[*a].1.total_cmp(&stretch[*b].1);
        let lowest = (0..stretch.len()).min_by(by_height).unwrap_or(0);
        let highest = (0..stretch.len()).max_by(by_height).unwrap_or(0);
        let mut chosen = [0, lowest, highest, stretch.len() - 1];
        chosen.sort_unstable();
        for (at, index) in chosen.iter().enumerate() {
            if at == 0 || chosen[at - 1] != *index {
                kept.push(stretch[*index]);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>, y_scale: Scale) -> Plot {
        Plot {
            title: "Loss <total>".into(),
            x_label: "step".into(),
            y_label: "loss".into(),
            series: vec![Series {
                name: "run & co".into(),
                points,
            }],
            y_scale,
            ..Plot::default()
        }
    }

    #[test]
    fn no_two_of_many_series_look_alike() {
        let styles: std::collections::BTreeSet<_> = (0..4 * STYLES.len()).map(style).collect();
        assert_eq!(styles.len(), 4 * STYLES.len());
    }

    #[test]
    fn names_are_escaped_and_nothing_outside_is_referred_to() {
        let svg = plot(vec![(0.0, 1.0), (1.0, 2.0)], Scale::Linear).to_svg();
        assert!(svg.contains("Loss &lt;total&gt;") && svg.contains("run &amp; co"));
        assert!(!svg.contains("<total>"));
        assert_eq!(svg.matches("http").count(), svg.matches("xmlns=").count());
    }

    #[test]
    fn the_line_breaks_at_points_without_a_place_and_says_so() {
        let points = vec![
            (0.0, 1.0),
            (1.0, 2.0),
            (2.0, 0.0),
            (3.0, 2.0),
            (4.0, 3.0),
            (5.0, f64::NAN),
        ];
        let svg = plot(points, Scale::Logarithmic).to_svg();
        // One path in the legend, two in the plot.
        assert_eq!(svg.matches("stroke-linejoin").count(), 3);
        assert!(svg.contains("1 points at or below 0 not shown; 1 points not finite"));
    }

    #[test]
    fn a_plot_of_nothing_says_no_data_and_one_of_a_constant_is_finite() {
        assert!(plot(vec![], Scale::Linear).to_svg().contains("no data"));
        for value in [0.0, 5.0, -1e9, 1e-300] {
            let svg = plot(vec![(0.0, value), (1.0, value)], Scale::Linear).to_svg();
            assert!(
                !svg.contains("NaN") && !svg.contains("inf"),
                "{value}: {svg}"
            );
        }
        let svg = plot(vec![(7.0, 3.0)], Scale::Logarithmic).to_svg();
        assert!(svg.contains("<circle") && !svg.contains("NaN"));
    }

    #[test]
    fn a_long_line_is_thinned_and_keeps_its_peaks() {
        let mut points: Vec<(f64, f64)> = (0..50_000).map(|i| (i as f64, 0.0)).collect();
        points[31_234].1 = 9.0;
        points[777].1 = -9.0;
        let kept = thin(&points);
        assert!(kept.len() <= MOST_POINTS + 4);
        assert!(kept.contains(&(31_234.0, 9.0)) && kept.contains(&(777.0, -9.0)));
        assert_eq!((kept[0].0, kept[kept.len() - 1].0), (0.0, 49_999.0));
        assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
