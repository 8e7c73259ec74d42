//! The training engine.
//!
//! [`pretrain`] trains an encoder on unlabelled photos with a base objective (MoCo v2, SimSiam, BYOL, MoCo v3
//! or DINO) and the add-ons chosen, SynthPair among them; evaluates it beside what it started from and
//! raw pixels; and leaves a run folder that a person can look at and a program can load. [`study`] compares
//! such runs.

pub mod adapt;
pub mod config;
pub mod study;

mod against_start;
mod answers;
mod augment_on_device;
mod checkpoint;
mod compute;
mod data;
mod digest;
mod embed;
mod embedder;
mod embedding_file;
mod environment;
mod epoch;
mod error;
mod evaluate;
mod export;
mod features;
mod feed;
mod finite;
mod fitting;
mod judge;
mod learning_rate;
mod monitor;
mod observer;
mod optimizer;
mod parts;
mod path_text;
mod pictures;
mod plan;
mod pretrain;
mod reconstruct;
mod resume;
mod run_folder;
mod run_report;
mod session;
mod settings_changed;
mod start;
mod step_row;
mod supervised;
mod trained;
mod trainer;
mod until_failure;
mod view;

pub use adapt::{AdaptOptions, Adapted, adapt, write_adapted};
pub use against_start::{AgainstStart, ComparedBy};
pub use checkpoint::{Manifest, State, Which};
pub use compute::Compute;
pub use config::PretrainConfig;
pub use data::{DataRecord, Fingerprint};
pub use embed::embed_set;
pub use embedder::{Embedder, adaptation_of, open_adaptation};
pub use embedding_file::{EmbeddingTable, TableFormat};
pub use environment::{Environment, peak_memory};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, Figures, JudgedOn, Knn, Linear, Retrieval};
pub use export::{ExportOptions, Exported, export_run};
pub use feed::{Fed, Feed, StagedViews};
pub use judge::{
    JudgeOptions, JudgedRow, Judgement, adaptation_in_words, evaluate_features, evaluate_weights,
};
pub use learning_rate::learning_rate;
pub use monitor::{Monitor, Vitals};
pub use observer::{Observer, Silent};
pub use optimizer::OptimizerKind;
pub use parts::{ChannelHits, MapHits, PartHits};
pub use path_text::path_text;
pub use plan::{Plan, plan};
pub use pretrain::{Summary, evaluate_run, evaluate_run_with, pretrain};
pub use reconstruct::Psnr;
pub use resume::{ResumeOptions, resume};
pub use run_folder::{Place, RunFolder};
pub use run_report::evaluation_tables;
pub use settings_changed::settings_changed;
pub use start::{open_weights, publish};
pub use step_row::StepRow;
pub use supervised::{Calibration, calibrate};
pub use trainer::Trainer;

/// The README's example, run as a test.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct ReadmeDoctests;
