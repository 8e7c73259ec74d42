//! `cargo xtask parity`: what every architecture makes of images, beside timm's, torchvision's and
//! transformers'.
//!
//! Both sides compute weights and images by one formula (crates/fgvr-testkit/src/formula.rs), so that no
//! weights need to be had. Our program writes what it computes to a file; the Python program computes the
//! same in f32 and in f64, and answers with errors.

mod case;
mod options;
mod outcome;
mod photos;
mod report;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use self::options::Options;
pub(crate) use self::options::USAGE;
use self::outcome::Outcome;
use self::photos::View;
use crate::bench::{Programs, Target, build};
use crate::output::print;
use crate::progress::Progress;
use crate::scratch::Folder;
use crate::server::Server;
use crate::{page, python, workspace};

/// The page that `--write` fills.
const PAGE: &str = "docs/parity.md";

/// Compares what `args` ask for.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print(USAGE)?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse(args)?;
    let root = workspace::root()?;
    let programs = Programs {
        python: Some(python::interpreter(&root)?),
        ours: build(&root, Target::CPU)?,
        root,
        threads: options.threads,
        target: Target::CPU,
    };
    let mut theirs = start_python(&programs)?;
    warn_of_versions(&programs, &theirs)?;
    let found = compare(&programs, &mut theirs, &options)?;
    let versions = &found.versions;
    let failures = report::failures(&found);
    if options.json {
        let rows: Vec<Value> = found.outcomes.iter().map(Outcome::json).collect();
        let views: Vec<Value> = found.views.iter().map(View::json).collect();
        let all = json!({ "versions": versions, "rows": rows, "preprocessing": views });
        print(&format!("{all:#}\n"))?;
    } else {
        print(&format!("{versions}\n\n{}\n", report::text(&found)))?;
    }
    for failure in &failures {
        say!("{failure}");
    }
    if options.write {
        let sections = report::sections(&found, &options.command());
        page::write(&programs.root, PAGE, &sections)?;
        let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
        say!("wrote {} into {PAGE}", names.join(", "));
    }
    Ok(match failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// benches/torch/parity.py, just started.
fn start_python(programs: &Programs) -> Result<Server> {
    let python = programs.python.as_ref().context("no interpreter")?;
    let threads = programs.threads.to_string();
    let mut command = Command::new(python);
    command
        .arg(programs.root.join("benches/torch/parity.py"))
        .args(["--threads", &threads])
        .env("OMP_NUM_THREADS", &threads)
        .env("MKL_NUM_THREADS", &threads)
        .env("CUDA_VISIBLE_DEVICES", "")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Server::start(command, &programs.log("parity")).with_context(|| {
        format!(
            "timm does not start; {} can name another interpreter",
            python::VARIABLE
        )
    })
}

fn warn_of_versions(programs: &Programs, theirs: &Server) -> Result<()> {
    let found = |field: &str| theirs.hello[field].as_str();
    let packages = [
        ("torch", found("version")),
        ("torchvision", found("torchvision")),
        ("timm", found("timm")),
        ("transformers", found("transformers")),
    ];
    python::warn_of_other_versions(&programs.root, &packages)
}

/// What was found.
struct Found {
    /// The versions of both sides, in a sentence.
    versions: String,
    outcomes: Vec<Outcome>,
    views: Vec<View>,
}

fn compare(programs: &Programs, theirs: &mut Server, options: &Options) -> Result<Found> {
    let mut ours = programs.start_ours()?;
    let versions = versions(&ours.hello, &theirs.hello);
    let cases = case::chosen(&options.only)?;
    let photos = match options.only.is_empty() || options.photos.is_some() {
        true => photos::paths(&programs.root, options.photos.as_deref())?,
        false => Vec::new(),
    };
    let cost = cases.iter().map(|case| 3 * case.cost()).sum::<usize>() + photos::cost(&photos);
    let mut progress = Progress::new(cost);
    let folder = Folder::new("fgvr-parity")?;
    let file = folder.path().join("outputs.safetensors");
    let mut outcomes = Vec::with_capacity(cases.len());
    for case in cases {
        let name = case.name();
        let request = format!("parity {name} {}", file.display());
        progress.now(&name, "preparing");
        let written = ours
            .ask(&request)
            .with_context(|| format!("{name} on our side"))?;
        progress.step(case.cost());
        progress.now(&name, "timm");
        let answer = theirs
            .ask(&request)
            .with_context(|| format!("{name} in Python"))?;
        progress.step(2 * case.cost());
        let outcome =
            Outcome::read(case, &answer).with_context(|| format!("{name}: it said {answer}"))?;
        progress.note(&format!(
            "{name}: {} ({} tensors)",
            outcome.summary(),
            written["tensors"]
        ));
        outcomes.push(outcome);
    }
    let views = match photos.is_empty() {
        true => Vec::new(),
        false => photos::compare(&mut ours, theirs, &photos, &file, &mut progress)?,
    };
    progress.end();
    Ok(Found {
        versions,
        outcomes,
        views,
    })
}

fn versions(ours: &Value, theirs: &Value) -> String {
    let text = |value: &Value, field: &str| -> String {
        value[field].as_str().unwrap_or("of unknown version").into()
    };
    format!(
        "fgvr {} (kernels at {}); timm {}, torchvision {}, transformers {}, PyTorch {}; {}.",
        text(ours, "version"),
        text(ours, "simd"),
        text(theirs, "timm"),
        text(theirs, "torchvision"),
        text(theirs, "transformers"),
        text(theirs, "version"),
        text(ours, "processor"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_markers_for_every_section() {
        let page = workspace::root().unwrap().join(PAGE);
        let page = std::fs::read_to_string(page).unwrap();
        let families = case::Family::ALL.map(case::Family::section);
        for section in families.into_iter().chain([report::PHOTOS]) {
            page::replaced(&page, section, "x").unwrap();
        }
    }
}
