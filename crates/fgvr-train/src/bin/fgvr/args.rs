//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  fgvr pretrain                                   the demo: a few minutes on two cores
  fgvr pretrain --data photos/ --epochs 100       learn from a folder of photos
  fgvr pretrain --preset learn --set arm=base     the base method alone, on the built-in set
  fgvr pretrain --resume runs/demo                go on where a run stopped
  fgvr plan --data photos/                        what a run would cost
  fgvr eval --run runs/demo --data photos/        judge a run's features on other photos";

/// Self-supervised learning that tells look-alikes apart.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train an encoder on unlabelled photos and judge what it learned.
    #[command(after_help = EXAMPLES)]
    Pretrain(Pretrain),
    /// Judge the frozen features of a run.
    Eval(Eval),
    /// Print parameters, memory, steps and time of a run before anything is spent.
    Plan(Plan),
    /// Supervised and untrained references on a data set: how hard is it?
    Calibrate(Calibrate),
}

/// What a run is made of.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// Named settings: demo, learn, photos. [default: demo, or photos with a folder as --data]
    #[arg(long, value_name = "P", conflicts_with = "config")]
    pub(crate) preset: Option<String>,
    /// Settings from a TOML file, such as the config.toml of a run.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A folder of images, or builtin:lookalikes.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<String>,
    /// Seed of everything random.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<i64>,
    /// Passes over the training images.
    #[arg(long, value_name = "N", conflicts_with = "steps")]
    pub(crate) epochs: Option<i64>,
    /// Optimiser steps.
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<i64>,
    /// One setting, such as loader.batch=32 or arm=base; may be given many times.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: String,
    /// Print the result as JSON on standard output; progress goes to standard error.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Pretrain {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// The run folder, which must not exist. [default: runs/NAME, numbered]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub(crate) out: Option<PathBuf>,
    /// Continue the run in this folder exactly where its last checkpoint stands.
    #[arg(long, value_name = "DIR")]
    pub(crate) resume: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Args, Debug)]
pub(crate) struct Calibrate {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Passes of the supervised training over the training images.
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub(crate) supervised_epochs: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Eval {
    /// The run folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) run: PathBuf,
    /// A folder of images, or builtin:lookalikes. [default: what the run was trained on]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<String>,
    /// Print the figures as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}
