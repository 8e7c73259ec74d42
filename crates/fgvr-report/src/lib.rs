//! What a person reads after a run: tables in the terminal, one offline HTML page with plots and
//! pictures, and labelled contact sheets.

mod axis;
mod font;
mod html;
pub mod record;
mod sheet;
mod svg;
mod table;
mod ticks;

pub use axis::Scale;
pub use html::{Picture, Report, ReportError, Section, escape};
pub use sheet::{RgbSheet, Sheet, SheetRow};
pub use svg::{Plot, Series};
pub use table::{Align, Table};

/// The README's example, run as a test.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct ReadmeDoctests;
