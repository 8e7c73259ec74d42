//! What the program prints at the end.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use fgvr_eval::{Interval, Judged};
use fgvr_report::{Align, Table};
use fgvr_train::study::StudyEnd;
use fgvr_train::{Calibration, Evaluation, Judgement, Plan, Summary, evaluation_tables, path_text};

use crate::progress::duration;

pub(crate) fn summary(summary: &Summary) -> String {
    let [done, total] = summary.steps;
    let time = duration(Duration::from_secs_f64(summary.seconds));
    let (mut text, mut figures) = (String::new(), String::new());
    if let Some(evaluation) = &summary.evaluation {
        (text, figures) = (below(evaluation), tables(evaluation));
    }
    let _ = write!(
        text,
        "\n{done} of {total} steps in {time}: {}\n{figures}",
        path_text(&summary.run)
    );
    if let Some(evaluation) = &summary.evaluation {
        if let Some(against) = evaluation.against_start.as_ref().filter(|a| !a.is_below()) {
            let _ = writeln!(text, "\n{}", against.line());
        }
        let _ = writeln!(
            text,
            "look at {}",
            path_text(summary.run.join("report.html"))
        );
    }
    text
}

pub(crate) fn study(end: &StudyEnd, out: &Path) -> String {
    let mut text = String::new();
    for (title, table) in end.report.tables() {
        let _ = writeln!(text, "\n{title}\n\n{table}");
    }
    let [done, wanted] = end.report.done;
    let page = out.join("study.html");
    let _ = writeln!(text, "{done} of {wanted} runs done: {}", path_text(page));
    if end.elsewhere > 0 {
        let _ = writeln!(text, "{} runs are in other processes' hands", end.elsewhere);
    }
    text
}

pub(crate) fn evaluation(evaluation: &Evaluation) -> String {
    below(evaluation) + &tables(evaluation)
}

/// What has to be said before anything else: that a pretrained network was better before.
fn below(evaluation: &Evaluation) -> String {
    match &evaluation.against_start {
        Some(against) if against.is_below() => format!("warning: {}\n", against.line()),
        _ => String::new(),
    }
}

fn tables(evaluation: &Evaluation) -> String {
    let mut text = String::new();
    for (title, table) in evaluation_tables(evaluation) {
        let _ = write!(text, "\n{title}\n\n{table}");
    }
    for (name, judged) in [
        ("trained", &evaluation.protocols),
        ("before training", &evaluation.protocols_before),
    ] {
        if let Some(judged) = judged {
            text.push_str(&protocols(name, judged));
        }
    }
    text
}

/// The table of features that no run trained.
pub(crate) fn judgement(judgement: &Judgement) -> String {
    let mut text = format!(
        "\n{}: {} classes, {} images to learn from, {} {} images judged, in percent\n",
        judgement.from,
        judgement.classes,
        judgement.train_images,
        judgement.judged_images,
        judgement.judged_on.name()
    );
    if let Some(adaptation) = &judgement.adaptation {
        let _ = writeln!(text, "adapted by {adaptation}");
    }
    let names = [
        "features",
        "kNN",
        "mAP",
        "linear",
        "top 5",
        "rank 1",
        "rank 5",
        "mAP inside",
    ];
    let aligned = names.map(|name| match name {
        "features" => (name, Align::Left),
        _ => (name, Align::Right),
    });
    let mut table = Table::new(&aligned);
    let cell = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{:.1}", 100. * v));
    let span = |of: Interval| {
        let [mean, low, high] = [of.mean, of.low, of.high].map(|v| format!("{:.1}", 100. * v));
        format!("{mean} [{low}, {high}]")
    };
    for row in &judgement.rows {
        let figures = &row.figures;
        let knn = match row.neighbours {
            Some(knn) => span(knn.value),
            None => cell(figures.knn.map(|k| k.top1)),
        };
        table.push([
            row.name.clone(),
            knn,
            row.cross_map.map_or("-".to_owned(), |map| span(map.value)),
            cell(figures.linear.map(|l| l.top1)),
            cell(figures.linear.map(|l| l.top5)),
            cell(figures.retrieval.map(|r| r.rank1)),
            cell(figures.retrieval.map(|r| r.rank5)),
            cell(figures.retrieval.map(|r| r.map)),
        ]);
    }
    let judged = judgement.judged_on.name();
    let _ = writeln!(
        text,
        "\n{table}\nkNN, mAP and linear go from training to {judged} images, rank and mAP inside stay among the latter.\n\
         Brackets hold 95 % of bootstrap samples of classes."
    );
    for row in judgement.rows.iter().skip(1) {
        if let (Some(knn), Some(map)) = (row.neighbours, row.cross_map) {
            let points = |of: Interval| {
                let [mean, low, high] =
                    [of.mean, of.low, of.high].map(|v| format!("{:+.1}", 100. * v));
                format!("{mean} [{low}, {high}]")
            };
            let _ = writeln!(
                text,
                "{} over {}: kNN {}, mAP {} points",
                row.name,
                judgement.rows.first().map_or("", |row| row.name.as_str()),
                points(knn.gain),
                points(map.gain)
            );
        }
    }
    for row in &judgement.rows {
        if let Some(judged) = &row.protocols {
            text.push_str(&protocols(&row.name, judged));
        }
    }
    if let Some(judged) = &judgement.fine_tuned {
        text.push_str(&protocols("fine-tuned", judged));
    }
    text
}

/// One kind of features by every protocol that was asked for.
fn protocols(name: &str, judged: &Judged) -> String {
    let notes = fgvr_train::protocol_notes(judged).join("\n");
    format!(
        "\n{name}, in percent\n\n{}\n{notes}\n",
        fgvr_train::protocol_table(judged)
    )
}

pub(crate) fn plan(plan: &Plan) -> String {
    let mut table = Table::new(&[("", Align::Left), ("", Align::Right)]);
    table.push(["start".to_owned(), plan.start.clone()]);
    for (name, count) in &plan.parameters {
        table.push([format!("parameters of the {name}"), count.to_string()]);
    }
    let [train, val, test] = plan.images;
    table.push([
        "images to train, validate, test on".to_owned(),
        format!("{train}, {val}, {test}"),
    ]);
    table.push(["classes".to_owned(), plan.classes.to_string()]);
    table.push([
        "steps".to_owned(),
        format!("{} ({} an epoch)", plan.steps, plan.steps_per_epoch),
    ]);
    table.push([
        "seconds a step, base".to_owned(),
        format!("{:.3}", plan.seconds_per_base_step),
    ]);
    if let Some(seconds) = plan.seconds_per_pair_step {
        table.push([
            "seconds a step, with pairs".to_owned(),
            format!("{seconds:.3}"),
        ]);
    }
    let time = duration(Duration::from_secs_f64(plan.seconds));
    table.push(["time, evaluation apart".to_owned(), time]);
    if let Some(memory) = plan.memory {
        table.push(["memory".to_owned(), format!("{} MiB", memory >> 20)]);
    }
    format!("{}\n\n{table}", plan.recipe)
}

pub(crate) fn calibration(c: &Calibration) -> String {
    let percent = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{:.1}", 100. * v));
    let mut table = Table::new(&[
        ("features", Align::Left),
        ("kNN", Align::Right),
        ("linear", Align::Right),
    ])
    .row([
        "supervised".to_owned(),
        "-".to_owned(),
        percent(Some(c.supervised_top1)),
    ]);
    for (name, figures) in [
        ("start", c.start.as_ref()),
        ("untrained", c.untrained.as_ref()),
        ("pixels", Some(&c.pixels)),
    ] {
        if let Some(figures) = figures {
            table.push([
                name.to_owned(),
                percent(figures.knn.map(|k| k.top1)),
                percent(figures.linear.map(|l| l.top1)),
            ]);
        }
    }
    table
        .row([
            "chance".to_owned(),
            String::new(),
            percent(Some(1. / c.classes.max(1) as f64)),
        ])
        .to_string()
}
