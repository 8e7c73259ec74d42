//! What a person reads.

use std::fmt::Write as _;

use fgvr_eval::{Bootstrapped, Interval};

use super::{Adapted, Answer, Judged, LabelFree, What};
use fgvr_report as report;
use fgvr_report::Align::{Left, Right};

/// No row shows a probe but those of features as they are, centred and adapted.
const NONE: &str = "-";

impl Adapted {
    /// What the gate says and what is exported for it, in one line.
    #[must_use]
    pub fn answer(&self, what: Option<What>) -> String {
        let (gate, doing) = (
            &self.gate,
            match (self.gate.answer, what) {
                (_, None) => "",
                (_, Some(What::Start)) if self.training.as_ref().is_some_and(|t| t.is_taken) => {
                    "; the trained network is exported, not adapted"
                }
                (Answer::Open, Some(_)) => "; the adapted network is exported",
                (Answer::Shut, Some(_)) => "; the start is exported, unchanged",
                (Answer::CannotTell, Some(What::Adapted)) => {
                    "; the adapted network is exported all the same, as --if-unsure asks"
                }
                (Answer::CannotTell, Some(What::Start)) => {
                    "; the start is exported, unchanged (--if-unsure exports the adapted one)"
                }
            },
        );
        format!("gate: {}: {}{doing}", gate.answer, gate.reason)
    }

    /// The tables with their titles: what photos without labels say, then what labels say.
    #[must_use]
    pub fn tables(&self) -> Vec<(String, report::Table)> {
        let mut tables = vec![(
            format!(
                "Without labels: {} photos held out of {}, in percent",
                self.photos.held_out,
                self.photos.held_out + self.photos.fitted
            ),
            self.without_labels(),
        )];
        if let Some(table) = &self.table {
            let about = format!(
                "{} {} photos of {} classes, among {} training photos",
                table.queries,
                table.queries_of.name(),
                table.classes,
                table.database
            );
            let kind = self.settings.kind.name();
            tables.push((
                format!("With labels: {about}, in percent [95 % over classes]"),
                figures(&table.rows, kind, |row| &row.value, percent),
            ));
            let first = match table.rows.first().map_or("plain", |row| row.name.as_str()) {
                "plain" => "plain features",
                first => first,
            };
            tables.push((
                format!(
                    "With labels: gain over {first}, in points [95 % over classes, the same samples]"
                ),
                figures(table.rows.get(1..).unwrap_or_default(), kind, |row| &row.gain, points),
            ));
        }
        tables
    }

    fn without_labels(&self) -> report::Table {
        let mut table = report::Table::new(&[
            ("measure", Left),
            ("plain", Right),
            ("centred", Right),
            ("adapted", Right),
            ("gain", Right),
        ]);
        let of = |value: fn(&LabelFree) -> Option<f64>| -> Vec<Option<f64>> {
            self.label_free.iter().map(value).collect()
        };
        let measures = [
            of(|row| row.found_first),
            of(|row| row.reciprocal_rank),
            of(|row| row.agreement),
        ];
        for (measured, values) in self.gate.measures.iter().zip(measures) {
            let mut row = vec![measured.measure.name().to_owned()];
            row.extend(values.iter().map(|v| v.map_or(NONE.to_owned(), hundredth)));
            row.push(points(&measured.gain));
            table.push(row);
        }
        let mut row = vec!["effective rank".to_owned()];
        let ranks = self.label_free.iter().map(|row| row.effective_rank);
        row.extend(ranks.map(|rank| format!("{rank:.1}")));
        table.push(row);
        table
    }

    /// All that was found, as text.
    #[must_use]
    pub fn text(&self, what: Option<What>) -> String {
        let mut text = String::new();
        if let Some(training) = &self.training {
            let _ = writeln!(text, "{}", training.answer());
        }
        let _ = writeln!(text, "{}", self.answer(what));
        for remark in &self.remarks {
            let _ = writeln!(text, "{remark}");
        }
        for (title, table) in self.tables() {
            let _ = write!(text, "\n{title}\n\n{table}");
        }
        for control in self.table.iter().flat_map(|table| &table.without) {
            let _ = writeln!(text, "without the control {control}");
        }
        let seconds = &self.seconds;
        let _ = writeln!(
            text,
            "\n{:.0} s: {:.0} to embed, {:.0} to fit and to ask the gate, {:.0} to judge",
            seconds.total, seconds.embedding, seconds.fitting, seconds.judging
        );
        text
    }

    /// The same with what it was made of.
    pub(super) fn log(&self, what: What) -> String {
        let (photos, version) = (&self.photos, env!("CARGO_PKG_VERSION"));
        let mut text = format!("fgvr {version}\n{}\non {}\n", self.encoder, self.device);
        for line in self.data.lines() {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(
            text,
            "photos seen {}\n{} photos fitted to, {} held out, {} judged, {} unreadable\n",
            self.preprocessing, photos.fitted, photos.held_out, photos.judged, photos.unreadable
        );
        text + &self.text(Some(what))
    }
}

fn figures(
    judged: &[Judged],
    kind: &str,
    of: fn(&Bootstrapped) -> &Interval,
    shown: fn(&Interval) -> String,
) -> report::Table {
    let mut rows = report::Table::new(&[
        ("features", Left),
        ("kNN", Right),
        ("mAP", Right),
        ("probe", Right),
    ]);
    for row in judged {
        let name = match row.name.as_str() {
            "adapted" => format!("adapted ({kind})"),
            name => name.to_owned(),
        };
        let probe = row.probe.as_ref();
        rows.push([
            name,
            shown(of(&row.knn)),
            shown(of(&row.map)),
            probe.map_or(NONE.to_owned(), |probe| shown(of(probe))),
        ]);
    }
    rows
}

fn hundredth(value: f64) -> String {
    format!("{:.1}", 100. * value)
}

/// `52.5 [49.9, 55.0]`
fn percent(of: &Interval) -> String {
    let [mean, low, high] = [of.mean, of.low, of.high].map(hundredth);
    format!("{mean} [{low}, {high}]")
}

/// `+18.1 [+15.2, +21.0]`
fn points(of: &Interval) -> String {
    let [mean, low, high] = [of.mean, of.low, of.high].map(|v| format!("{:+.1}", 100. * v));
    format!("{mean} [{low}, {high}]")
}
