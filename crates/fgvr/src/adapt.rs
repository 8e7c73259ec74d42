//! `fgvr adapt`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use fgvr_train::adapt::{WriteOptions, Written, check_export, check_place};
use fgvr_train::{AdaptOptions, Adapted, Embedder, Error, Observer, path_text};

use crate::adapt_args::Adapt;
use crate::adapt_train;
use crate::commands::chosen;
use crate::output::{print, print_json, say};
use crate::progress::Progress;
use crate::signals::{INTERRUPTED, stop_on_signal};
use crate::weights::{embedder, format};

pub(crate) fn adapt(args: &Adapt) -> Result<ExitCode> {
    // Before anything is computed.
    let out = match &args.out {
        Some(out) => out.clone(),
        None => numbered(&args.data),
    };
    check_place(&out)?;
    if args.train {
        return adapt_train::adapt_train(args, &out);
    }
    let (mut options, others) = AdaptOptions::split(&settings(args)?)?;
    options.work = Some(parent(&out).to_owned());
    let compute = chosen(&args.place)?;
    let mut progress = Progress::new(stop_on_signal()?);
    let place = (&args.place, &compute);
    let embedder = embedder(&args.network, &others, false, place, &mut progress)?;
    check_export(&embedder, format(args.format))?;
    progress.on_message(&format!("photos seen {}", embedder.preprocessing()));
    progress.on_message(&compute.line());
    let adapted = match fgvr_train::adapt(&embedder, &args.data, &options, &mut progress) {
        Err(Error::Stopped { problem }) => {
            say(&problem);
            return Ok(ExitCode::from(INTERRUPTED));
        }
        adapted => adapted?,
    };
    finish(args, &adapted, &embedder, &out)
}

/// Writes the folder and says what came of it.
pub(crate) fn finish(
    args: &Adapt,
    adapted: &Adapted,
    embedder: &Embedder,
    out: &Path,
) -> Result<ExitCode> {
    let how = WriteOptions {
        if_unsure: args.if_unsure,
        format: format(args.format),
        license: args.license.clone(),
    };
    let written = fgvr_train::write_adapted(adapted, embedder, out, &how)?;
    if args.json {
        print_json(&adapted.json(Some(&written))?)?;
    } else {
        print(&told(adapted, &written))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The settings of file, flags and `--set`, each over those before.
pub(crate) fn settings(args: &Adapt) -> Result<Vec<String>> {
    let mut settings = match &args.config {
        Some(file) => AdaptOptions::of_file(file)?,
        None => Vec::new(),
    };
    settings.extend(args.views.map(|views| format!("adapt.views={views}")));
    settings.extend(args.kind.map(|kind| format!("adapt.kind={kind}")));
    settings.extend(args.set.iter().cloned());
    Ok(settings)
}

fn told(adapted: &Adapted, written: &Written) -> String {
    format!(
        "\n{}\n{}: {}\n",
        adapted.text(Some(written.what)),
        path_text(&written.directory),
        written.next
    )
}

/// `adapted/NAME` after the photos' folder, with a number where that is taken.
fn numbered(data: &str) -> PathBuf {
    let name = data.trim_end_matches('/');
    let name = name.rsplit(['/', ':']).next().unwrap_or_default();
    let stem = match name {
        "" | "." | ".." => "photos",
        name => name,
    };
    let folder = Path::new("adapted");
    let mut path = folder.join(stem);
    let mut number = 1;
    while path.symlink_metadata().is_ok() {
        number += 1;
        path = folder.join(format!("{stem}-{number}"));
    }
    path
}

pub(crate) fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
