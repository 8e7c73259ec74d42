//! Which channels of which image do not discriminate: low in variance, low in importance.
//!
//! The mask is that of fgvr-perturb's `non_discriminative_mask`, value for value: ranks, the numbers taken, the
//! order of channels of equal value, controls.
//!
//! # Differs
//! A value that is not finite is no error, since finding it would wait for the machine: its row's mask is NaN,
//! and that of every row if it is in the variance or, by batch, in any importance.

use crate::source::MASK;
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Real, Result};

const THREADS: usize = 256;
/// Channels that fit a block's shared memory, at 12 bytes each.
const CHANNELS: usize = 2048;
const BYTES: usize = 12;
const OP: &str = "non-discriminative mask";

/// What, besides an image's index, decides the order of equal values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The run's seed.
    pub seed: u64,
    /// The optimiser step.
    pub step: u64,
}

/// How the two criteria make one mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// Low in either.
    #[default]
    Union,
    /// Low in both.
    Intersection,
    /// Low variance only.
    Variance,
    /// Low importance only.
    Importance,
    /// Every channel.
    All,
    /// No channel.
    None,
}

/// Masks of the same size that should not work as well.
#[derive(Clone, Copy)]
pub enum Control<'a> {
    /// The mask itself.
    None,
    /// As many channels of each image, the first of an order that was drawn on the host: u32 (N, channels),
    /// each row a shuffle of all channels. A Fisher-Yates shuffle that goes from the first place to the last
    /// has settled its first k entries after k steps, so that a whole shuffle from the generator of the image
    /// and of the purpose `RandomMask` gives the mask that the CPU draws.
    Random(&'a Array),
    /// As many channels of each image, the highest in the joint rank of which the mask is the lowest part.
    Inverted,
}

/// What goes into a mask.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    /// Share of the channels that count as of low variance, in [0, 1].
    pub rho_variance: f64,
    /// Share of the channels of each image that count as of low importance, in [0, 1].
    pub rho_importance: f64,
    /// How the criteria are joined.
    pub rule: Rule,
    /// The mask, or a control of equal size.
    pub control: Control<'a>,
    /// None: each image's importance is ranked by itself. Otherwise the batch's mean importance, for all
    /// images, added up over the rows in this order: u32 (N), the rows by their images' indices.
    pub by_batch: Option<&'a Array>,
}

/// A mask and what there is to say about it.
pub struct Mask {
    /// f32 (N, channels): 1 where a channel does not discriminate, 0 elsewhere.
    pub mask: Array,
    /// u32 (N, 4): masked channels, those of them without variance, channels low in both criteria, and in
    /// either; 0 where the mask is NaN.
    pub counts: Array,
}

/// The mask of `importance` (N, channels) and `variance` (channels), f32; `images` are the N images' indices in
/// their data set, u32.
///
/// Exactly `floor(rho_variance * channels)` channels count as of low variance, and in each row exactly
/// `floor(rho_importance * channels)` as of low importance (a product that misses a whole number by less than
/// 1e-9 is rounded up).
///
/// # Errors
/// Operands of other lengths or types, a rho outside [0, 1], more than 2048 channels; what the machine says.
pub fn non_discriminative_mask(
    machine: &dyn Machine,
    variance: &Array,
    importance: &Array,
    images: &Array,
    config: Config<'_>,
    key: Key,
) -> Result<Mask> {
    let (rows, channels) = (images.len(), variance.len());
    if channels == 0 || channels > CHANNELS {
        return Err(wrong(
            "channels",
            &format!("1 to {CHANNELS}"),
            channels.to_string(),
        ));
    }
    variance.expect(OP, "variance", DType::F32, channels)?;
    importance.expect(OP, "importance", DType::F32, rows * channels)?;
    images.expect(OP, "images", DType::U32, rows)?;
    let low_variance = count("rho_variance", config.rho_variance, channels)?;
    let low_importance = count("rho_importance", config.rho_importance, channels)?;
    let (control, random) = match config.control {
        Control::None => (0, None),
        Control::Random(order) => (1, Some(order)),
        Control::Inverted => (2, None),
    };
    if let Some(order) = random {
        order.expect(OP, "random order", DType::U32, rows * channels)?;
    }
    let made = Mask {
        mask: Array::new(machine, DType::F32, rows * channels)?,
        counts: Array::new(machine, DType::U32, 4 * rows)?,
    };
    if rows == 0 {
        return Ok(made);
    }
    let ranking = Ranking {
        machine,
        channels,
        key,
    };
    let by_variance = ranking.ranks(Values::Floats(variance), None, 1)?;
    let by_importance = match config.by_batch {
        None => ranking.ranks(Values::Floats(importance), Some(images), rows)?,
        Some(order) => {
            order.expect(OP, "order of the rows", DType::U32, rows)?;
            let mean = ranking.mean(importance, order)?;
            ranking.ranks(Values::Doubles(&mean), None, 1)?
        }
    };
    let size = channels.next_power_of_two();
    launch(
        machine,
        "mask_choose",
        rows,
        if control == 2 { size * BYTES } else { 0 },
        &[
            Argument::Array(&by_variance),
            Argument::Array(&by_importance),
            Argument::Array(variance),
            Argument::Array(images),
            Argument::optional(random),
            Argument::Array(&made.mask),
            Argument::Array(&made.counts),
            Argument::I32(channels as i32),
            Argument::I32(size as i32),
            Argument::I32(low_variance as i32),
            Argument::I32(low_importance as i32),
            Argument::I32(i32::from(config.by_batch.is_some())),
            Argument::I32(config.rule as i32),
            Argument::I32(control),
            Argument::U64(key.seed),
            Argument::U64(key.step),
        ],
    )?;
    Ok(made)
}

enum Values<'a> {
    Floats(&'a Array),
    Doubles(&'a Array),
}

struct Ranking<'a> {
    machine: &'a dyn Machine,
    channels: usize,
    key: Key,
}

impl Ranking<'_> {
    /// The rank of each value in its row; `images` for values that are an image's own.
    fn ranks(&self, values: Values<'_>, images: Option<&Array>, rows: usize) -> Result<Array> {
        let ranks = Array::new(self.machine, DType::U32, rows * self.channels)?;
        let size = self.channels.next_power_of_two();
        let [floats, doubles] = match values {
            Values::Floats(values) => [Argument::Array(values), Argument::Null],
            Values::Doubles(values) => [Argument::Null, Argument::Array(values)],
        };
        let arguments = [
            floats,
            doubles,
            Argument::optional(images),
            Argument::Array(&ranks),
            Argument::I32(self.channels as i32),
            Argument::I32(size as i32),
            Argument::U64(self.key.seed),
            Argument::U64(self.key.step),
        ];
        launch(self.machine, "mask_ranks", rows, size * BYTES, &arguments)?;
        Ok(ranks)
    }

    /// The mean of each channel over the rows, f64.
    fn mean(&self, importance: &Array, order: &Array) -> Result<Array> {
        let mean = Array::new(self.machine, DType::F64, self.channels)?;
        let arguments = [
            Argument::Array(importance),
            Argument::Array(order),
            Argument::Array(&mean),
            Argument::I32(order.len() as i32),
            Argument::I32(self.channels as i32),
        ];
        let blocks = self.channels.div_ceil(THREADS);
        launch(self.machine, "mask_mean", blocks, 0, &arguments)?;
        Ok(mean)
    }
}

fn launch(
    machine: &dyn Machine,
    kernel: &'static str,
    blocks: usize,
    shared: usize,
    arguments: &[Argument<'_>],
) -> Result<()> {
    machine.launch(&Launch {
        module: Module {
            file: &MASK,
            real: Real::F32,
        },
        kernel,
        grid: [blocks as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared,
        arguments,
    })
}

/// `floor(rho * channels)`, forgiving the last bits of a product such as 0.29 * 100.
fn count(name: &'static str, rho: f64, channels: usize) -> Result<usize> {
    if !(0. ..=1.).contains(&rho) {
        return Err(wrong(name, "a value in [0, 1]", rho.to_string()));
    }
    Ok(((rho * channels as f64 + 1e-9) as usize).min(channels))
}

fn wrong(what: &'static str, expected: &str, found: String) -> Error {
    Error::Shape {
        op: OP,
        what,
        expected: expected.into(),
        found,
    }
}
