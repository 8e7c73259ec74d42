//! `kernels check`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fgvr_cuda::nvrtc::{self, Nvrtc, Source, TARGETS};
use fgvr_cuda::{Error, Module, Real};

use crate::{complain, say};

/// What to compile, and for what.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Files to compile instead of the project's.
    files: Vec<PathBuf>,
    /// A GPU, such as sm_90a; may be given several times [default: sm_80 and sm_90a].
    #[arg(long)]
    target: Vec<String>,
    /// An array of objects instead of a table.
    #[arg(long)]
    json: bool,
}

/// A file of some type.
struct Input {
    name: String,
    text: String,
    real: Real,
}

/// What became of one compilation.
struct Row<'a> {
    input: &'a Input,
    target: &'a str,
    took: Duration,
    /// Bytes of machine code, or the errors.
    outcome: std::result::Result<usize, fgvr_cuda::CompileError>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let nvrtc = Nvrtc::load()?;
    let (major, minor) = nvrtc.version();
    complain(&format!("NVRTC {major}.{minor} from {}", nvrtc.path()));
    let inputs = inputs(&arguments.files)?;
    let targets: Vec<&str> = match arguments.target.is_empty() {
        true => TARGETS.to_vec(),
        false => arguments.target.iter().map(String::as_str).collect(),
    };
    let mut rows = Vec::new();
    for input in &inputs {
        for target in &targets {
            rows.push(compile(&nvrtc, input, target)?);
        }
    }
    match arguments.json {
        true => print_json(&rows)?,
        false => print_table(&rows)?,
    }
    let failed = rows.iter().filter(|row| row.outcome.is_err()).count();
    complain(&format!(
        "{} of {} compile",
        rows.len() - failed,
        rows.len()
    ));
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// The project's modules, or the files named, as they are.
fn inputs(files: &[PathBuf]) -> Result<Vec<Input>> {
    if files.is_empty() {
        let of = |module: Module| Input {
            name: module.file.name.to_owned(),
            text: module.file.text.to_owned(),
            real: module.real,
        };
        return Ok(Module::all().map(of).collect());
    }
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(Input {
            name: path.display().to_string(),
            text,
            real: Real::F32,
        })
    };
    files.iter().map(read).collect()
}

fn compile<'a>(nvrtc: &Nvrtc, input: &'a Input, target: &'a str) -> Result<Row<'a>> {
    let begun = Instant::now();
    let source = Source {
        name: &input.name,
        text: &input.text,
        options: input.real.defines(),
    };
    let outcome = match nvrtc::compile(nvrtc, source, target) {
        Ok(code) => Ok(code.len()),
        Err(Error::Compile(error)) => Err(error),
        Err(other) => return Err(other.into()),
    };
    Ok(Row {
        input,
        target,
        took: begun.elapsed(),
        outcome,
    })
}

fn print_table(rows: &[Row<'_>]) -> Result<()> {
    let width = rows
        .iter()
        .map(|row| row.input.name.len())
        .max()
        .unwrap_or(0);
    for row in rows {
        let (name, real, target) = (&row.input.name, row.input.real.name(), row.target);
        let head = format!("{name:width$}  {real:4}  {target:7}");
        say(&match &row.outcome {
            Ok(bytes) => format!("ok    {head} {bytes:>8} bytes {:>7.0?}", row.took),
            Err(error) => format!("FAIL  {head}\n{error}"),
        })?;
    }
    Ok(())
}

fn print_json(rows: &[Row<'_>]) -> Result<()> {
    let object = |row: &Row<'_>| {
        let errors = row.outcome.as_ref().err();
        let errors: Vec<_> = errors
            .iter()
            .flat_map(|error| &error.messages)
            .map(|message| {
                let place = message.place.as_ref();
                serde_json::json!({
                    "file": place.map(|(file, _)| file), "line": place.map(|(_, line)| line), "error": message.text,
                })
            })
            .collect();
        serde_json::json!({
            "file": row.input.name, "type": row.input.real.name(), "target": row.target,
            "bytes": row.outcome.as_ref().ok(), "seconds": row.took.as_secs_f64(), "errors": errors,
        })
    };
    let rows: Vec<_> = rows.iter().map(object).collect();
    say(&serde_json::to_string_pretty(&rows)?)?;
    Ok(())
}
