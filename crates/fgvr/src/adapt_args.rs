//! The command line of `fgvr adapt`.

use std::path::PathBuf;

use clap::Args;
use fgvr_perturb::AdaptKind;

use crate::args::{NamesOf, Source, Where, folder};

pub(crate) const EXAMPLES: &str = "\
Examples:
  fgvr adapt --weights hf:timm/resnet50.a1_in1k --data photos/
  fgvr adapt --weights my-encoder --data photos/ --out birds --views 2
  fgvr adapt --run runs/birds --data photos/ --set adapt.ridge=0.1 --set data.size=160
  fgvr adapt --train --weights my-encoder --data photos/ --out birds
                                                  careful training first, minutes rather than one

Photos need no labels. Where they have some, in class folders, a table says what came of it; labels choose
nothing. The features of the training photos are embedded plainly and in augmented views, and what views of
one photo differ by is divided out. A tenth of the training photos is held out to ask whether that helps:
open exports the adapted network, shut or cannot tell the start. Stopped by Ctrl-C, the same command goes on.
docs/adapt.md has the formula, all settings (adapt.*) and what larger sets cost.";

#[derive(Args, Debug)]
pub(crate) struct Adapt {
    #[command(flatten)]
    pub(crate) network: Source,
    /// A folder of photos, or builtin:lookalikes.
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub(crate) data: String,
    /// The folder to make; it must not exist. [default: adapted/NAME, numbered, after the photos' folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Augmented views of each photo, short for --set adapt.views=N. [default: 4]
    #[arg(long, value_name = "N")]
    pub(crate) views: Option<usize>,
    /// Which covariance is divided out, short for --set adapt.kind=KIND: nuisance-neighbours, nuisance, or
    /// a control: centred, total, random-basis, between, neighbours. [default: nuisance-neighbours]
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<AdaptKind>,
    /// Train carefully first (100 steps: minutes on a CPU), then adapt what came of it; each is used only if held-out photos
    /// say that it helps. The training lies beside --out, under its name and -training, and goes on there after a stop.
    /// --set optimizer.steps=200 and the like are for it. `fgvr plan` with the same weights and photos says what it costs.
    #[arg(long, conflicts_with = "run")]
    pub(crate) train: bool,
    /// Where the gate cannot tell whether it helps, export the adapted network all the same.
    #[arg(long)]
    pub(crate) if_unsure: bool,
    /// Settings from a TOML file, such as ridge = 0.1 in its table adapt.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One setting: adapt.*, evaluate.knn.*, evaluate.linear.*, and how photos are seen as for embed: data.*,
    /// normalisation.*, evaluate.interpolation and the like; may be given many times.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Whose names the exported tensors get.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: NamesOf,
    /// The licence that the model card states, such as apache-2.0.
    #[arg(long, value_name = "ID")]
    pub(crate) license: Option<String>,
    #[command(flatten)]
    pub(crate) place: Where,
    /// Print all figures as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}
