//! Features from a file, whoever wrote it.

mod npy;
mod npz;
mod read;
