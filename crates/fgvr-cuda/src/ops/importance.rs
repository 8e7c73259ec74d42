//! Grad-CAM: how much a pooled channel matters to a loss, and which places do.
//!
//! Formulas are those of fgvr-gradcam. f32 throughout; no number is hidden.

use crate::source::IMPORTANCE;
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Real, Result};

const THREADS: usize = 256;
const WARP: usize = 32;
const LINES: usize = THREADS / WARP;
/// Blocks in the second dimension of a grid, at most.
const ROWS: usize = 65535;
/// Values of 16 bytes.
const PACK: usize = 4;

/// What counts as the importance of a channel, from the pooled feature h and the gradient g = dL/dh.
#[derive(Clone, Copy)]
pub enum Importance<'a> {
    /// |h g|
    GradientTimesFeature,
    /// |(h - mean) g|, with the mean (channels) over a bank of features.
    Centred(&'a Array),
    /// |g|
    Gradient,
    /// max(0, -h g): evidence that lowers the loss.
    Evidence,
}

/// Importance (N, channels), all values at least 0, of `features` (N, channels) for a loss with the gradient
/// `grad` (N, channels).
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn importance(
    machine: &dyn Machine,
    features: &Array,
    grad: &Array,
    channels: usize,
    kind: Importance<'_>,
) -> Result<Array> {
    const OP: &str = "importance";
    let rows = features.len().checked_div(channels).unwrap_or(0);
    features.expect(OP, "features", DType::F32, rows * channels)?;
    grad.expect(OP, "gradient", DType::F32, rows * channels)?;
    let (flag, mean) = match kind {
        Importance::GradientTimesFeature => (0, None),
        Importance::Centred(mean) => (1, Some(mean)),
        Importance::Gradient => (2, None),
        Importance::Evidence => (3, None),
    };
    if let Some(mean) = mean {
        mean.expect(OP, "mean", DType::F32, channels)?;
    }
    let out = Array::new(machine, DType::F32, features.len())?;
    let vector = channels.is_multiple_of(PACK);
    let vectors = if vector { channels / PACK } else { channels };
    let block = vectors.next_multiple_of(WARP).min(THREADS);
    launch(
        machine,
        OP,
        if vector {
            "importance"
        } else {
            "importance_any"
        },
        [vectors.div_ceil(block.max(1)), rows],
        block,
        &[
            Argument::Array(features),
            Argument::Array(grad),
            Argument::optional(mean),
            Argument::Array(&out),
            Argument::I32(channels as i32),
            Argument::I32(flag),
        ],
    )?;
    Ok(out)
}

/// How a map lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// (N, places, channels)
    ChannelsLast,
    /// (N, channels, places)
    Planes,
}

/// A map of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// N.
    pub images: usize,
    /// h * w.
    pub places: usize,
    /// C.
    pub channels: usize,
    /// Which of them lie side by side.
    pub layout: Layout,
}

/// Which places a map shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sign {
    /// Those whose activation raises the quantity whose gradient was given.
    #[default]
    RaisesLoss,
    /// Those whose activation lowers it.
    LowersLoss,
}

/// Grad-CAM (N, places), all values at least 0, of `map` and the gradient of a scalar at it: `ReLU(sum_c a_c
/// F_c)` with `a_c = mean_places grad_c`, negated for [`Sign::LowersLoss`] (Eq. 1 and 2 of arXiv:1610.02391).
///
/// # Errors
/// Operands of other lengths or types, a map without places; what the machine says.
pub fn grad_cam(
    machine: &dyn Machine,
    map: &Array,
    grad: &Array,
    shape: MapShape,
    sign: Sign,
) -> Result<Array> {
    const OP: &str = "grad-cam";
    let MapShape {
        images,
        places,
        channels,
        layout,
    } = shape;
    if places * channels == 0 {
        return Err(Error::Shape {
            op: OP,
            what: "map",
            expected: "places and channels".into(),
            found: format!("{places} and {channels}"),
        });
    }
    for (what, array) in [("map", map), ("gradient", grad)] {
        array.expect(OP, what, DType::F32, images * places * channels)?;
    }
    let weights = Array::new(machine, DType::F32, images * channels)?;
    let cam = Array::new(machine, DType::F32, images * places)?;
    let ([of_weights, of_places], [channel_tile, place_tile]) = match layout {
        Layout::ChannelsLast => (["cam_weights", "cam_places"], [WARP, LINES]),
        Layout::Planes => (["cam_weights_planes", "cam_places_planes"], [LINES, WARP]),
    };
    let scale = match sign {
        Sign::RaisesLoss => 1. / places as f64,
        Sign::LowersLoss => -1. / places as f64,
    };
    let sizes = [Argument::I32(places as i32), Argument::I32(channels as i32)];
    launch(
        machine,
        OP,
        of_weights,
        [channels.div_ceil(channel_tile), images],
        THREADS,
        &[
            Argument::Array(grad),
            Argument::Array(&weights),
            sizes[0],
            sizes[1],
            Argument::F32(scale as f32),
        ],
    )?;
    launch(
        machine,
        OP,
        of_places,
        [places.div_ceil(place_tile), images],
        THREADS,
        &[
            Argument::Array(map),
            Argument::Array(&weights),
            Argument::Array(&cam),
            sizes[0],
            sizes[1],
        ],
    )?;
    Ok(cam)
}

fn launch(
    machine: &dyn Machine,
    op: &'static str,
    kernel: &'static str,
    [tiles, rows]: [usize; 2],
    block: usize,
    arguments: &[Argument<'_>],
) -> Result<()> {
    if tiles * rows == 0 {
        return Ok(());
    }
    if rows > ROWS {
        return Err(Error::Shape {
            op,
            what: "images",
            expected: format!("at most {ROWS}"),
            found: rows.to_string(),
        });
    }
    machine.launch(&Launch {
        module: Module {
            file: &IMPORTANCE,
            real: Real::F32,
        },
        kernel,
        grid: [tiles as u32, rows as u32, 1],
        block: [block as u32, 1, 1],
        shared: 0,
        arguments,
    })
}
