//! What to say where the memory of a GPU does not hold a batch.

use fgvr_encoder::FrozenBackbone;
use fgvr_nn::{Device, Exhausted};

use crate::Error;

/// What to say of a pass of a frozen network over `images` that memory was short of; of any other error, itself.
pub(crate) fn explain_embedding(encoder: &FrozenBackbone, images: usize, error: Error) -> Error {
    let device = encoder.device();
    match device.and_then(|device| Some((device, device.take_exhausted()?))) {
        Some((device, short)) => Error::Config {
            key: "embedding".to_owned(),
            problem: format!(
                "{}; try half as many (evaluate.batch; --batch of embed and eval)",
                found(images, device, short)
            ),
        },
        None => error,
    }
}

/// How short memory was.
pub(crate) fn found(images: usize, device: &Device, short: Exhausted) -> String {
    let mebibytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    format!(
        "{images} images do not fit the memory of {}: {:.1} MiB more were wanted, {:.1} of {:.1} MiB were free",
        device.name(),
        mebibytes(short.wanted),
        mebibytes(short.free),
        mebibytes(short.total)
    )
}
