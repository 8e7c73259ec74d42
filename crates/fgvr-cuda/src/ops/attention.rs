//! Softmax attention of several heads (arXiv:1706.03762, eq. 1), and its gradient.
//!
//! Scores are computed tile by tile and again in the backward: memory grows with the tokens, not with
//! their square. bf16 goes to tensor cores where a head's channels are packs of 8: there the shares of keys are
//! rounded to bf16 before values are weighed with them. All else is f32 arithmetic.

use super::rows::{THREADS, WARP, WARPS};
use crate::source::{ATTENTION, ATTENTION_MMA};
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Real, Result};

/// Channels of a head, at most.
pub const WIDEST: usize = 64;
/// Tokens of a sequence whose first shares fit a block's shared memory.
const MOST_TOKENS: usize = 5120;
/// Warps of a block on tensor cores.
const MMA_WARPS: usize = 4;
/// Blocks along the second and third side of a grid.
const MOST_BLOCKS: usize = 65535;

/// `images` sequences of `tokens` tokens, `heads` heads of `width` channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Number of sequences.
    pub images: usize,
    /// Tokens of a sequence.
    pub tokens: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of a head, [`WIDEST`] at most.
    pub width: usize,
}

/// What [`forward`] gives, and [`backward`] needs.
pub struct Attended {
    /// (images, tokens, heads * width), of the input's type.
    pub y: Array,
    /// log of the sum over keys of exp(score) for each query, (images, heads, tokens) of f32.
    pub log_sum: Array,
}

/// y = softmax(q kᵀ / sqrt(width)) v for each head; `qkv` is (images, tokens, 3, heads, width).
///
/// # Errors
/// An operand of another length or type, heads wider than [`WIDEST`]; what the machine says.
pub fn forward(machine: &dyn Machine, qkv: &Array, shape: Shape) -> Result<Attended> {
    let call = Call::new(machine, "attention", qkv, shape)?;
    let made = Attended {
        y: Array::new(machine, qkv.dtype(), shape.len())?,
        log_sum: Array::new(machine, DType::F32, shape.queries())?,
    };
    let operands = [qkv, &made.y, &made.log_sum];
    call.tiles([("attention", 64), ("attention_mma", 64)], &operands)?;
    Ok(made)
}

/// The gradient of `qkv` from `dy`, that of y.
///
/// # Errors
/// An operand of another length or type, heads wider than [`WIDEST`]; what the machine says.
pub fn backward(
    machine: &dyn Machine,
    dy: &Array,
    qkv: &Array,
    made: &Attended,
    shape: Shape,
) -> Result<Array> {
    const OP: &str = "attention gradient";
    let call = Call::new(machine, OP, qkv, shape)?;
    dy.expect(OP, "dy", qkv.dtype(), shape.len())?;
    made.y.expect(OP, "y", qkv.dtype(), shape.len())?;
    made.log_sum
        .expect(OP, "log of sums", DType::F32, shape.queries())?;
    let delta = Array::new(machine, DType::F32, shape.queries())?;
    let d_qkv = Array::new(machine, qkv.dtype(), qkv.len())?;
    let mut arguments: Vec<_> = [&made.y, dy, &delta].map(Argument::Array).into();
    arguments.extend(call.sizes());
    call.start(call.module, ("attention_delta", WARPS), THREADS, &arguments)?;
    let operands = [qkv, dy, &made.log_sum, &delta, &d_qkv];
    call.tiles(
        [("attention_grad_keys", 32), ("attention_mma_grad_keys", 64)],
        &operands,
    )?;
    call.tiles(
        [
            ("attention_grad_queries", 32),
            ("attention_mma_grad_queries", 64),
        ],
        &operands,
    )?;
    Ok(d_qkv)
}

/// What the first token of each sequence, the class token of a vision transformer, gives to each key, mean
/// over heads: (images, tokens) of f32.
///
/// # Errors
/// An operand of another length or type, heads wider than [`WIDEST`]; what the machine says; sequences of more than
/// 5120 tokens.
pub fn first_shares(machine: &dyn Machine, qkv: &Array, shape: Shape) -> Result<Array> {
    const OP: &str = "attention of the first token";
    let call = Call::new(machine, OP, qkv, shape)?;
    if shape.tokens > MOST_TOKENS {
        return Err(Error::Shape {
            op: OP,
            what: "tokens",
            expected: format!("at most {MOST_TOKENS}"),
            found: shape.tokens.to_string(),
        });
    }
    let shares = Array::new(machine, DType::F32, shape.images * shape.tokens)?;
    if shape.len() == 0 {
        return Ok(shares);
    }
    let mut arguments = vec![Argument::Array(qkv), Argument::Array(&shares)];
    arguments.extend(call.sizes());
    arguments.push(call.scale());
    machine.launch(&Launch {
        module: call.module,
        kernel: "attention_first_shares",
        grid: [shape.images as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: 2 * DType::F32.bytes() * shape.tokens,
        arguments: &arguments,
    })?;
    Ok(shares)
}

impl Shape {
    fn len(self) -> usize {
        self.images * self.tokens * self.heads * self.width
    }

    fn queries(self) -> usize {
        self.images * self.heads * self.tokens
    }
}

/// A shape that fits, and what runs it.
struct Call<'a> {
    machine: &'a dyn Machine,
    module: Module,
    shape: Shape,
}

impl<'a> Call<'a> {
    fn new(machine: &'a dyn Machine, op: &'static str, qkv: &Array, shape: Shape) -> Result<Self> {
        let real = qkv.real(op, "qkv")?;
        qkv.expect(op, "qkv", qkv.dtype(), 3 * shape.len())?;
        let limits = [
            ("channels of a head", shape.width, WIDEST),
            ("heads", shape.heads, MOST_BLOCKS),
            ("images", shape.images, MOST_BLOCKS),
            ("tokens", shape.tokens, i32::MAX as usize),
        ];
        for (what, found, most) in limits {
            if found > most {
                return Err(Error::Shape {
                    op,
                    what,
                    expected: format!("at most {most}"),
                    found: found.to_string(),
                });
            }
        }
        let file = &ATTENTION;
        Ok(Self {
            machine,
            module: Module { file, real },
            shape,
        })
    }

    /// Tokens, heads, width.
    fn sizes<'b>(&self) -> [Argument<'b>; 3] {
        let shape = self.shape;
        [shape.tokens, shape.heads, shape.width].map(|size| Argument::I32(size as i32))
    }

    /// 1 / sqrt(width).
    fn scale<'b>(&self) -> Argument<'b> {
        Argument::F32((1. / (self.shape.width as f64).sqrt()) as f32)
    }

    /// Starts a kernel and its tokens of a tile: the first for f32 arithmetic, or the second for tensor cores.
    fn tiles(
        &self,
        [plain, on_tensor_cores]: [(&'static str, usize); 2],
        operands: &[&Array],
    ) -> Result<()> {
        let mut arguments: Vec<_> = operands.iter().map(|a| Argument::Array(a)).collect();
        arguments.extend(self.sizes());
        arguments.push(self.scale());
        let real = self.module.real;
        if real == Real::Bf16 && self.shape.width.is_multiple_of(8) {
            let file = &ATTENTION_MMA;
            let module = Module { file, real };
            return self.start(module, on_tensor_cores, MMA_WARPS * WARP, &arguments);
        }
        self.start(self.module, plain, THREADS, &arguments)
    }

    /// Starts a kernel over tiles of so many tokens, heads and images.
    fn start(
        &self,
        module: Module,
        (kernel, tile): (&'static str, usize),
        threads: usize,
        arguments: &[Argument<'_>],
    ) -> Result<()> {
        let shape = self.shape;
        if shape.len() == 0 {
            return Ok(());
        }
        let tiles = shape.tokens.div_ceil(tile);
        self.machine.launch(&Launch {
            module,
            kernel,
            grid: [tiles as u32, shape.heads as u32, shape.images as u32],
            block: [threads as u32, 1, 1],
            shared: 0,
            arguments,
        })
    }
}
