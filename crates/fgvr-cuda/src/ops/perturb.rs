//! Moves the masked channels of features.
//!
//! The result is that of fgvr-perturb's `perturb`. Chance is not drawn here: normals and partners come from the
//! host, drawn by the same ChaCha keys of (seed, step, image, purpose), so that CPU and GPU perturb alike. The
//! normals of an image are drawn for all its channels in their order, masked or not.
//!
//! # Differs
//! A mask that is neither 0 nor 1, a negative scale and values that are not finite are no errors, since finding
//! them would wait for the machine: what they decide is NaN.

use crate::source::PERTURB;
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Real, Result};

const THREADS: usize = 256;
const WARP: usize = 32;
/// Channels of which a block can find the median, at 12 bytes each.
const CHANNELS: usize = 2048;
const BYTES: usize = 12;
/// Blocks in the second dimension of a grid, at most.
const IMAGES: usize = 65535;
const OP: &str = "perturb";

/// What takes the place of masked entries.
#[derive(Clone, Copy)]
pub enum Noise<'a> {
    /// Normals of the host, f64 (N, channels), in units of the channel's standard deviation, are added. f64 as
    /// the CPU draws them: rounded to f32 they would be others.
    Gaussian(&'a Array),
    /// The entries of another row, u32 (N): the row that the host has drawn for each.
    Swap(&'a Array),
}

/// How much noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Standard deviation of the noise in units of the channel's, 0 or more.
    pub scale: f64,
    /// Let no channel's standard deviation count as less than the median over channels.
    pub floor_at_median: bool,
    /// Keep the result at 0 or above.
    pub non_negative: bool,
    /// The least that gaussian noise moves a masked channel, in units of its standard deviation (scale
    /// included).
    pub min_change: f64,
}

/// Features (N, channels), or a channels-last map of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// N.
    pub images: usize,
    /// Places of a map; 1 for pooled features.
    pub places: usize,
    /// C.
    pub channels: usize,
}

/// Perturbed features, f32 in the shape of `features`: `max(0, h + s * max(sigma_c, median sigma) * eps)` where
/// `mask` (N, channels) is 1, and h itself, bit for bit, where it is 0; without the maximum and the median as
/// `config` says. `sigma` (channels) is the standard deviation of the un-normalised features. All places of a
/// channel move by the same draw.
///
/// # Errors
/// Operands of other lengths or types, a scale or least change that is negative, a least change with swap, a
/// median of more than 2048 channels; what the machine says.
pub fn perturb(
    machine: &dyn Machine,
    features: &Array,
    mask: &Array,
    sigma: &Array,
    shape: Shape,
    noise: Noise<'_>,
    config: Config,
) -> Result<Array> {
    let Shape {
        images,
        places,
        channels,
    } = shape;
    features.expect(OP, "features", DType::F32, images * places * channels)?;
    mask.expect(OP, "mask", DType::F32, images * channels)?;
    sigma.expect(OP, "scale", DType::F32, channels)?;
    for (what, value) in [
        ("configured scale", config.scale),
        ("min_change", config.min_change),
    ] {
        if !(value.is_finite() && value >= 0.) {
            return Err(wrong(what, "a finite value, 0 or more", value.to_string()));
        }
    }
    if images > IMAGES {
        return Err(wrong(
            "images",
            &format!("at most {IMAGES}"),
            images.to_string(),
        ));
    }
    let lowest = if config.non_negative {
        0.
    } else {
        f64::NEG_INFINITY
    };
    let out = Array::new(machine, DType::F32, features.len())?;
    let sizes = [Argument::I32(places as i32), Argument::I32(channels as i32)];
    let operands = [Argument::Array(features), Argument::Array(mask)];
    match noise {
        Noise::Gaussian(normals) => {
            normals.expect(OP, "normals", DType::F64, images * channels)?;
            let steps = steps(machine, sigma, config)?;
            let arguments = [
                operands[0],
                operands[1],
                Argument::Array(&steps),
                Argument::Array(normals),
                Argument::Array(&out),
                sizes[0],
                sizes[1],
                Argument::F64(config.min_change),
                Argument::F64(lowest),
            ];
            launch(machine, "perturb_gaussian", shape, &arguments)?;
        }
        Noise::Swap(partners) => {
            partners.expect(OP, "partners", DType::U32, images)?;
            if config.min_change > 0. {
                return Err(wrong(
                    "min_change",
                    "0 with swap, which takes another image's values",
                    config.min_change.to_string(),
                ));
            }
            let arguments = [
                operands[0],
                operands[1],
                Argument::Array(partners),
                Argument::Array(&out),
                sizes[0],
                sizes[1],
                Argument::F32(lowest as f32),
            ];
            launch(machine, "perturb_swap", shape, &arguments)?;
        }
    }
    Ok(out)
}

/// The noise's standard deviation by channel, f64.
fn steps(machine: &dyn Machine, sigma: &Array, config: Config) -> Result<Array> {
    let channels = sigma.len();
    if config.floor_at_median && channels > CHANNELS {
        return Err(wrong(
            "channels with a median",
            &format!("at most {CHANNELS}"),
            channels.to_string(),
        ));
    }
    let steps = Array::new(machine, DType::F64, channels)?;
    if channels == 0 {
        return Ok(steps);
    }
    let size = channels.next_power_of_two();
    machine.launch(&Launch {
        module: MODULE,
        kernel: "perturb_steps",
        grid: [1, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: if config.floor_at_median {
            size * BYTES
        } else {
            0
        },
        arguments: &[
            Argument::Array(sigma),
            Argument::Array(&steps),
            Argument::I32(channels as i32),
            Argument::I32(size as i32),
            Argument::F64(config.scale),
            Argument::I32(i32::from(config.floor_at_median)),
        ],
    })?;
    Ok(steps)
}

const MODULE: Module = Module {
    file: &PERTURB,
    real: Real::F32,
};

/// Starts a kernel with a thread for each channel of each image.
fn launch(
    machine: &dyn Machine,
    kernel: &'static str,
    shape: Shape,
    arguments: &[Argument<'_>],
) -> Result<()> {
    if shape.images * shape.channels == 0 {
        return Ok(());
    }
    let block = shape.channels.next_multiple_of(WARP).min(THREADS);
    machine.launch(&Launch {
        module: MODULE,
        kernel,
        grid: [
            shape.channels.div_ceil(block) as u32,
            shape.images as u32,
            1,
        ],
        block: [block as u32, 1, 1],
        shared: 0,
        arguments,
    })
}

fn wrong(what: &'static str, expected: &str, found: String) -> Error {
    Error::Shape {
        op: OP,
        what,
        expected: expected.into(),
        found,
    }
}
