//! What came of it.

use fgvr_data::Found;
use fgvr_perturb::{AdaptKind, Adaptation, Fitted};
use serde::Serialize;

use super::judge::{LabelFree, Table};
use super::{AdaptSettings, Gate, Training};
use fgvr_report::Sheet;

/// An adaptation, and what speaks for it.
#[derive(Clone, Debug)]
pub struct Adapted {
    /// The transformation, fitted to all training photos but those that are held out: the one that the gate and the table
    /// are about.
    pub adaptation: Adaptation,
    /// What photos without labels say of it.
    pub gate: Gate,
    /// What labels say; `None` without labels, or where they were not asked.
    pub table: Option<Table>,
    /// Measures without labels.
    pub label_free: Vec<LabelFree>,
    /// What some held-out photos find with plain and with adapted features.
    pub neighbours: Option<Sheet>,
    /// The settings.
    pub settings: AdaptSettings,
    /// What was embedded.
    pub photos: PhotoCounts,
    /// What was found where the data was opened.
    pub data: Found,
    /// Where the weights come from, in words.
    pub encoder: String,
    /// Where the encoder ran.
    pub device: String,
    /// How photos were seen, in words.
    pub preprocessing: String,
    /// Seconds of each part.
    pub seconds: Seconds,
    /// What a person should know, line by line.
    pub remarks: Vec<String>,
    /// Of [`adapt_trained`](super::adapt_trained): what training came to before it.
    pub training: Option<Training>,
}

/// How many photos played which part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PhotoCounts {
    /// Training photos that the adaptation is fitted to.
    pub fitted: usize,
    /// Training photos that are held out of it.
    pub held_out: usize,
    /// Test or validation photos that were embedded for the table.
    pub judged: usize,
    /// Photos that cannot be read.
    pub unreadable: usize,
}

/// Seconds that the parts took; of a run that was stopped and went on, those of its last part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// Reading and embedding photos.
    pub embedding: f64,
    /// Fitting the adaptation, and asking the gate.
    pub fitting: f64,
    /// Fitting the controls, and the table.
    pub judging: f64,
    /// All.
    pub total: f64,
}

/// `adapt.json`.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    gate: &'a Gate,
    kind: AdaptKind,
    fitted: &'a Fitted,
    rank_deficient: bool,
    table: Option<&'a Table>,
    label_free: &'a [LabelFree],
    settings: &'a AdaptSettings,
    photos: PhotoCounts,
    data: &'a Found,
    encoder: &'a str,
    preprocessing: &'a str,
    device: &'a str,
    seconds: Seconds,
    remarks: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    training: Option<&'a Training>,
}

impl Adapted {
    /// All figures for a file.
    pub(super) fn record(&self) -> Record<'_> {
        Record {
            gate: &self.gate,
            kind: self.settings.kind,
            fitted: self.adaptation.fitted(),
            rank_deficient: self.adaptation.rank_deficient(),
            table: self.table.as_ref(),
            label_free: &self.label_free,
            settings: &self.settings,
            photos: self.photos,
            data: &self.data,
            encoder: &self.encoder,
            preprocessing: &self.preprocessing,
            device: &self.device,
            seconds: self.seconds,
            remarks: &self.remarks,
            training: self.training.as_ref(),
        }
    }
}
