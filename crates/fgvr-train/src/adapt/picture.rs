//! `adapt.svg`: what was measured, as bars with intervals.

use std::fmt::Write as _;

use fgvr_eval::Interval;

use super::{Adapted, Measure};
use fgvr_report::escape;

const WIDTH: f64 = 720.;
/// Where bars begin and end; names stand before, values behind.
const FROM: f64 = 190.;
const TO: f64 = 560.;
const LINE: f64 = 22.;
const BAR: f64 = 13.;

/// One bar.
struct Bar {
    name: String,
    value: f64,
    interval: Option<(f64, f64)>,
    colour: &'static str,
}

/// Bars of one measure.
struct Panel {
    title: String,
    bars: Vec<Bar>,
}

/// Colours with a contrast of at least 3 : 1 to both white and near-black.
fn colour(name: &str) -> &'static str {
    match name {
        "adapted" | "start, adapted" | "trained, adapted" => "#1f7fd0",
        "plain" | "start" => "#5f7d8c",
        "trained" => "#1a9161",
        "centred" => "#8a8f98",
        "nuisance" | "nuisance-neighbours" => "#7a74e0",
        _ => "#d9600f",
    }
}

/// The picture, as an `<svg>` that stands alone, on a light and on a dark page.
pub(super) fn picture(adapted: &Adapted) -> String {
    let panels = panels(adapted);
    let lines: usize = panels.iter().map(|panel| panel.bars.len()).sum();
    let height = LINE * (2.2 * panels.len() as f64 + lines as f64 + 3.4);
    let of = match &adapted.training {
        Some(training) if training.is_taken => " (of the trained network)",
        Some(_) => " (of the start)",
        None => "",
    };
    let title = format!("gate: {}{of}", adapted.gate.answer);
    let mut svg = format!(
        r#"<svg class="adapt" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{}" font-family="system-ui, sans-serif" font-size="14" fill="currentColor"><style>.adapt{{color:#1c2024}}@media(prefers-color-scheme:dark){{.adapt{{color:#e6e8ea}}}}</style>"#,
        escape(&described(&title, &panels))
    );
    let mut y = LINE;
    text(&mut svg, (16., y), "start", &title, " font-weight=\"600\"");
    for panel in &panels {
        y += 1.6 * LINE;
        text(
            &mut svg,
            (16., y),
            "start",
            &panel.title,
            " font-weight=\"600\"",
        );
        y += 0.6 * LINE;
        let top = panel.bars.iter().map(|bar| {
            bar.interval
                .map_or(bar.value, |(_, high)| high.max(bar.value))
        });
        let top = top.fold(0., f64::max).max(1e-9);
        for bar in &panel.bars {
            draw(&mut svg, bar, y, top);
            y += LINE;
        }
    }
    let note = match adapted.training {
        Some(_) => "percent; lines are 95 % intervals over classes",
        None => "percent; lines are 95 % intervals over classes; orange bars are controls",
    };
    text(
        &mut svg,
        (16., y + LINE),
        "start",
        note,
        " font-size=\"12\" fill-opacity=\"0.7\"",
    );
    svg.push_str("</svg>\n");
    svg
}

fn panels(adapted: &Adapted) -> Vec<Panel> {
    let mut panels = Vec::new();
    for measure in [Measure::FoundFirst, Measure::Agreement] {
        let bars = adapted.label_free.iter().filter_map(|row| {
            let value = match measure {
                Measure::Agreement => row.agreement?,
                _ => row.found_first?,
            };
            Some(Bar {
                value,
                interval: None,
                colour: colour(&row.name),
                name: row.name.clone(),
            })
        });
        let bars: Vec<Bar> = bars.collect();
        if !bars.is_empty() {
            panels.push(Panel {
                title: format!(
                    "Without labels, {} held-out photos: {}",
                    adapted.gate.photos,
                    measure.name()
                ),
                bars,
            });
        }
    }
    let Some(table) = &adapted.table else {
        return panels;
    };
    let bar = |name: &str, of: &Interval| Bar {
        name: name.to_owned(),
        value: of.mean,
        interval: Some((of.low, of.high)),
        colour: colour(name),
    };
    let who = format!("{} {} photos", table.queries, table.queries_of.name());
    panels.push(Panel {
        title: format!("kNN of {who}"),
        bars: table
            .rows
            .iter()
            .map(|row| bar(&row.name, &row.knn.value))
            .collect(),
    });
    panels.push(Panel {
        title: format!("Mean average precision for {who}"),
        bars: table
            .rows
            .iter()
            .map(|row| bar(&row.name, &row.map.value))
            .collect(),
    });
    panels
}

/// One bar at the height `y`, of which `top` fills the width.
fn draw(svg: &mut String, bar: &Bar, y: f64, top: f64) {
    let place = |value: f64| FROM + (TO - FROM) * (value / top).clamp(0., 1.);
    let middle = y + BAR / 2.;
    text(svg, (FROM - 10., middle + 5.), "end", &bar.name, "");
    let _ = write!(
        svg,
        r#"<rect x="{FROM}" y="{y:.1}" width="{:.1}" height="{BAR}" rx="2" fill="{}"/>"#,
        (place(bar.value) - FROM).max(1.),
        bar.colour
    );
    let mut shown = format!("{:.1}", 100. * bar.value);
    if let Some((low, high)) = bar.interval {
        let (low_at, high_at) = (place(low), place(high));
        let _ = write!(
            svg,
            r#"<path d="M{low_at:.1} {middle:.1}H{high_at:.1}M{low_at:.1} {:.1}v8M{high_at:.1} {:.1}v8" stroke="currentColor" stroke-width="1.4" fill="none"/>"#,
            middle - 4.,
            middle - 4.
        );
        let _ = write!(shown, " [{:.1}, {:.1}]", 100. * low, 100. * high);
    }
    text(svg, (TO + 14., middle + 5.), "start", &shown, "");
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, text: &str, more: &str) {
    let _ = write!(
        svg,
        r#"<text x="{:.1}" y="{:.1}" text-anchor="{anchor}"{more}>{}</text>"#,
        at.0,
        at.1,
        escape(text)
    );
}

/// The picture in words, for those who cannot see it.
fn described(title: &str, panels: &[Panel]) -> String {
    let mut text = format!("{title}.");
    for panel in panels {
        let _ = write!(text, " {}:", panel.title);
        for bar in &panel.bars {
            let _ = write!(text, " {} {:.1},", bar.name, 100. * bar.value);
        }
        text.pop();
        text.push('.');
    }
    text
}
