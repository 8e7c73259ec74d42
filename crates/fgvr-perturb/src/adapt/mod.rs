//! Nuisance covariance, and the whitening by it.
//!
//! What two augmented views of *the same image* differ by, the nuisance, should not count when images are
//! compared. [`NuisanceCovariance`] gathers it from a stream of features, [`Adaptation::fit`] makes the linear
//! transformation that divides it out, and [`AdaptKind`] names the controls that it must beat. No labels are
//! used anywhere.
//!
//! This is linear discriminant analysis with each image as a class of its own. Speaker recognition calls it
//! within-class covariance normalisation (Hatch, Kajarekar and Stolcke 2006).
//!
//! Everything works on `&[f32]` in row-major order. Methods that end in `_tensor` take candle's tensors instead.
//! The same input gives the same bits on any number of threads.

mod adaptation;
mod check;
mod cholesky;
mod config;
mod covariance;
mod eigen;
mod error;
mod file;
mod fit;
mod neighbours;
mod nuisance;
mod nuisance_file;
mod orthogonal;
mod scatter;
mod symmetric_sum;
mod tensors;
mod vectors;

pub use adaptation::{Adaptation, Fitted};
pub use config::{AdaptConfig, AdaptKind};
pub use error::AdaptError;
pub use fit::Fitter;
pub use neighbours::{mutual_neighbours, neighbour_covariance};
pub use nuisance::NuisanceCovariance;
pub use orthogonal::random_orthogonal;
