#![doc = include_str!("../README.md")]

mod axis;
mod font;
mod html;
pub mod record;
mod sheet;
mod svg;
mod table;
mod ticks;

pub use axis::Scale;
/// The release of candle whose tensors are taken and given.
pub use candle_core;
pub use html::{Picture, Report, ReportError, Section, escape};
pub use sheet::{RgbSheet, Sheet, SheetRow};
pub use svg::{Plot, Series};
pub use table::{Align, Table};
