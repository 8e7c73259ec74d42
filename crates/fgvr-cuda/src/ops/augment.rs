//! Augmentation of the images of generated pairs: colour jitter, greys, left and right exchanged.

use super::columns::{counted, pack};
use super::rows::THREADS;
use crate::source::AUGMENT;
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Result};

const OP: &str = "augment pairs";
/// Groups of pixels that one thread takes.
const GROUPS: usize = 4;

/// One of the four adjustments of colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// The factor times the image, cut off at 1.
    Brightness,
    /// Away from the image's mean luminance, or towards it, by the factor.
    Contrast,
    /// Away from each pixel's luminance, or towards it, by the factor.
    Saturation,
    /// Hue turned by the factor's share of the circle, in [-0.5, 0.5].
    Hue,
}

/// What is done to one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Each of the four adjustments with its factor, in their order, if any.
    pub jitter: Option<[(Adjustment, f32); 4]>,
    /// Whether colour is left out.
    pub grayscale: bool,
    /// Whether left and right are exchanged.
    pub flip: bool,
}

/// Images (N, H, W, 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// N.
    pub images: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
}

/// Normalised is (v - mean) / std, of each channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by; above 0.
    pub std: [f32; 3],
}

impl Draw {
    /// Flags, the order and the factors, as `WORDS` of `kernels/augment.cu`.
    fn words(&self) -> Result<[u32; 6]> {
        let flags = [self.jitter.is_some(), self.grayscale, self.flip];
        let bit = |(at, on): (usize, bool)| u32::from(on) << at;
        let mut words = [0; 6];
        words[0] = flags.into_iter().enumerate().map(bit).sum();
        let (mut seen, jitter) = (0, self.jitter.iter().flatten());
        for (at, (adjustment, factor)) in jitter.enumerate() {
            words[1] |= (*adjustment as u32) << (8 * at);
            words[2 + at] = factor.to_bits();
            seen |= 1 << *adjustment as u32;
        }
        // There is one mean luminance an image, so one contrast.
        if self.jitter.is_some() && seen != 0b1111 {
            let found = format!("{:?}", self.jitter);
            return Err(wrong("jitter", "each adjustment once".into(), found));
        }
        Ok(words)
    }
}

/// `images`, which are normalised, each changed as its draw says, and normalised again; of their type.
/// Values are cut off to [0, 1] in between. Hue must not be turned further than half the circle.
///
/// Luminance is 0.2989 R + 0.587 G + 0.114 B; the adjustments are torchvision's on float tensors.
///
/// # Errors
/// Operands of other lengths or types, draws that are not one an image, an adjustment that is there twice,
/// a standard deviation that is not above 0; what the machine says.
pub fn augment_pairs(
    machine: &dyn Machine,
    images: &Array,
    shape: Shape,
    draws: &[Draw],
    norm: Norm,
) -> Result<Array> {
    let module = Module {
        file: &AUGMENT,
        real: images.real(OP, "images")?,
    };
    let plane = counted(OP, "height and width", &[shape.height, shape.width])?;
    let len = 3 * shape.images * plane;
    images.expect(OP, "images", images.dtype(), len)?;
    if draws.len() != shape.images {
        return Err(wrong(
            "draws",
            format!("{}, one an image", shape.images),
            draws.len().to_string(),
        ));
    }
    if !norm.std.iter().all(|v| *v > 0.) {
        let found = format!("{:?}", norm.std);
        return Err(wrong("standard deviations", "above 0".into(), found));
    }
    let out = Array::new(machine, images.dtype(), len)?;
    if len == 0 {
        return Ok(out);
    }
    let words: Result<Vec<_>> = draws.iter().map(Draw::words).collect();
    let draws_there = Array::from_u32(machine, words?.as_flattened())?;
    // 3 packs are that many pixels, and no group of pixels reaches over the end of a row.
    let pack = pack(module);
    let vector = shape.width.is_multiple_of(pack);
    let pixels = if vector { pack } else { 1 };
    let (groups, slab) = (plane / pixels, THREADS * GROUPS);
    let slabs = groups.div_ceil(slab);
    let blocks = counted(OP, "images and slabs of pixels", &[shape.images, slabs])?;
    let partial = Array::new(machine, DType::F64, blocks)?;
    let [mean_r, mean_g, mean_b] = norm.mean.map(Argument::F32);
    let [std_r, std_g, std_b] = norm.std.map(Argument::F32);
    let norm = [mean_r, mean_g, mean_b, std_r, std_g, std_b];
    let counts = [groups, slab, slabs].map(|count| Argument::I32(count as i32));
    let start = |[kernel, any]: [&'static str; 2], operands: &[&[Argument<'_>]]| {
        machine.launch(&Launch {
            module,
            kernel: if vector { kernel } else { any },
            grid: [blocks as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            arguments: &operands.concat(),
        })
    };
    let operands = [images, &draws_there, &partial].map(Argument::Array);
    if draws.iter().any(|draw| draw.jitter.is_some()) {
        let kernels = ["augment_sums", "augment_sums_any"];
        start(kernels, &[&operands, &counts, &norm])?;
    }
    let across = Argument::I32((shape.width / pixels) as i32);
    let operands = [&operands[..], &[Argument::Array(&out)]].concat();
    let kernels = ["augment_apply", "augment_apply_any"];
    start(kernels, &[&operands, &counts, &[across], &norm])?;
    Ok(out)
}

fn wrong(what: &'static str, expected: String, found: String) -> Error {
    Error::Shape {
        op: OP,
        what,
        expected,
        found,
    }
}
