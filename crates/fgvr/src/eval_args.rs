//! The arguments of `fgvr eval`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use fgvr_eval::Protocol;

use crate::args::{Adapting, Where, folder, name};

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("judged").required(true).args(["run", "weights", "features"])))]
pub(crate) struct Eval {
    /// The run folder.
    #[arg(long, value_name = "DIR", conflicts_with = "adaptation")]
    pub(crate) run: Option<PathBuf>,
    /// Weights to judge: a file, a folder, or `hf:owner/name[@revision][:file]`.
    #[arg(long, value_name = "SRC", value_parser = name(), requires = "data")]
    pub(crate) weights: Option<String>,
    /// Features to judge: an npz that `fgvr embed` wrote, or anyone's.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "batch"])]
    pub(crate) features: Option<PathBuf>,
    /// A folder of images or of tar shards, or builtin:lookalikes. [default: what the run was trained on]
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub(crate) data: Option<String>,
    #[command(flatten)]
    pub(crate) adapting: Adapting,
    /// A key of config.json, or a tensor, that says the weights are of another network, to be passed over; may be given
    /// many times.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["run", "features"])]
    pub(crate) allow_mismatch: Vec<String>,
    /// One setting over what the run or the weights bring: evaluate.*, normalisation.*, data.* (of a run but for the
    /// size), such as evaluate.knn.k=10; of a file of features evaluate.*; may be given many times.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Judge by these protocols too, each figure with its intervals; several separated by commas. Short for --set
    /// evaluate.protocols.run.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = ["all", "knn", "linear", "sgd", "labels", "cross-retrieval", "retrieval", "clusters"]
    )]
    pub(crate) protocols: Vec<String>,
    /// Fine-tune the network with these shares of the labels too, 0.1,1 without a value: minutes to hours. Short for --set
    /// evaluate.fine_tune.fractions; docs/evaluation.md has the recipe.
    #[arg(
        long,
        value_name = "SHARES",
        value_delimiter = ',',
        num_args = 0..=1,
        default_missing_value = "0.1,1",
        requires = "weights"
    )]
    pub(crate) fine_tune: Vec<f64>,
    #[command(flatten)]
    pub(crate) place: Where,
    /// Print the figures as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Eval {
    /// The settings that are asked for, those of options of their own first.
    pub(crate) fn settings(&self) -> Vec<String> {
        let mut settings = Vec::new();
        if !self.protocols.is_empty() {
            let all = self.protocols.iter().any(|name| name == "all");
            let asked = |protocol: &Protocol| {
                all || self.protocols.iter().any(|name| name == protocol.name())
            };
            let names = Protocol::ALL.into_iter().filter(asked);
            let names: Vec<String> = names.map(|protocol| format!("\"{protocol}\"")).collect();
            settings.push(format!("evaluate.protocols.run=[{}]", names.join(", ")));
        }
        if !self.fine_tune.is_empty() {
            settings.push(format!("evaluate.fine_tune.fractions={:?}", self.fine_tune));
        }
        settings.extend(self.set.iter().cloned());
        settings
    }
}
