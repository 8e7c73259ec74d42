//! `kernels list`.

use std::process::ExitCode;

use anyhow::Result;

use crate::{complain, say};
use fgvr_cuda::source;

/// What to name.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only kernels whose name or file contains this.
    #[arg(default_value = "")]
    part: String,
    /// An array of objects instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let kernels = source::find(&arguments.part);
    if arguments.json {
        let rows: Vec<_> = kernels
            .iter()
            .map(|kernel| {
                let types: Vec<&str> = kernel.reals.iter().map(|real| real.name()).collect();
                serde_json::json!({
                    "kernel": kernel.name, "file": kernel.file, "line": kernel.line,
                    "types": types, "about": kernel.about,
                })
            })
            .collect();
        say(&serde_json::to_string_pretty(&rows)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = kernels.iter().map(|k| k.name.len()).max().unwrap_or(0);
    let mut file = "";
    for kernel in &kernels {
        if kernel.file != file {
            file = kernel.file;
            let types: Vec<&str> = kernel.reals.iter().map(|real| real.name()).collect();
            say(&format!("{file} ({})", types.join(", ")))?;
        }
        let room = 100usize.saturating_sub(width + 4);
        say(&format!(
            "  {:width$}  {}",
            kernel.name,
            cut(&kernel.about, room)
        ))?;
    }
    complain(&format!("{} kernels", kernels.len()));
    Ok(ExitCode::from(u8::from(kernels.is_empty())))
}

/// The first words of `text` that fit.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    for word in text.split(' ') {
        if short.chars().count() + word.chars().count() + 4 > room {
            break;
        }
        short.push_str(word);
        short.push(' ');
    }
    short + "..."
}
