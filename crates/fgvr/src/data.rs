//! `fgvr data check`: the command line, and what it prints.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use fgvr_data::check::{DataCheck, LISTED_PAIRS, Spread};
use fgvr_data::shown;
use fgvr_report::{Align, Table};
use fgvr_train::{check_data, pair_sheet, path_text};

use crate::args::folder;
use crate::output::{print, print_json, say};
use crate::progress::Progress;

pub(crate) const EXAMPLES: &str = "\
Examples:
  fgvr data check photos/
  fgvr data check photos/ --pictures pairs.png     the pairs that look the same, side by side
  fgvr data check photos/ --near 0 --json          equal hashes alone, for scripts
  fgvr data check CUB_200_2011/ --set data.layout=folders

Every photo is decoded. Photos are the same if their bytes are, and near-duplicates if their perceptual hashes
(64 bits) differ in at most 6. A test photo that looks like a training photo makes figures flatter.";

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Say what a data set holds: splits, classes, sizes, photos that cannot be read, and photos that are the same.
    #[command(after_help = EXAMPLES)]
    Check(Check),
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// A folder of images or of tar shards, or builtin:lookalikes.
    #[arg(value_name = "SOURCE", value_parser = folder())]
    pub(crate) source: String,
    /// Bits in which perceptual hashes of near-duplicates may differ. [default: 6]
    #[arg(long, value_name = "BITS")]
    pub(crate) near: Option<u32>,
    /// Draw the first 40 pairs side by side into this PNG file.
    #[arg(long, value_name = "FILE")]
    pub(crate) pictures: Option<PathBuf>,
    /// One setting of how the data is opened: data.*; may be given many times.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print everything as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Pairs named on the terminal; JSON has more.
const NAMED: usize = 12;

pub(crate) fn run(command: &DataCommand) -> Result<ExitCode> {
    let DataCommand::Check(args) = command;
    if let Some(path) = args.pictures.as_ref().filter(|path| path.exists()) {
        bail!(
            "--pictures {}: is there already; name a new file",
            path_text(path)
        );
    }
    let mut progress = Progress::new(Arc::default());
    let (found, splits) = check_data(&args.source, &args.set, args.near, &mut progress)?;
    if let Some(path) = &args.pictures {
        match pair_sheet(&found, &splits)? {
            Some(sheet) => {
                fgvr_data::write_png(path, &sheet.to_tensor()?)?;
                say(&format!("pictures: {}", path_text(path)));
            }
            None => say("no pairs, so no pictures are drawn"),
        }
    }
    if args.json {
        print_json(&found)?;
    } else {
        print(&text(&found))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(found: &DataCheck) -> String {
    let mut text = String::from("\n");
    let mut table = Table::new(&[
        ("split", Align::Left),
        ("from", Align::Left),
        ("images", Align::Right),
        ("unreadable", Align::Right),
        ("classes", Align::Right),
        ("images a class", Align::Right),
        ("smallest", Align::Left),
    ]);
    for split in &found.splits {
        let from = match split.by_hash {
            true => "hash of names",
            false => "the data",
        };
        let mut row = vec![
            split.split.to_owned(),
            from.to_owned(),
            split.images.to_string(),
            split.unreadable.to_string(),
        ];
        match &split.classes {
            Some(counts) => {
                let smallest = counts.smallest.iter().take(2);
                let smallest = smallest.map(|(name, n)| format!("{} ({n})", shown(name)));
                row.extend([
                    counts.classes.to_string(),
                    spread(&counts.images, usize::to_string),
                    smallest.collect::<Vec<_>>().join(", "),
                ]);
            }
            None => row.extend(["-", "-", ""].map(str::to_owned)),
        }
        table.push(row);
    }
    let _ = writeln!(text, "{table}");
    if let Some(pixels) = &found.pixels {
        let side = |[width, height]: &[usize; 2]| format!("{width}x{height}");
        let _ = writeln!(text, "pixels: {}", spread(pixels, side));
    }
    if let Some(bytes) = &found.bytes {
        let size = |bytes: &u64| indicatif::HumanBytes(*bytes).to_string();
        let _ = writeln!(text, "files: {}", spread(bytes, size));
    }
    for bad in &found.unreadable {
        let _ = writeln!(
            text,
            "cannot be read: {} ({})",
            shown(&bad.id),
            shown(&bad.reason)
        );
    }
    if found.pairs.is_empty() {
        let _ = writeln!(text, "no photos are the same or look the same");
        return text;
    }
    let mut table = Table::new(&[
        ("pairs", Align::Left),
        ("same bytes", Align::Right),
        ("look the same", Align::Right),
        ("of other classes", Align::Right),
    ]);
    for row in &found.pairs {
        let [first, second] = row.splits;
        let splits = match first == second {
            true => format!("inside {first}"),
            false => format!("{first} and {second}"),
        };
        let counts = [row.counts.exact, row.counts.near, row.counts.other_class];
        table.push(std::iter::once(splits).chain(counts.map(|count| count.to_string())));
    }
    let _ = writeln!(text, "\n{table}");
    for pair in found.listed.iter().take(NAMED) {
        let how = match pair.exact {
            true => "same bytes".to_owned(),
            false => format!("{} bits apart", pair.distance),
        };
        let other = if pair.other_class {
            ", other classes"
        } else {
            ""
        };
        let [first, second] = &pair.photos;
        let _ = writeln!(
            text,
            "{}  {}  {how}{other}",
            shown(&first.id),
            shown(&second.id)
        );
    }
    let all: u64 = found
        .pairs
        .iter()
        .map(|row| row.counts.exact + row.counts.near)
        .sum();
    if all > NAMED as u64 {
        let more = format!("{} more pairs", all - NAMED as u64);
        let _ = writeln!(
            text,
            "{more}; --json lists {LISTED_PAIRS}, --pictures draws 40"
        );
    }
    for (leaks, split) in [
        (found.test_as_in_training, "test"),
        (found.val_as_in_training, "validation"),
    ] {
        if leaks > 0 {
            let _ = writeln!(
                text,
                "warning: {leaks} {split} images are the same as a training image or look like one; figures may flatter"
            );
        }
    }
    text
}

fn spread<T>(of: &Spread<T>, text: impl Fn(&T) -> String) -> String {
    let [min, median, max] = [&of.min, &of.median, &of.max].map(text);
    format!("{min} to {max}, median {median}")
}
