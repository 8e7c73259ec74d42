//! What each command does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use fgvr_nn::Precision;
use fgvr_train::config::Layers;
use fgvr_train::study::{Elsewhere, StudyConfig};
use fgvr_train::{Compute, Error, Place, PretrainConfig, ResumeOptions, RunFolder};

use crate::args::{
    Calibrate, Command, Plan, Precise, Pretrain, Settings, Study, WeightsCommand, Where,
};
use crate::eval_args::Eval;
use crate::output::{print, print_json, say};
use crate::progress::Progress;
use crate::signals::{INTERRUPTED, stop_on_signal};
use crate::{adapt, compare, data, tables, weights};

pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Pretrain(args) => pretrain(&args),
        Command::Eval(args) => eval(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Plan(args) => plan(&args),
        Command::Calibrate(args) => calibrate(&args),
        Command::Study(args) => study(&args),
        Command::Adapt(args) => adapt::adapt(&args),
        Command::Embed(args) => weights::embed(&args),
        Command::Export(args) => weights::export(&args),
        Command::Publish(args) => weights::publish(&args),
        Command::Weights(WeightsCommand::Inspect(args)) => weights::inspect(&args),
        Command::Data(command) => data::run(&command),
    }
}

fn pretrain(args: &Pretrain) -> Result<ExitCode> {
    let compute =
        |config: &PretrainConfig| Compute::choose(&args.settings.device, config.precision);
    let mut progress = Progress::new(stop_on_signal()?);
    let summary = match &args.resume {
        Some(folder) => {
            let run = RunFolder::open(folder)?;
            let saved = run.config()?;
            let mut layers = Layers::default();
            layers.file(&run.join("config.toml"))?;
            // Not its data: that says where the photos are now, and they are looked at.
            add_choices(&mut layers, &args.settings)?;
            same_settings(&saved, &layers.resolve()?, &run)?;
            let how = ResumeOptions {
                source: args.settings.data.clone(),
                data_changed: args.data_changed,
            };
            fgvr_train::resume(&run, &how, &compute(&saved)?, &mut progress)?
        }
        None => {
            let (config, name) = settings(&args.settings, true)?;
            let place = match &args.out {
                Some(path) => Place::Folder(path.clone()),
                None => Place::Numbered {
                    runs: PathBuf::from("runs"),
                    stem: name,
                },
            };
            fgvr_train::pretrain(&config, &place, &compute(&config)?, &mut progress)?
        }
    };
    if args.settings.json {
        print_json(&summary)?;
    } else {
        print(&tables::summary(&summary))?;
    }
    Ok(if summary.interrupted {
        ExitCode::from(INTERRUPTED)
    } else {
        ExitCode::SUCCESS
    })
}

fn study(args: &Study) -> Result<ExitCode> {
    let config = match (&args.file, &args.preset) {
        (Some(file), _) => StudyConfig::read(file)?,
        (None, Some(name)) => StudyConfig::preset(name)?,
        // The command line asks for one of them.
        (None, None) => anyhow::bail!("give a study file or --preset"),
    };
    let config = config.with(&Elsewhere {
        data: args.data.clone(),
        weights: args.weights.clone(),
        set: args.set.clone(),
        arms: args.arm.clone(),
    })?;
    let mut progress = Progress::new(stop_on_signal()?);
    // Of the first run; one of another precision is refused before any time is spent.
    let precision = config
        .jobs(&args.out, &mut progress)?
        .first()
        .map(|job| job.config().precision);
    let compute = Compute::choose(&args.device, precision.unwrap_or_default())?;
    if args.estimate {
        let hours = fgvr_train::study::estimate(&config, &args.out, &compute, &mut progress)?;
        if args.json {
            print_json(&hours)?;
        } else {
            print(&hours.table().to_string())?;
        }
        return Ok(match hours.interrupted {
            true => ExitCode::from(INTERRUPTED),
            false => ExitCode::SUCCESS,
        });
    }
    let end = fgvr_train::study::study(&config, &args.out, &compute, &mut progress)?;
    if args.json {
        print_json(&end.report)?;
    } else {
        print(&tables::study(&end, &args.out))?;
    }
    Ok(if end.interrupted {
        ExitCode::from(INTERRUPTED)
    } else {
        ExitCode::SUCCESS
    })
}

fn eval(args: &Eval) -> Result<ExitCode> {
    let folder = match (&args.run, &args.weights, &args.features) {
        (Some(folder), ..) => folder,
        (None, Some(source), _) => return weights::judge(args, source),
        (None, None, Some(file)) => return weights::judge_features(args, file),
        // The command line asks for one of them.
        (None, None, None) => anyhow::bail!("give --run, --weights or --features"),
    };
    let run = RunFolder::open(folder)?;
    let (compute, stop) = (chosen(&args.place)?, Arc::new(AtomicBool::new(false)));
    let (data, mut progress) = (args.data.as_deref(), Progress::new(stop));
    let (settings, batch) = (&args.settings(), args.place.batch);
    let evaluation =
        fgvr_train::evaluate_run_with(&run, settings, data, batch, &compute, &mut progress)?;
    if args.json {
        print_json(&evaluation)?;
    } else {
        print(&tables::evaluation(&evaluation))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(args: &Plan) -> Result<ExitCode> {
    let (config, _) = settings(&args.settings, true)?;
    let compute = Compute::choose(&args.settings.device, config.precision)?;
    let mut progress = Progress::new(Arc::default());
    let plan = fgvr_train::plan(&config, &compute, &mut progress)?;
    if args.settings.json {
        print_json(&plan)?;
    } else {
        print(&tables::plan(&plan))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn calibrate(args: &Calibrate) -> Result<ExitCode> {
    let (config, _) = settings(&args.settings, false)?;
    let compute = Compute::choose(&args.settings.device, config.precision)?;
    let mut progress = Progress::new(Arc::new(AtomicBool::new(false)));
    let epochs = args.supervised_epochs;
    let figures = fgvr_train::calibrate(&config, epochs, &compute, &mut progress)?;
    if args.settings.json {
        print_json(&figures)?;
    } else {
        print(&tables::calibration(&figures))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a trained encoder is to run.
pub(crate) fn chosen(place: &Where) -> Result<Compute> {
    let precision = match place.precision {
        Precise::F32 => Precision::F32,
        Precise::Tf32 => Precision::Tf32,
        Precise::Bf16 => Precision::Bf16,
    };
    Ok(Compute::choose(&place.device, precision)?)
}

/// The settings asked for, and a name for the run; where it `trains`, pretrained weights are trained carefully where no other settings
/// are named.
fn settings(args: &Settings, trains: bool) -> Result<(PretrainConfig, String)> {
    let mut layers = Layers::default();
    let folder = args
        .data
        .as_deref()
        .is_some_and(|data| !data.starts_with("builtin:"));
    let usual = if folder { "photos" } else { "demo" };
    let mut preset = match (&args.preset, &args.config) {
        (Some(preset), _) => Some(preset.as_str()),
        (None, Some(_)) => None,
        (None, None) => Some(usual),
    };
    // Pretrained weights are not trained as random ones are, where nobody asks for it.
    let careful =
        trains && args.weights.is_some() && args.preset.is_none() && args.config.is_none();
    if let Some(preset) = preset.filter(|_| !careful) {
        layers.preset(preset)?;
    }
    // Above a preset; below a file and --set, which may ask for something else.
    if let Some(source) = &args.weights {
        layers.weights(source, &mut Progress::new(Arc::default()))?;
    }
    if careful {
        let name = layers.careful_preset();
        layers.preset_under(name)?;
        preset = Some(name);
    }
    let mut name = preset.unwrap_or("run").to_owned();
    if let Some(file) = &args.config {
        layers.file(file)?;
        let given = layers.get("name").and_then(|name| name.as_str());
        name = match given {
            Some(given) if !given.is_empty() => given.to_owned(),
            _ => file
                .file_stem()
                .map_or(name, |stem| stem.to_string_lossy().into_owned()),
        };
    }
    add_settings(&mut layers, args)?;
    let mut config = layers.resolve()?;
    for key in ["arm", "seed"] {
        if let Some(value) = layers.get(key).filter(|_| given(args, key)) {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            name = format!("{name}-{value}");
        }
    }
    config.name.clone_from(&name);
    if careful {
        say(&format!(
            "pretrained weights: preset {}, {}; --preset {usual} trains as from random weights",
            preset.unwrap_or_default(),
            config.recipe()
        ));
    }
    Ok((config, name))
}

fn given(args: &Settings, key: &str) -> bool {
    (key == "seed" && args.seed.is_some())
        || args
            .set
            .iter()
            .any(|s| s.split('=').next().is_some_and(|k| k.trim() == key))
}

fn add_settings(layers: &mut Layers, args: &Settings) -> Result<()> {
    if let Some(data) = &args.data {
        layers.set_value("source", data.clone())?;
    }
    add_choices(layers, args)
}

/// All that is asked for but the data.
fn add_choices(layers: &mut Layers, args: &Settings) -> Result<()> {
    if let Some(seed) = args.seed {
        layers.set_value("seed", seed)?;
    }
    if let Some(epochs) = args.epochs {
        layers.remove("optimizer.steps");
        layers.set_value("optimizer.epochs", epochs)?;
    }
    if let Some(steps) = args.steps {
        layers.set_value("optimizer.steps", steps)?;
    }
    for setting in &args.set {
        layers.set(setting)?;
    }
    Ok(())
}

/// A run goes on with the settings it started with.
fn same_settings(saved: &PretrainConfig, asked: &PretrainConfig, run: &RunFolder) -> Result<()> {
    let Some((key, was, is)) = saved.first_difference(asked)? else {
        return Ok(());
    };
    Err(Error::Run {
        path: run.path().to_owned(),
        problem: format!(
            "was started with {key} = {was}, and {is} is asked for now; resume without that setting, or start a new run"
        ),
    }
    .into())
}
