//! `report.html` of a run, from its own files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::config::PretrainConfig;
use crate::{Error, Evaluation, Figures, JudgedOn, Result, RunFolder};
use fgvr_report::{Align, Picture, Plot, Report, Section, Series, Table};

/// Points of a curve; more are averaged.
const POINTS: usize = 400;

/// Tables of an evaluation, each with its title.
#[must_use]
pub fn evaluation_tables(evaluation: &Evaluation) -> Vec<(&'static str, Table)> {
    let title = match evaluation.judged_on {
        JudgedOn::Test => "Frozen features, in percent",
        JudgedOn::Validation => "Frozen features, in percent of validation images",
    };
    let mut tables = vec![(title, figures_table(evaluation))];
    if let Some(psnr) = evaluation.psnr {
        let table = Table::new(&[
            ("reconstruction of held-out images", Align::Left),
            ("PSNR in dB", Align::Right),
        ])
        .row(["decoder".to_owned(), format!("{:.2}", psnr.held_out)])
        .row(["mean image".to_owned(), format!("{:.2}", psnr.mean_image)]);
        tables.push(("Reconstruction", table));
    }
    if let Some(parts) = &evaluation.parts {
        let number = |v: f64| format!("{v:.4}");
        let row = |name: &str, hit: &fgvr_eval::PartHit| {
            [
                name.to_owned(),
                number(hit.kept),
                number(hit.masked),
                number(hit.difference),
            ]
        };
        if let Some(channels) = &parts.channels {
            let table = Table::new(&[
                ("share of activation on the parts", Align::Left),
                ("kept", Align::Right),
                ("masked", Align::Right),
                ("difference", Align::Right),
            ])
            .row(row("the method's mask", &channels.mask))
            .row(row("random mask of its size", &channels.random_mask));
            tables.push(("Do masks keep what tells classes apart?", table));
            let table = Table::new(&[
                ("share of the map on the parts", Align::Left),
                ("share", Align::Right),
            ])
            .row([
                "Grad-CAM, lowers the loss".to_owned(),
                number(channels.grad_cam.kept),
            ])
            .row([
                "Grad-CAM, raises the loss".to_owned(),
                number(channels.grad_cam.masked),
            ])
            .row(["uniform map".to_owned(), number(channels.grad_cam.area)]);
            tables.push(("Does Grad-CAM look at them?", table));
        }
        if !parts.maps.is_empty() {
            let mut table = Table::new(&[
                ("share of the map on the parts", Align::Left),
                ("share", Align::Right),
                ("its values shuffled", Align::Right),
                ("uniform map", Align::Right),
            ]);
            for map in &parts.maps {
                let values = [map.share, map.shuffled, map.area].map(number);
                table.push(std::iter::once(map.addon.to_string()).chain(values));
            }
            tables.push(("Do the maps of add-ons look at them?", table));
        }
    }
    tables
}

/// How many images were judged, under the name of their split.
fn judged_images(evaluation: &Evaluation) -> (&'static str, String) {
    match evaluation.judged_on {
        JudgedOn::Test => ("test images", evaluation.test_images.to_string()),
        JudgedOn::Validation => (
            "validation images",
            evaluation.validation_images.to_string(),
        ),
    }
}

fn figures_table(evaluation: &Evaluation) -> Table {
    let names = [
        "features", "kNN", "linear", "top 5", "rank 1", "rank 5", "mAP",
    ];
    let aligned: Vec<_> = names
        .iter()
        .map(|name| {
            (
                *name,
                if *name == "features" {
                    Align::Left
                } else {
                    Align::Right
                },
            )
        })
        .collect();
    let mut table = Table::new(&aligned);
    let rows: [(&str, Option<&Figures>); 5] = [
        ("trained", Some(&evaluation.trained)),
        ("screened", evaluation.screened.as_ref()),
        ("start", evaluation.start.as_ref()),
        ("untrained", evaluation.untrained.as_ref()),
        ("pixels", Some(&evaluation.pixels)),
    ];
    for (name, figures) in rows {
        let Some(figures) = figures else {
            continue;
        };
        let values = [
            figures.knn.map(|k| k.top1),
            figures.linear.map(|l| l.top1),
            figures.linear.map(|l| l.top5),
            figures.retrieval.map(|r| r.rank1),
            figures.retrieval.map(|r| r.rank5),
            figures.retrieval.map(|r| r.map),
        ];
        let cells = values.map(|v| v.map_or("-".to_owned(), |v| format!("{:.1}", 100. * v)));
        table.push(std::iter::once(name.to_owned()).chain(cells));
    }
    table
}

/// Writes `report.html`: facts, tables, curves and the newest pictures.
///
/// # Errors
/// A file of the run that cannot be read or written.
pub(crate) fn write_report(
    run: &RunFolder,
    config: &PretrainConfig,
    evaluation: &Evaluation,
) -> Result<()> {
    let problem = |e: String| Error::run(run.path(), e);
    let rows = metrics(&run.join("metrics.jsonl"))?;
    let name = run
        .path()
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let facts = [
        ("start", config.start()),
        ("method", config.method()),
        ("optimiser", config.recipe()),
        ("data", config.source.clone()),
        ("seed", config.seed.to_string()),
        ("steps", rows.len().to_string()),
        ("training images", evaluation.train_images.to_string()),
        judged_images(evaluation),
        (
            "classes",
            evaluation
                .classes
                .map_or("no labels".to_owned(), |c| c.to_string()),
        ),
        (
            "encoder",
            format!(
                "{}, {} features, {} px",
                config.encoder.architecture,
                config.encoder.out_channels()?,
                config.data.size
            ),
        ),
    ];
    let judged = match evaluation.judged_on {
        JudgedOn::Test => "test images that neither training nor any choice has seen",
        JudgedOn::Validation => {
            "validation images, since there are no test images with labels: training has not seen them, and the best checkpoint is chosen by them"
        }
    };
    let figures = Section {
        title: "What it learned".to_owned(),
        text: format!(
            "{}Frozen features of the last step, judged on {judged}. {}",
            match &evaluation.against_start {
                Some(against) if against.is_below() => format!("Warning: {}. ", against.line()),
                Some(against) => format!("This run is {}. ", against.line()),
                None => String::new(),
            },
            match config.is_pretrained() {
                true => "Start is the same network with the pretrained weights it started from.",
                false => "Untrained is the same network with its initial weights.",
            }
        ),
        tables: evaluation_tables(evaluation)
            .into_iter()
            .map(|(_, table)| table)
            .collect(),
        ..Section::default()
    };
    let curves = Section {
        title: "Curves".to_owned(),
        plots: plots(&rows),
        ..Section::default()
    };
    let pictures = Section {
        title: "Pictures".to_owned(),
        text: "Of the last epoch that was drawn. A pair is the reconstruction of the features and that of the perturbed features; their difference is what the encoder learns to ignore.".to_owned(),
        pictures: newest_pictures(&run.join("samples"))?,
        ..Section::default()
    };
    let report = Report {
        title: format!("fgvr run {name}"),
        facts: facts.map(|(k, v)| (k.to_owned(), v)).to_vec(),
        sections: vec![figures, curves, pictures],
    };
    let page = report.to_html().map_err(|e| problem(e.to_string()))?;
    run.write("report.html", page.as_bytes())
}

fn metrics(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    text.lines()
        .enumerate()
        .map(|(n, line)| {
            serde_json::from_str(line).map_err(|e| Error::run(path, format!("line {}: {e}", n + 1)))
        })
        .collect()
}

/// Title, unit, and for each curve its name and key in the metrics.
type Wanted<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

fn plots(rows: &[Value]) -> Vec<Plot> {
    // Rows of earlier versions have the base's term under its old name alone.
    let old = !rows.iter().any(|row| row["loss_base"].is_number());
    let losses = rows.iter().filter_map(Value::as_object).flatten();
    let losses = losses.filter_map(|(key, _)| Some((key.strip_prefix("loss_")?, key.as_str())));
    let losses: BTreeSet<_> = losses
        .filter(|(name, _)| old || *name != "contrastive")
        .collect();
    let losses: Vec<_> = losses.into_iter().collect();
    let wanted: [Wanted<'_>; 6] = [
        ("Losses", "loss", &losses),
        (
            "kNN on the validation split",
            "accuracy",
            &[("kNN", "val_knn")],
        ),
        (
            "Tasks solved",
            "top-1",
            &[("real views", "top1"), ("pairs", "pair_top1")],
        ),
        (
            "Health of the embedding",
            "1 is uniform",
            &[("embedding s.d.", "embedding_std")],
        ),
        (
            "Masks",
            "fraction of dimensions",
            &[
                ("masked", "masked_fraction"),
                ("dead", "dead_fraction"),
                ("named by both", "mask_overlap"),
            ],
        ),
        ("Speed", "images/s", &[("images/s", "images_per_second")]),
    ];
    let plot = |(title, unit, lines): Wanted<'_>| {
        let series: Vec<Series> = lines
            .iter()
            .map(|(name, key)| Series {
                name: (*name).to_owned(),
                points: thinned(rows, key),
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        (!series.is_empty()).then(|| Plot {
            title: title.to_owned(),
            x_label: "step".to_owned(),
            y_label: unit.to_owned(),
            series,
            ..Plot::default()
        })
    };
    wanted.into_iter().filter_map(plot).collect()
}

/// (step, value) of the rows that have `key`, averaged over neighbours where there are many.
fn thinned(rows: &[Value], key: &str) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = rows
        .iter()
        .filter_map(|row| Some((row["step"].as_f64()?, row[key].as_f64()?)))
        .collect();
    let run = points.len().div_ceil(POINTS).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let n = chunk.len() as f64;
        (
            chunk.iter().map(|p| p.0).sum::<f64>() / n,
            chunk.iter().map(|p| p.1).sum::<f64>() / n,
        )
    };
    points.chunks(run).map(mean).collect()
}

/// The sheets of the newest epoch drawn: their names start with `epoch-NNNN-`.
pub(crate) fn newest_pictures(samples: &Path) -> Result<Vec<Picture>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(samples).map_err(Error::io(samples))? {
        let name = entry
            .map_err(Error::io(samples))?
            .file_name()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".png") {
            names.push(name);
        }
    }
    names.sort_unstable();
    let Some(newest) = names
        .last()
        .and_then(|name| name.get(..11))
        .map(str::to_owned)
    else {
        return Ok(Vec::new());
    };
    names
        .iter()
        .filter(|name| name.starts_with(&newest))
        .map(|name| {
            let path = samples.join(name);
            Ok(Picture {
                png: fs::read(&path).map_err(Error::io(&path))?,
                caption: name.trim_end_matches(".png").replace('-', " "),
                alt: String::new(),
            })
        })
        .collect()
}
