#![doc = include_str!("../README.md")]
//!
//! # Where to begin
//! [`open`](open()) finds the splits of a data set; [`Loader`] makes batches of random views of one, with
//! [`augment`](augment::augment); [`load_batch`](load_batch()) gives the fixed views that evaluation sees, and
//! [`load_photo`] that of a single file.

mod atomic;
pub mod augment;
pub mod check;
pub mod dataset;
mod decode;
mod error;
mod folder;
mod found;
mod keyed;
mod layout;
mod load_batch;
pub mod loader;
pub mod lookalikes;
mod name;
mod normalisation;
mod open;
mod png;
pub mod sets;
mod shards;
mod split;

pub use atomic::{Existing, can_hold_files, sync_folder, write_whole};
/// The release of candle whose tensors come out.
pub use candle_core;
pub use dataset::{Dataset, Image, PartMask};
pub use decode::{MAX_PIXELS, decode, decode_bytes};
pub use error::Error;
pub use folder::{Folder, Labels};
pub use found::{Found, HeldOut, SplitCounts, UnreadableFolder};
pub use load_batch::{Loaded, load_batch, load_photo, load_whole};
pub use loader::{
    Batch, Companions, Loader, LoaderConfig, Position, Quarantined, Stopper, Transform,
    companions_of, shuffled_pairs, write_quarantine,
};
pub use lookalikes::{Lookalikes, LookalikesConfig, Split};
pub use name::{id_of, path_of, shown};
pub use normalisation::Normalisation;
pub use open::{DataConfig, Splits, open};
pub use png::{encode_png, grid, write_png};
pub use sets::{BoundingBox, Crop, DataLayout, Level};
pub use shards::{MAX_MEMBER, ShardIndex, ShardProblem, Shards};
