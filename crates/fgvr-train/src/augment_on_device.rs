//! The pair's own augmentation, of images on a device.

use candle_core::Result;
use fgvr_data::Normalisation;
use fgvr_data::augment::{Adjustment, PairDraw};
use fgvr_nn::cuda::ops::augment::{self, Draw, Norm, Shape, augment_pairs};
use fgvr_nn::{Activation, Device};

/// [`pair_augment`](fgvr_data::augment::pair_augment) of `images` (N, H, W, 3) on `device`, each by what was drawn for it.
pub(crate) fn augment_on_device(
    device: &Device,
    images: &Activation,
    draws: &[PairDraw],
    norm: &Normalisation,
) -> Result<Activation> {
    let [n, height, width, _] = images.shape();
    let shape = Shape {
        images: n,
        height,
        width,
    };
    let draws: Vec<Draw> = draws.iter().map(for_device).collect();
    let norm = Norm {
        mean: norm.mean,
        std: norm.std,
    };
    let array = images.array()?;
    let augmented = device.run(|m| augment_pairs(m, array, shape, &draws, norm))?;
    Activation::new(device, images.shape(), augmented)
}

/// The same as the kernels know it.
pub(crate) fn for_device(draw: &PairDraw) -> Draw {
    let adjustment = |what| match what {
        Adjustment::Brightness => augment::Adjustment::Brightness,
        Adjustment::Contrast => augment::Adjustment::Contrast,
        Adjustment::Saturation => augment::Adjustment::Saturation,
        Adjustment::Hue => augment::Adjustment::Hue,
    };
    Draw {
        jitter: (draw.jitter).map(|drawn| drawn.map(|(what, factor)| (adjustment(what), factor))),
        grayscale: draw.grayscale,
        flip: draw.flip,
    }
}
