//! The command line.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::adapt_args::Adapt;
use crate::compare::Compare;
use crate::data::DataCommand;
use crate::eval_args::Eval;

const EXAMPLES: &str = "\
Examples:
  fgvr pretrain                                   the demo: a few minutes on two cores
  fgvr pretrain --data photos/ --epochs 100       learn from a folder of photos
  fgvr pretrain --preset learn --set arm=base     the base method alone, on the built-in set
  fgvr pretrain --resume runs/demo                go on where a run stopped
  fgvr pretrain --resume runs/photos --data new/
                                                  the same, of photos that were moved to new/
  fgvr plan --data photos/                        what a run would cost
  fgvr adapt --weights hf:timm/resnet50.a1_in1k --data photos/
                                                  better features of your own photos, in minutes
  fgvr pretrain --weights hf:timm/resnet50.a1_in1k --data photos/
                                                  start from pretrained weights
  fgvr eval --run runs/demo --data photos/        judge a run's features on other photos
  fgvr eval --weights resnet50.pth --data photos/
                                                  judge anyone's weights
  fgvr embed --run runs/demo --data photos/ --out photos.npz
                                                  features of photos, for other programs
  fgvr export --run runs/demo --to my-encoder     weights for timm, torchvision, transformers
  fgvr weights inspect resnet50.pth               what a file or a Hub repository holds

A command that fails says why on one line. It ends with 2 where you can mend it (a path, a file, a
setting, a full disk), with 1 where you cannot or an alarm ended the run, and with 130 after a signal.";

const SOURCES: &str = "\
SRC is a safetensors file, a PyTorch .pth, .pt, .bin or .pth.tar file of any version since 0.1.10
(nothing in it is run), a folder with one of them and perhaps a config.json, or
hf:owner/name[@revision][:file] on the Hub. Names of timm, torchvision, transformers, MoCo, DINO, BYOL,
SimSiam, lightly and solo-learn are found by looking.
HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are heeded.";

const EVAL_EXAMPLES: &str = "\
Examples:
  fgvr eval --run runs/birds --data photos/
  fgvr eval --weights resnet50.pth --data photos/
  fgvr eval --weights resnet50.pth --adaptation adapted/ --data photos/
  fgvr eval --features photos.npz --adaptation adapted/adaptation.safetensors

Neighbours and probe go from train to test. A folder without train/ and test/ has 20 % of each class held out, and so
has a file of features without other splits. A file of features is an npz that `fgvr embed` wrote, or any with
features or embeddings (N, C) and labels (N), and perhaps splits (N: train, val, test) and classes (names).";

const EXPORT_EXAMPLES: &str = "\
Examples:
  fgvr export --run runs/birds --to birds-r50
  fgvr export --run runs/birds --to birds-r50-hf --format transformers --license apache-2.0
Then, in Python:
  timm.create_model(\"local-dir:birds-r50\", pretrained=True)";

const EMBED_EXAMPLES: &str = "\
Examples:
  fgvr embed --run runs/birds --data photos/ --out photos.npz
  fgvr embed --weights hf:timm/vit_small_patch14_dinov2.lvd142m --size 224 --data photos/ --out photos.csv
  fgvr embed --run runs/birds --set data.labels=none --set evaluate.squash=true --data photos/ --out p.npz
  fgvr embed --weights resnet50.pth --adaptation adapted/ --data photos/ --out photos.npz

A run's settings of data.* and evaluate.* hold, and so does the preprocessing of weights; --set overrides each.
The file holds features (N, C), labels (-1 without one), paths, splits and class names, and what the features were adapted
by.";

const STUDY_EXAMPLES: &str = "\
Examples:
  fgvr study my-study.toml --out studies/mine     begin, or go on where it stopped
  fgvr study --preset seeds --out studies/seeds   a study that comes with fgvr
  fgvr study --preset seeds --data photos/ --out studies/mine     the same on your own photos
  fgvr study --preset seeds --arm synthpair --arm random-mask --out studies/two   of its arms, these
                                                  and the control
  fgvr study my-study.toml --weights resnet50.pth --data photos/ --out studies/mine     on your own
                                                  photos from these weights
  fgvr study my-study.toml --out studies/mine --estimate          only the hours that it would take

A study file names arms, seeds and data sets:
  name = \"does it help?\"
  seeds = [0, 1, 2]
  control = \"base\"
  preset = \"learn\"
  [[data]]
  name = \"birds\"
  source = \"builtin:lookalikes\"
  [[arm]]
  name = \"base\"
  set = [\"arm=base\"]
  [[arm]]
  name = \"full\"
  set = [\"arm=full\"]
Further keys: weights = \"SRC\" in [[data]] starts its runs from pretrained weights.
closed_form = true judges every run and the start with and without the closed form of `fgvr adapt`.
frozen = true in [[arm]] fits a closed form (adapt.*) to the start's features and trains nothing.
[[compare]] with arm, with (an arm or start), figure (kNN, mAP, probe), form and with_form (plain,
closed-form) names a comparison, eight at most. docs/methods.md says what each computes.
Call it in several processes with one --out, and they share the work. Before it starts, a few steps
of each arm are timed and the hours told, but not of arms whose runs are so short that this would
cost a tenth of them or more; what was timed is not timed again.";

const PUBLISH_EXAMPLES: &str = "\
Examples:
  HF_TOKEN=... fgvr publish --dir birds-r50 --to me/birds-r50
  HF_TOKEN=... fgvr publish --run runs/birds --to me/birds-r50 --private --license apache-2.0";

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
    /// Judge the frozen features of a run, of anyone's weights, or in a file.
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(Eval),
    /// Compare several kinds of features on the same images: which is better, and is that more than chance?
    #[command(after_help = crate::compare::EXAMPLES)]
    Compare(Compare),
    /// Print parameters, memory, steps and time of a run before anything is spent.
    Plan(Plan),
    /// Adapt a pretrained network to your own photos, without labels and without training.
    #[command(after_help = crate::adapt_args::EXAMPLES)]
    Adapt(Adapt),
    /// Features of photos in a file: NumPy's npz, safetensors or CSV.
    #[command(after_help = EMBED_EXAMPLES)]
    Embed(Embed),
    /// Weights of a run for timm, torchvision and transformers, with a model card.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Export),
    /// Put an exported encoder on the Hub.
    #[command(after_help = PUBLISH_EXAMPLES)]
    Publish(Publish),
    /// Compare arms over seeds and data sets at equal budgets: does it help, and by how much?
    #[command(after_help = STUDY_EXAMPLES)]
    Study(Study),
    /// Look into pretrained weights.
    #[command(subcommand)]
    Weights(WeightsCommand),
    /// Look into data sets.
    #[command(subcommand)]
    Data(DataCommand),
    /// Supervised and untrained references on a data set: how hard is it?
    Calibrate(Calibrate),
}

/// What a run is made of.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// Named settings: demo, learn, photos, pretrained, pretrained-vit, distil, or a published recipe: moco-v2, simsiam, byol,
    /// moco-v3, moco-v3-vit, dino, dino-vit, lcr, lodisc. [default: demo, or photos with a folder as --data; with
    /// --weights careful training, pretrained or pretrained-vit as the network is]
    #[arg(long, value_name = "P", conflicts_with = "config")]
    pub(crate) preset: Option<String>,
    /// Settings from a TOML file, such as the config.toml of a run.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A folder of images or of tar shards, or builtin:lookalikes.
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub(crate) data: Option<String>,
    /// Pretrained weights to start from: a file, a folder, or `hf:owner/name[@revision][:file]`. They bring
    /// architecture, image size, resizing and normalisation along; --set overrides each of the last three.
    #[arg(long, value_name = "SRC", value_parser = name())]
    pub(crate) weights: Option<String>,
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
    /// Where networks run: auto (the first GPU, or the CPU), cpu, cuda, cuda:N, or emulator (a GPU's
    /// kernels on the CPU, slowly, for tests). --set precision=bf16 or tf32 says what a GPU computes in.
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
    /// Continue the run in this folder exactly where its last checkpoint stands. --data says where its photos are
    /// now, if they were moved.
    #[arg(long, value_name = "DIR")]
    pub(crate) resume: Option<PathBuf>,
    /// Continue although photos were added, removed or changed since that checkpoint. They are counted anew, and
    /// with them the steps of an epoch.
    #[arg(long, requires = "resume")]
    pub(crate) data_changed: bool,
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

/// Where a trained encoder runs.
#[derive(Args, Debug)]
pub(crate) struct Where {
    /// Where the encoder runs: auto (the first GPU, or the CPU), cpu, cuda, cuda:N, or emulator (a GPU's kernels on
    /// the CPU, slowly, for tests).
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: String,
    /// What a GPU computes in, whatever the encoder was trained in.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) precision: Precise,
    /// Images a forward pass. [default: what the run says, or 32]
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<usize>,
}

/// What a GPU computes in.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Precise {
    /// f32 throughout, as on the CPU.
    #[default]
    F32,
    /// Products of numbers rounded to 10 bits of mantissa.
    Tf32,
    /// Maps in 16 bits, sums in f32.
    Bf16,
}

/// Whether features are adapted.
#[derive(Args, Debug)]
pub(crate) struct Adapting {
    /// Transform features by this saved adaptation: a file, or an export that has one.
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "plain")]
    pub(crate) adaptation: Option<PathBuf>,
    /// Leave off the adaptation that comes with the weights.
    #[arg(long, requires = "weights")]
    pub(crate) plain: bool,
}

/// A network: weights, or the encoder of a run.
#[derive(Args, Debug)]
pub(crate) struct Source {
    /// The network's weights: a file, a folder, or `hf:owner/name[@revision][:file]`.
    #[arg(
        long,
        value_name = "SRC",
        value_parser = name(),
        required_unless_present = "run",
        conflicts_with = "run"
    )]
    pub(crate) weights: Option<String>,
    /// The run whose encoder it is.
    #[arg(long, value_name = "DIR")]
    pub(crate) run: Option<PathBuf>,
    /// Which checkpoint of the run.
    #[arg(long, value_enum, default_value_t, conflicts_with = "weights")]
    pub(crate) checkpoint: Checkpoint,
    /// A key of config.json, or a tensor (`layer1.*` for all under layer1), that says the weights are of another network
    /// than the one they are loaded into, to be passed over; may be given many times.
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    pub(crate) allow_mismatch: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Embed {
    #[command(flatten)]
    pub(crate) network: Source,
    /// A folder of images or of tar shards, or builtin:lookalikes.
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub(crate) data: String,
    /// The file to write: .npz, .safetensors or .csv.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Side of the images in pixels, short for --set data.size=PX. [default: what the run or the weights
    /// were made for]
    #[arg(long, value_name = "PX")]
    pub(crate) size: Option<usize>,
    /// One setting over what the run or the weights bring: data.*, normalisation.*, and of evaluate
    /// resize_ratio, squash, interpolation and batch; may be given many times.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) adapting: Adapting,
    /// Replace a file that is there.
    #[arg(long)]
    pub(crate) overwrite: bool,
    #[command(flatten)]
    pub(crate) place: Where,
    /// Print what was written as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The run folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) run: PathBuf,
    /// The directory to make; it must not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Whose names the tensors get.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: NamesOf,
    /// Which checkpoint of the run.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) checkpoint: Checkpoint,
    /// Go back toward the weights that the run started from by this share, 0 to 1: 0.5 exports the mean of both.
    #[arg(long, value_name = "SHARE")]
    pub(crate) toward_start: Option<f64>,
    /// The licence that the model card states, such as apache-2.0.
    #[arg(long, value_name = "ID")]
    pub(crate) license: Option<String>,
    /// Print what was written as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Publish {
    /// A directory that `fgvr export` wrote.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "run",
        conflicts_with = "run"
    )]
    pub(crate) dir: Option<PathBuf>,
    /// A run, whose last checkpoint is exported first.
    #[arg(long, value_name = "DIR")]
    pub(crate) run: Option<PathBuf>,
    /// The repository: owner/name.
    #[arg(long, value_name = "REPO")]
    pub(crate) to: String,
    /// The branch to put it on.
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    pub(crate) revision: String,
    /// Make the repository a private one, where it has to be made.
    #[arg(long)]
    pub(crate) private: bool,
    /// The commit's message.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "Upload an encoder trained with fgvr"
    )]
    pub(crate) message: String,
    /// The licence that the model card states, such as apache-2.0.
    #[arg(long, value_name = "ID", conflicts_with = "dir")]
    pub(crate) license: Option<String>,
    /// Print where it is as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WeightsCommand {
    /// Print files, hashes, names, shapes, architecture and preprocessing of weights.
    #[command(after_help = SOURCES)]
    Inspect(Inspect),
}

#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// A file, a folder, or `hf:owner/name[@revision][:file]`.
    #[arg(value_name = "SRC", value_parser = name())]
    pub(crate) source: String,
    /// Print everything as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which checkpoint.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Checkpoint {
    /// The newest.
    #[default]
    Last,
    /// The best by kNN on held-out training images.
    BestVal,
}

/// Whose names.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum NamesOf {
    /// timm's and torchvision's.
    #[default]
    Timm,
    /// transformers'.
    Transformers,
}

#[derive(Args, Debug)]
pub(crate) struct Study {
    /// The study file.
    #[arg(
        value_name = "STUDY.toml",
        required_unless_present = "preset",
        conflicts_with = "preset"
    )]
    pub(crate) file: Option<PathBuf>,
    /// A study that comes with fgvr: seeds, ablation or bases.
    #[arg(long, value_name = "P")]
    pub(crate) preset: Option<String>,
    /// Your own photos in place of the study's data sets, under preset photos; where these start from pretrained weights,
    /// once for each network, trained as the study says.
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub(crate) data: Option<String>,
    /// Pretrained weights in place of those that the study's data sets start from, once for each of their photos. A
    /// data set without weights is then trained carefully.
    #[arg(long, value_name = "SRC", value_parser = name())]
    pub(crate) weights: Option<String>,
    /// One setting of all runs, over the study's own; may be given many times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Only this arm, beside the control; may be given many times.
    #[arg(long, value_name = "NAME")]
    pub(crate) arm: Vec<String>,
    /// Time a few steps of every arm that has runs to do, print the hours, and stop.
    #[arg(long)]
    pub(crate) estimate: bool,
    /// The study's folder; what is done in it is not done again.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Where networks run: auto (the first GPU, or the CPU), cpu, cuda, cuda:N, or emulator (a GPU's
    /// kernels on the CPU, slowly, for tests). --set precision=bf16 or tf32 says what a GPU computes in.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: String,
    /// Print the figures as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A data set's name; a path that is not UTF-8 as ids have it, which `fgvr_data::open` reads.
pub(crate) fn folder() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().map(|name| {
        let id = |name: std::ffi::OsString| fgvr_data::id_of(name.as_ref());
        name.into_string().unwrap_or_else(id)
    })
}

/// A name of weights: a file, a folder, or what the Hub calls them. It stands in the settings of a run and in what is made
/// of it, which are text.
pub(crate) fn name() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().try_map(|name| {
        name.into_string().map_err(|_| {
            "the name is not UTF-8, and a run's settings are text; rename it, or make a link to it with another name"
        })
    })
}
