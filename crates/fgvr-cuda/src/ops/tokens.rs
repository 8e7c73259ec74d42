//! Sequences of tokens (N, T, C): learnt tokens and positions, tokens taken out, with their gradients.

use std::ops::Range;

use super::columns::{Tiling, counted};
use super::rows::{Rows, THREADS};
use crate::source::TOKENS;
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Result};

/// The tokens of patches, (N, places, C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// N
    pub images: usize,
    /// Patches of an image.
    pub places: usize,
    /// C
    pub channels: usize,
}

/// What is learnt beside the tokens of patches; arrays of f32.
#[derive(Clone, Copy, Default)]
pub struct Learnt<'a> {
    /// Tokens put before those of the patches: one or more in each array, two arrays at most (class tokens,
    /// register tokens).
    pub tokens: &'a [&'a Array],
    /// An embedding of the positions of all tokens, or of the patches alone.
    pub positions: Option<&'a Array>,
}

/// The gradients of [`embed`].
pub struct Gradients {
    /// Gradient of the patches' tokens.
    pub x: Array,
    /// Gradients of the learnt tokens, in their order; f32.
    pub tokens: Vec<Array>,
    /// Gradient of the positions; f32.
    pub positions: Option<Array>,
}

/// Where the parts of a sequence begin, in values.
struct Parts {
    first: usize,
    second: usize,
    skip: usize,
    sequence: usize,
}

impl Parts {
    fn new(op: &'static str, tokens: Tokens, learnt: Learnt<'_>) -> Result<Self> {
        let c = tokens.channels;
        let wrong = |what: &'static str, expected: String, found: String| Error::Shape {
            op,
            what,
            expected,
            found,
        };
        if learnt.tokens.len() > 2 {
            let found = learnt.tokens.len().to_string();
            return Err(wrong("learnt tokens", "2 arrays at most".into(), found));
        }
        for token in learnt.tokens {
            token.expect(op, "learnt tokens", DType::F32, token.len())?;
            if c == 0 || !token.len().is_multiple_of(c) {
                let expected = format!("a multiple of {c} values");
                return Err(wrong("learnt tokens", expected, token.len().to_string()));
            }
        }
        let len = |index: usize| learnt.tokens.get(index).map_or(0, |token| token.len());
        let (first, second) = (len(0), len(1));
        let patches = tokens.places * c;
        let sequence = counted(op, "values of a sequence", &[first + second + patches])?;
        let skip = match learnt.positions {
            Some(table) if table.len() == patches => sequence - patches,
            Some(table) => {
                table.expect(op, "positions", DType::F32, sequence)?;
                0
            }
            None => 0,
        };
        if let Some(table) = learnt.positions {
            table.expect(op, "positions", DType::F32, sequence - skip)?;
        }
        Ok(Self {
            first,
            second,
            skip,
            sequence,
        })
    }

    fn prefix(&self) -> usize {
        self.first + self.second
    }

    /// As the kernels take them.
    fn sides(&self) -> [i32; 3] {
        [self.first, self.second, self.skip].map(|side| side as i32)
    }
}

fn module(x: &Array, op: &'static str, what: &'static str) -> Result<Module> {
    Ok(Module {
        file: &TOKENS,
        real: x.real(op, what)?,
    })
}

/// Sequences of the learnt tokens and then `x` (N, places, C), each with its position added:
/// (N, learnt tokens + places, C).
///
/// # Errors
/// Operands of other lengths or types, more than two arrays of tokens; what the machine says.
pub fn embed(
    machine: &dyn Machine,
    x: &Array,
    tokens: Tokens,
    learnt: Learnt<'_>,
) -> Result<Array> {
    const OP: &str = "embed tokens";
    let module = module(x, OP, "x")?;
    let parts = Parts::new(OP, tokens, learnt)?;
    let of_patches = parts.sequence - parts.prefix();
    x.expect(OP, "x", x.dtype(), tokens.images * of_patches)?;
    let rows = Rows::new(tokens.images, parts.sequence);
    let y = Array::new(machine, x.dtype(), rows.len())?;
    let token = |index: usize| Argument::optional(learnt.tokens.get(index).copied());
    let operands = [
        Argument::Array(x),
        token(0),
        token(1),
        Argument::optional(learnt.positions),
        Argument::Array(&y),
    ];
    let kernels = ["tokens_embed", "tokens_embed_any"];
    let tiling = Tiling::each_of_units(rows, tokens.channels, module);
    tiling.launch(machine, module, kernels, &operands, &parts.sides())?;
    Ok(y)
}

/// The gradients of [`embed`]; those of what is learnt are sums over images.
///
/// # Errors
/// Operands of other lengths or types, more than two arrays of tokens; what the machine says.
pub fn embed_grad(
    machine: &dyn Machine,
    dy: &Array,
    tokens: Tokens,
    learnt: Learnt<'_>,
) -> Result<Gradients> {
    const OP: &str = "embed tokens gradient";
    let module = module(dy, OP, "dy")?;
    let parts = Parts::new(OP, tokens, learnt)?;
    let rows = Rows::new(tokens.images, parts.sequence);
    dy.expect(OP, "dy", dy.dtype(), rows.len())?;
    let tiling = Tiling::sums_of_units(rows, tokens.channels, module);
    let f32s = |len: usize| Array::new(machine, DType::F32, len);
    let partial = f32s(tiling.slabs * parts.sequence)?;
    let of_patches = parts.sequence - parts.prefix();
    let made = Gradients {
        x: Array::new(machine, dy.dtype(), tokens.images * of_patches)?,
        tokens: learnt
            .tokens
            .iter()
            .map(|token| f32s(token.len()))
            .collect::<Result<_>>()?,
        positions: learnt
            .positions
            .map(|table| f32s(table.len()))
            .transpose()?,
    };
    let operands = [
        Argument::Array(dy),
        Argument::Array(&made.x),
        Argument::Array(&partial),
    ];
    let kernels = ["tokens_embed_grad", "tokens_embed_grad_any"];
    let prefix = [parts.prefix() as i32];
    tiling.launch(machine, module, kernels, &operands, &prefix)?;
    if parts.sequence == 0 || (made.tokens.is_empty() && made.positions.is_none()) {
        return Ok(made);
    }
    // No images have left no partial sums.
    let slabs = if tokens.images == 0 { 0 } else { tiling.slabs };
    let mut arguments = vec![
        Argument::Array(&partial),
        Argument::optional(made.tokens.first()),
        Argument::optional(made.tokens.get(1)),
        Argument::optional(made.positions.as_ref()),
        Argument::I32(slabs as i32),
        Argument::I32(parts.sequence as i32),
    ];
    arguments.extend(parts.sides().map(Argument::I32));
    machine.launch(&Launch {
        module,
        kernel: "tokens_embed_finish",
        grid: [parts.sequence.div_ceil(THREADS) as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: 0,
        arguments: &arguments,
    })?;
    Ok(made)
}

/// Some tokens of each sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// (N, T, C) of the sequences.
    pub sequences: [usize; 3],
    /// Which tokens.
    pub range: Range<usize>,
}

impl Taken {
    /// The sequences and the tokens taken, each as one row an image.
    fn rows(&self, op: &'static str) -> Result<(Rows, Rows)> {
        let ([n, t, c], range) = (self.sequences, &self.range);
        if range.start > range.end || range.end > t {
            return Err(Error::Shape {
                op,
                what: "range",
                expected: format!("tokens of {t}"),
                found: format!("{range:?}"),
            });
        }
        let sequence = counted(op, "values of a sequence", &[t, c])?;
        Ok((Rows::new(n, sequence), Rows::new(n, range.len() * c)))
    }

    fn start(&self) -> usize {
        self.range.start * self.sequences[2]
    }
}

/// Tokens of each sequence of `x` (N, T, C): (N, taken, C).
///
/// # Errors
/// Operands of other lengths or types, tokens that there are not; what the machine says.
pub fn take(machine: &dyn Machine, x: &Array, taken: &Taken) -> Result<Array> {
    const OP: &str = "take tokens";
    let module = module(x, OP, "x")?;
    let (sequences, rows) = taken.rows(OP)?;
    x.expect(OP, "x", x.dtype(), sequences.len())?;
    let y = Array::new(machine, x.dtype(), rows.len())?;
    let operands = [Argument::Array(x), Argument::Array(&y)];
    let kernels = ["tokens_take", "tokens_take_any"];
    let more = [sequences.channels as i32, taken.start() as i32];
    let tiling = Tiling::each_of_units(rows, taken.sequences[2], module);
    tiling.launch(machine, module, kernels, &operands, &more)?;
    Ok(y)
}

/// The gradient of [`take`], (N, T, C): zero at tokens that were not taken.
///
/// # Errors
/// Operands of other lengths or types, tokens that there are not; what the machine says.
pub fn take_grad(machine: &dyn Machine, dy: &Array, taken: &Taken) -> Result<Array> {
    const OP: &str = "take tokens gradient";
    let module = module(dy, OP, "dy")?;
    let (sequences, rows) = taken.rows(OP)?;
    dy.expect(OP, "dy", dy.dtype(), rows.len())?;
    let dx = Array::new(machine, dy.dtype(), sequences.len())?;
    let operands = [Argument::Array(dy), Argument::Array(&dx)];
    let kernels = ["tokens_take_grad", "tokens_take_grad_any"];
    let more = [rows.channels as i32, taken.start() as i32];
    let tiling = Tiling::each_of_units(sequences, taken.sequences[2], module);
    tiling.launch(machine, module, kernels, &operands, &more)?;
    Ok(dx)
}

/// Adds the gradient of [`take`] to `dx` (N, T, C), which holds that of other tokens or uses.
///
/// # Errors
/// Operands of other lengths or types, tokens that there are not; what the machine says.
pub fn add_taken(machine: &dyn Machine, dx: &Array, dy: &Array, taken: &Taken) -> Result<()> {
    const OP: &str = "add gradient of tokens";
    let module = module(dy, OP, "dy")?;
    let (sequences, rows) = taken.rows(OP)?;
    dy.expect(OP, "dy", dy.dtype(), rows.len())?;
    dx.expect(OP, "dx", dy.dtype(), sequences.len())?;
    let operands = [Argument::Array(dy), Argument::Array(dx)];
    let kernels = ["tokens_add_taken", "tokens_add_taken_any"];
    let more = [sequences.channels as i32, taken.start() as i32];
    let tiling = Tiling::each_of_units(rows, taken.sequences[2], module);
    tiling.launch(machine, module, kernels, &operands, &more)
}
