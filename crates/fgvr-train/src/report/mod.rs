//! What a person reads after a run: tables in the terminal, one offline HTML page with plots and
//! pictures, and labelled contact sheets.

mod axis;
mod font;
mod html;
mod sheet;
mod svg;
mod table;
mod ticks;

pub use axis::Scale;
pub(crate) use html::escape;
pub use html::{Picture, Report, ReportError, Section};
pub use sheet::{RgbSheet, Sheet, SheetRow};
pub use svg::{Plot, Series};
pub use table::{Align, Table};
