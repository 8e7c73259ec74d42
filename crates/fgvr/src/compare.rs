//! `fgvr compare`: the command line, and what it prints.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use fgvr_report::{Align, Table};
use fgvr_train::{
    CompareFigure, CompareOptions, Compared, Embedder, EmbeddingTable, Observer, RunFolder, Side,
    Which, compare, embed_set,
};

use crate::args::{Where, folder};
use crate::commands::chosen;
use crate::output::{print, print_json};
use crate::progress::Progress;

pub(crate) const EXAMPLES: &str = "\
Examples:
  fgvr compare plain.npz adapted.npz               files that fgvr embed wrote, or anyone's
  fgvr compare runs/base runs/full --data photos/
  fgvr compare resnet50.pth adapted/photos --data photos/ --figures knn,map
  fgvr compare a1.npz,a2.npz,a3.npz b1.npz,b2.npz,b3.npz
                                                   three seeds a side, paired in their order

Each of the others is compared with the first on the same test images. Files of features end in .npz; a folder
with a config.toml is a run; everything else is weights as --weights takes them. docs/compare.md has the test.";

#[derive(Args, Debug)]
pub(crate) struct Compare {
    /// Files of features, run folders or weights, the reference first; seeds of one kind separated by commas.
    #[arg(value_name = "FEATURES", num_args = 2.., required = true)]
    pub(crate) sides: Vec<String>,
    /// The photos that runs and weights are compared on. [default: of runs what they were trained on]
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub(crate) data: Option<String>,
    /// What is compared: knn, map (training images for test queries), linear.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "knn,map,linear", value_parser = ["knn", "map", "linear"])]
    pub(crate) figures: Vec<String>,
    /// Call a difference one if its corrected p-value is at most this.
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    pub(crate) alpha: f64,
    /// Compare on the images that all sides have, where they differ in images.
    #[arg(long)]
    pub(crate) common: bool,
    /// One setting: evaluate.* of all sides, such as evaluate.knn.k=10, or data.* of runs and weights; may be given many
    /// times.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Where,
    /// Print the comparisons as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Compare) -> Result<ExitCode> {
    let mut progress = Progress::new(Arc::default());
    let figures: Result<Vec<CompareFigure>, _> =
        args.figures.iter().map(|name| name.parse()).collect();
    let is_data = |setting: &&String| setting.trim_start().starts_with("data.");
    let options = CompareOptions {
        figures: figures?,
        alpha: args.alpha,
        common: args.common,
        settings: args.set.iter().filter(|s| !is_data(s)).cloned().collect(),
    };
    let of_data: Vec<String> = args.set.iter().filter(is_data).cloned().collect();
    let mut sides = Vec::new();
    for name in &args.sides {
        let tables: Result<Vec<EmbeddingTable>> = name
            .split(',')
            .map(|source| table(source, args, &of_data, &mut progress))
            .collect();
        sides.push(Side {
            name: name.clone(),
            tables: tables?,
        });
    }
    let found = compare(&sides, &options, &mut progress)?;
    if args.json {
        print_json(&found)?;
    } else {
        print(&text(&found))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The features that `source` has, or gives of the photos.
fn table(
    source: &str,
    args: &Compare,
    settings: &[String],
    progress: &mut Progress,
) -> Result<EmbeddingTable> {
    let path = Path::new(source);
    if source.to_ascii_lowercase().ends_with(".npz") {
        return Ok(EmbeddingTable::read(path)?);
    }
    let compute = chosen(&args.place)?;
    let (embedder, data) = if path.join("config.toml").is_file() {
        let run = RunFolder::open(path)?;
        let embedder = Embedder::from_run_with(&run, Which::Last, settings, &compute)?;
        let own = run.config()?.source;
        (embedder, args.data.clone().unwrap_or(own))
    } else {
        let Some(data) = args.data.clone() else {
            bail!(
                "{source} is taken for weights, since it is neither an .npz file nor a run folder; --data says which photos to compare on"
            );
        };
        let weights = fgvr_train::open_weights(source, progress)?;
        let (embedder, _) = Embedder::from_weights_with(&weights, settings, &[], &compute)
            .with_context(|| format!("{source} cannot be loaded"))?;
        (embedder, data)
    };
    let embedder = match args.place.batch {
        Some(batch) => embedder.with_batch(batch)?,
        None => embedder,
    };
    progress.on_message(&format!(
        "{source}: photos seen {}",
        embedder.preprocessing()
    ));
    Ok(embed_set(&embedder, &data, progress)?)
}

fn text(found: &Compared) -> String {
    let seeds = found.comparisons.iter().any(|c| c.over_seeds.is_some());
    let mut columns = vec![
        ("against the reference", Align::Left),
        ("figure", Align::Left),
        ("reference", Align::Right),
        ("value", Align::Right),
        ("difference [95 %]", Align::Right),
    ];
    if seeds {
        columns.push(("seeds", Align::Right));
    }
    columns.extend([
        ("p", Align::Right),
        ("Holm", Align::Right),
        ("shown", Align::Left),
    ]);
    let mut table = Table::new(&columns);
    let percent = |value: f64| format!("{:.1}", 100. * value);
    let probability = |p: f64| match p {
        p if p < 1e-4 => "< 0.0001".to_owned(),
        p => format!("{p:.4}"),
    };
    for comparison in &found.comparisons {
        let of = comparison.difference;
        let [mean, low, high] = [of.mean, of.low, of.high].map(|v| format!("{:+.1}", 100. * v));
        let mut row = vec![
            comparison.name.clone(),
            comparison.figure.to_string(),
            percent(comparison.reference),
            percent(comparison.value),
            format!("{mean} [{low}, {high}]"),
        ];
        if seeds {
            row.push(
                comparison
                    .over_seeds
                    .map_or("-".to_owned(), |half| format!("± {}", percent(half))),
            );
        }
        row.extend([
            probability(comparison.p),
            probability(comparison.p_corrected),
            comparison.verdict.to_owned(),
        ]);
        table.push(row);
    }
    let count = found.comparisons.len();
    format!(
        "\nreference: {}; {} {} images of {} classes, in percent\n\n{table}\n\
         difference: the same images on both sides, 95 % of samples of classes.\n\
         p: classes tossed between the sides. Holm: corrected for the {count} comparisons of this table, at {}.\n",
        found.reference,
        found.images,
        found.judged_on.name(),
        found.classes,
        found.alpha
    )
}
