//! The training engine.
//!
//! [`pretrain`] trains an encoder on unlabelled photos with a base objective (MoCo v2, SimSiam, BYOL, MoCo v3,
//! DINO or DIET) and the add-ons chosen, SynthPair among them; evaluates it beside what it started from and
//! raw pixels; and leaves a run folder that a person can look at and a program can load. [`study`] compares
//! such runs.

pub mod adapt;
pub mod config;
pub mod study;

mod adaptation;
mod against_start;
mod answers;
mod augment_on_device;
mod careful;
mod check_data;
mod checkpoint;
mod compare;
mod compare_figure;
mod compare_start;
mod compute;
mod data;
mod digest;
mod embed;
mod embed_set;
mod embedder;
mod embedding_file;
mod environment;
mod epoch;
mod error;
mod evaluate;
mod evaluate_run;
mod export;
mod features;
mod feed;
mod figures;
mod fine_tune;
mod finite;
mod fitting;
mod interpolate;
mod judge;
mod judged_on;
mod labelled;
mod leaks;
mod learning_rate;
mod loader;
mod monitor;
#[cfg(test)]
mod named;
mod objective;
mod observer;
mod optimizer;
mod out_of_memory;
mod pair_gate;
mod parts;
mod path_text;
mod pictures;
mod plan;
mod positives;
mod pretrain;
mod protocols;
mod reconstruct;
mod renumbered_rows;
mod restored;
mod resume;
mod run_folder;
mod run_report;
mod session;
mod settings_changed;
mod start;
mod step_row;
mod supervised;
mod teacher;
mod trainer;
mod until_failure;
mod view;
mod weights_source;

pub use adapt::{AdaptOptions, Adapted, adapt, write_adapted};
pub use adaptation::{adaptation_in_words, adaptation_of, open_adaptation};
pub use against_start::{AgainstStart, ComparedBy};
pub use careful::{careful_config, train_carefully};
pub use check_data::{check_data, pair_sheet};
pub use checkpoint::{Manifest, State, Which};
pub use compare::{CompareOptions, Compared, Comparison, Side, compare};
pub use compare_figure::CompareFigure;
pub use compute::Compute;
pub use config::{OptimizerKind, PretrainConfig, register_addon, register_base};
pub use data::{DataRecord, Fingerprint};
pub use embed_set::embed_set;
pub use embedder::Embedder;
pub use embedding_file::{EmbeddingTable, TableFormat};
pub use environment::{Environment, peak_memory};
pub use error::{Error, Result};
pub use evaluate::Evaluation;
pub use evaluate_run::{evaluate_run, evaluate_run_with};
pub use export::{ExportOptions, Exported, export_run};
pub use feed::{Fed, Feed, StagedViews};
pub use figures::{Figures, Knn, Linear, Retrieval};
pub use judge::{JudgeOptions, JudgedRow, Judgement, evaluate_features, evaluate_weights};
pub use judged_on::JudgedOn;
pub use learning_rate::learning_rate;
pub use monitor::{Monitor, Vitals};
pub use observer::{Observer, Silent};
pub use parts::{ChannelHits, MapHits, PartHits};
pub use path_text::path_text;
pub use plan::{Plan, plan};
pub use pretrain::pretrain;
pub use protocols::{protocol_notes, protocol_table};
pub use reconstruct::Psnr;
pub use resume::{ResumeOptions, resume};
pub use run_folder::{Place, RunFolder};
pub use run_report::evaluation_tables;
pub use session::Summary;
pub use settings_changed::settings_changed;
pub use step_row::StepRow;
pub use supervised::{Calibration, calibrate};
pub use trainer::Trainer;
pub use weights_source::{open_weights, publish};

/// The README's example, run as a test.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct ReadmeDoctests;
