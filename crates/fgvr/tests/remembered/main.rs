//! The data of a run is remembered: what changed is told, what only lies elsewhere is found.

mod changed;
#[path = "../common/mod.rs"]
mod common;
mod moved;
mod old_runs;
mod settings;
mod support;
