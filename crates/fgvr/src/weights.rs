//! The commands on weights: export, embed, publish, inspect.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use fgvr_encoder::export::Format;
use fgvr_encoder::hub::PublishOptions;
use fgvr_train::{
    Compute, Embedder, EmbeddingTable, ExportOptions, Exported, JudgeOptions, Judgement, Observer,
    RunFolder, Which, adaptation_in_words, path_text,
};
use serde_json::json;

use crate::args::{self, Checkpoint, NamesOf, Source, Where};
use crate::commands::chosen;
use crate::eval_args::Eval;
use crate::output::{print, print_json, say};
use crate::progress::Progress;
use crate::tables;

pub(crate) fn export(args: &args::Export) -> Result<ExitCode> {
    let run = RunFolder::open(&args.run)?;
    let options = ExportOptions {
        format: format(args.format),
        which: which(args.checkpoint),
        license: args.license.clone(),
        toward_start: args.toward_start,
    };
    tell_changes(&run, options.which)?;
    let exported = fgvr_train::export_run(&run, &args.to, &options)?;
    if args.json {
        print_json(&exported)?;
    } else {
        print(&told(&exported, options.format))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn told(exported: &Exported, format: Format) -> String {
    let directory = path_text(&exported.directory);
    let next = match (&exported.obstacle, format) {
        (Some(obstacle), _) => format!("{obstacle}; its README.md says how to load it"),
        (None, Format::Timm) => {
            format!("timm.create_model(\"local-dir:{directory}\", pretrained=True) builds it")
        }
        (None, Format::Transformers) => {
            format!("transformers.AutoModel.from_pretrained(\"{directory}\") builds it")
        }
    };
    format!(
        "{directory}: {} tensors after {} steps, under {}'s names\n{next}\n",
        exported.tensors,
        exported.step.unwrap_or_default(),
        format.name()
    )
}

/// The network that the command line names, as `settings` have it see photos; `plain` leaves an adaptation off that its
/// weights bring.
pub(crate) fn embedder(
    of: &Source,
    settings: &[String],
    plain: bool,
    (place, compute): (&Where, &Compute),
    progress: &mut Progress,
) -> Result<Embedder> {
    let embedder = match (&of.run, &of.weights) {
        (Some(run), _) => {
            let run = RunFolder::open(run)?;
            tell_changes(&run, which(of.checkpoint))?;
            Embedder::from_run_with(&run, which(of.checkpoint), settings, compute)?
        }
        (None, Some(source)) => {
            let weights = fgvr_train::open_weights(source, progress)?;
            let build = match plain {
                true => Embedder::plain_from_weights_with,
                false => Embedder::from_weights_with,
            };
            let (embedder, report) = build(&weights, settings, &of.allow_mismatch, compute)?;
            progress.on_message(&report.to_string());
            embedder
        }
        // The command line asks for one of them.
        (None, None) => anyhow::bail!("give --run or --weights"),
    };
    Ok(match place.batch {
        Some(batch) => embedder.with_batch(batch)?,
        None => embedder,
    })
}

pub(crate) fn embed(args: &args::Embed) -> Result<ExitCode> {
    // Before anything is computed.
    EmbeddingTable::check_place(&args.out, args.overwrite)?;
    let adaptation = args.adapting.adaptation.as_deref();
    let adaptation = adaptation.map(fgvr_train::open_adaptation).transpose()?;
    let compute = chosen(&args.place)?;
    let mut progress = Progress::new(Arc::default());
    // The short form first: --set data.size comes after it, and counts.
    let size = args.size.map(|size| format!("data.size={size}"));
    let settings: Vec<String> = size.into_iter().chain(args.set.iter().cloned()).collect();
    let plain = args.adapting.plain || args.adapting.adaptation.is_some();
    let mut embedder = embedder(
        &args.network,
        &settings,
        plain,
        (&args.place, &compute),
        &mut progress,
    )?;
    if let Some(adaptation) = adaptation {
        embedder = embedder.with_adaptation(adaptation)?;
    }
    if let Some(adaptation) = embedder.adaptation() {
        let how = match args.adapting.adaptation {
            Some(_) => "",
            None => "; --plain leaves it off",
        };
        progress.on_message(&format!(
            "features are adapted: {}{how}",
            adaptation_in_words(adaptation)
        ));
    }
    progress.on_message(&format!("photos seen {}", embedder.preprocessing()));
    progress.on_message(&compute.line());
    let table = fgvr_train::embed_set(&embedder, &args.data, &mut progress)?;
    table.write(&args.out, args.overwrite)?;
    if args.json {
        let written = json!({
            "file": path_text(&args.out),
            "photos": table.paths.len(),
            "features": table.width,
            "classes": table.classes.len(),
            "encoder": embedder.origin(),
            "adaptation": table.adaptation,
            "device": table.device,
            "data": progress.found,
        });
        print_json(&written)?;
    } else {
        print(&format!(
            "{}: {} photos, {} {}features each, {} classes, by {}\n",
            path_text(&args.out),
            table.paths.len(),
            table.width,
            if table.adaptation.is_some() {
                "adapted "
            } else {
                ""
            },
            table.classes.len(),
            embedder.origin()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Figures of anyone's weights.
pub(crate) fn judge(args: &Eval, source: &str) -> Result<ExitCode> {
    let adaptation = args.adapting.adaptation.as_deref();
    let options = JudgeOptions {
        settings: args.settings(),
        allow_mismatch: args.allow_mismatch.clone(),
        adaptation: adaptation.map(fgvr_train::open_adaptation).transpose()?,
        plain: args.adapting.plain,
        batch: args.place.batch,
    };
    let compute = chosen(&args.place)?;
    let mut progress = Progress::new(Arc::default());
    let weights = fgvr_train::open_weights(source, &mut progress)?;
    // The command line asks for it.
    let data = args.data.as_deref().context("give --data")?;
    let (judgement, report) =
        fgvr_train::evaluate_weights(&weights, data, &options, &compute, &mut progress)?;
    progress.on_message(&report.to_string());
    judged(&judgement, args.json)
}

/// Figures of features in a file.
pub(crate) fn judge_features(args: &Eval, file: &Path) -> Result<ExitCode> {
    let adaptation = args.adapting.adaptation.as_deref();
    let adaptation = adaptation.map(fgvr_train::open_adaptation).transpose()?;
    let table = EmbeddingTable::read(file)?;
    let (source, mut progress) = (path_text(file), Progress::new(Arc::default()));
    let judgement = fgvr_train::evaluate_features(
        &table,
        &source,
        adaptation.as_ref(),
        &args.settings(),
        &mut progress,
    )?;
    judged(&judgement, args.json)
}

fn judged(judgement: &Judgement, json: bool) -> Result<ExitCode> {
    if json {
        print_json(judgement)?;
    } else {
        print(&tables::judgement(judgement))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn publish(args: &args::Publish) -> Result<ExitCode> {
    // What is exported for this alone goes when this is done.
    let aside = tempfile::tempdir().context("no temporary folder can be made")?;
    let directory = match (&args.dir, &args.run) {
        (Some(directory), _) => directory.clone(),
        (None, Some(run)) => {
            let directory = aside.path().join("export");
            let options = ExportOptions {
                license: args.license.clone(),
                ..ExportOptions::default()
            };
            let run = RunFolder::open(run)?;
            tell_changes(&run, options.which)?;
            fgvr_train::export_run(&run, &directory, &options)?;
            directory
        }
        (None, None) => anyhow::bail!("give --dir or --run"),
    };
    let mut progress = Progress::new(Arc::default());
    let published = fgvr_train::publish(
        &directory,
        &args.to,
        &PublishOptions {
            revision: Some(args.revision.clone()),
            private: args.private,
            message: args.message.clone(),
            create: true,
        },
        &mut progress,
    )?;
    if args.json {
        let there = json!({ "url": published.url, "commit": published.commit });
        print_json(&there)?;
    } else {
        print(&format!(
            "{} at commit {}\n",
            published.url, published.commit
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn inspect(args: &args::Inspect) -> Result<ExitCode> {
    let weights = fgvr_train::open_weights(&args.source, &mut Progress::new(Arc::default()))?;
    let summary = weights.summary();
    if args.json {
        print_json(&summary)?;
    } else {
        print(&summary.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says so where the settings in the run folder are not those that the checkpoint was made with.
pub(crate) fn tell_changes(run: &RunFolder, which: Which) -> Result<()> {
    if let Some(changed) = fgvr_train::settings_changed(run, which)? {
        say(&changed);
    }
    Ok(())
}

pub(crate) fn format(names: NamesOf) -> Format {
    match names {
        NamesOf::Timm => Format::Timm,
        NamesOf::Transformers => Format::Transformers,
    }
}

pub(crate) fn which(checkpoint: Checkpoint) -> Which {
    match checkpoint {
        Checkpoint::Last => Which::Last,
        Checkpoint::BestVal => Which::BestVal,
    }
}
