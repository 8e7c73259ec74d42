//! A frozen vision transformer on the CPU: the perceptron of a few tokens at a time, while they are in the
//! cache.

use candle_core::{Device, Error as CandleError, Result, Tensor};
use fgvr_nn::kernels::attention::{self, AttentionShape};
use fgvr_nn::kernels::{layer_norm, patches, pool};
use fgvr_nn::layers::{FrozenLinear, LayerNorm, LinearFinish, PatchEmbed, PositionEmbedding};
use fgvr_nn::{Buffer, Features, Tape, images};
use rayon::prelude::*;

use super::block::FrozenBlock;
use super::prefix;
use crate::frozen::Frozen;
use crate::vit::{Pooling, Vit, VitConfig};

/// Tokens that go through a part of a block together, at least and at most: whole register tiles, and
/// with 1536 channels inside a perceptron less than a second-level cache of 1 MiB.
const TOGETHER: [usize; 2] = [28, 112];

/// Parts that tokens are cut into, at least, where they are enough: work for as many threads.
const PARTS: usize = 16;

/// How many of `tokens` go together. The number changes no bit.
fn together(tokens: usize) -> usize {
    let [least, most] = TOGETHER;
    tokens
        .div_ceil(PARTS)
        .next_multiple_of(least)
        .clamp(least, most)
}

type HostBlock = FrozenBlock<Norm, FrozenLinear>;

/// A frozen network on the CPU.
pub(super) struct OnHost {
    config: VitConfig,
    patch: PatchEmbed,
    patches: FrozenLinear,
    /// Class and register tokens (prefix, C).
    prefix: Vec<f32>,
    positions: PositionEmbedding,
    blocks: Vec<HostBlock>,
    norm: Norm,
}

impl OnHost {
    pub(super) fn new(vit: &Vit) -> Result<Self> {
        Ok(Self {
            config: vit.config.clone(),
            patch: vit.patches.clone(),
            patches: FrozenLinear::new(vit.patches.proj(), None)?,
            prefix: prefix(vit)?,
            positions: vit.positions.snapshot()?,
            blocks: vit
                .blocks
                .iter()
                .map(|block| HostBlock::new(block, Norm::new, FrozenLinear::new))
                .collect::<Result<_>>()?,
            norm: Norm::new(&vit.norm)?,
        })
    }

    /// All tokens after the last norm.
    fn tokens(&self, tape: &mut Tape, images: &Tensor) -> Result<Tokens> {
        let mut x = self.enter(tape, images)?;
        for block in &self.blocks {
            block.apply(&mut x)?;
        }
        let mut normed = Buffer::scratch(x.values.len());
        let part = together(x.images * x.tokens) * x.width;
        normed
            .par_chunks_mut(part)
            .zip(x.values.par_chunks(part))
            .for_each(|(y, x)| self.norm.run(x, y));
        Ok(Tokens {
            values: normed,
            ..x
        })
    }

    /// What the configuration asks for of tokens after the last norm: (N, C) or (N, 2C).
    fn pooled(&self, x: &Tokens) -> Result<Tensor> {
        let (width, before) = (x.width, self.config.prefix_tokens() * x.width);
        let (class, mean) = match self.config.pooling {
            Pooling::ClassToken => (true, false),
            Pooling::PatchMean => (false, true),
            Pooling::Both => (true, true),
        };
        let mut pooled = Vec::with_capacity(x.images * self.config.out_channels());
        for x in x.values.chunks(x.of_image()) {
            if class {
                pooled.extend_from_slice(&x[..width]);
            }
            if mean {
                let patches = &x[before..];
                let at = pooled.len();
                pooled.resize(at + width, 0.);
                pool::global_mean(patches, patches.len() / width, width, &mut pooled[at..]);
            }
        }
        Tensor::from_vec(pooled, (x.images, self.config.out_channels()), &Device::Cpu)
    }

    /// Patches as tokens, with class, registers and positions.
    fn enter(&self, tape: &mut Tape, images: &Tensor) -> Result<Tokens> {
        let shape = images::shape(images)?;
        let [n, h, w, width] = self.patch.output(shape)?;
        let tokens = self.config.prefix_tokens() + h * w;
        let mut x = Tokens {
            images: n,
            tokens,
            width,
            grid: [h, w],
            values: Buffer::scratch(n * tokens * width),
        };
        // (N, 3, H, W) -> (N, H, W, 3)
        let pixels = tape.input(images, false)?;
        let mut rows = Buffer::scratch(pixels.data()?.len());
        patches::cut(pixels.data()?, shape, self.config.patch_size, &mut rows);
        let (prefix, of_patches) = (self.prefix.len(), rows.len() / n);
        let embedded = self.config.embedded_prefix_tokens() * width;
        self.positions.with_table([h, w], |table| {
            let (of_prefix, of_places) = table.split_at(embedded);
            x.values
                .par_chunks_mut(tokens * width)
                .zip(rows.par_chunks(of_patches))
                .try_for_each(|(x, rows)| {
                    let (first, x) = x.split_at_mut(prefix);
                    first.copy_from_slice(&self.prefix);
                    add(first, of_prefix);
                    self.patches.run(rows, LinearFinish::Replace, x)?;
                    add(x, of_places);
                    Ok::<(), CandleError>(())
                })
        })??;
        Ok(x)
    }
}

impl Frozen for OnHost {
    fn features(&self, tape: &mut Tape, images: &Tensor) -> Result<Features> {
        let x = self.tokens(tape, images)?;
        let (prefix, [h, w]) = (self.config.prefix_tokens() * x.width, x.grid);
        let mut map = Buffer::scratch(x.images * h * w * x.width);
        for (map, x) in map
            .chunks_mut(h * w * x.width)
            .zip(x.values.chunks(x.of_image()))
        {
            map.copy_from_slice(&x[prefix..]);
        }
        Ok(Features {
            pooled: self.pooled(&x)?,
            // (N, h, w, C) -> (N, C, h, w)
            map: tape.map([x.images, h, w, x.width], map).to_tensor()?,
        })
    }

    /// Where the class token is all that is pooled, no other is looked at any more in the last block.
    fn embed(&self, tape: &mut Tape, images: &Tensor) -> Result<Tensor> {
        if self.config.pooling != Pooling::ClassToken {
            return self.pooled(&self.tokens(tape, images)?);
        }
        let mut x = self.enter(tape, images)?;
        if let Some((last, blocks)) = self.blocks.split_last() {
            for block in blocks {
                block.apply(&mut x)?;
            }
            x = last.apply_to_class(&x)?;
        }
        let mut pooled = vec![0.; x.images * x.width];
        for (y, x) in pooled
            .chunks_mut(x.width)
            .zip(x.values.chunks(x.of_image()))
        {
            self.norm.run(&x[..y.len()], y);
        }
        Tensor::from_vec(pooled, (x.images, x.width), &Device::Cpu)
    }
}

/// Sequences of tokens (N, T, C).
struct Tokens {
    images: usize,
    tokens: usize,
    width: usize,
    /// Places of the patches, which are the last tokens.
    grid: [usize; 2],
    values: Buffer,
}

impl Tokens {
    fn of_image(&self) -> usize {
        self.tokens * self.width
    }
}

impl HostBlock {
    fn apply(&self, x: &mut Tokens) -> Result<()> {
        let found = self.attend(x, x.tokens)?;
        self.finish(&found, &mut x.values)
    }

    /// The class tokens alone, after the block.
    fn apply_to_class(&self, x: &Tokens) -> Result<Tokens> {
        let found = self.attend(x, 1)?;
        let (mut values, width) = (Buffer::scratch(found.len()), x.width);
        for (y, x) in values.chunks_mut(width).zip(x.values.chunks(x.of_image())) {
            y.copy_from_slice(&x[..width]);
        }
        self.finish(&found, &mut values)?;
        Ok(Tokens {
            tokens: 1,
            values,
            ..*x
        })
    }

    /// What the heads find for the first `queries` tokens, (N, queries, C).
    fn attend(&self, x: &Tokens, queries: usize) -> Result<Buffer> {
        let width = x.width;
        let mut qkv = Buffer::scratch(3 * x.values.len());
        let part = together(x.images * x.tokens) * width;
        qkv.par_chunks_mut(3 * part)
            .zip(x.values.par_chunks(part))
            .try_for_each(|(qkv, x)| {
                let mut normed = Buffer::scratch(x.len());
                self.norm1.run(x, &mut normed);
                self.qkv.run(&normed, LinearFinish::Replace, qkv)
            })?;
        let shape = AttentionShape {
            images: x.images,
            tokens: x.tokens,
            heads: self.heads,
            width: width / self.heads,
        };
        let mut found = Buffer::scratch(x.images * queries * width);
        attention::forward_of(&shape, queries, &qkv, &mut found);
        Ok(found)
    }

    /// The rest of the block, from what the heads found: each token by itself.
    fn finish(&self, found: &[f32], x: &mut [f32]) -> Result<()> {
        let width = self.proj.c_out();
        let part = together(x.len() / width) * width;
        x.par_chunks_mut(part)
            .zip(found.par_chunks(part))
            .try_for_each(|(x, found)| {
                let mut branch = Buffer::scratch(x.len());
                self.proj.run_add(found, &mut branch, x)?;
                self.norm2.run(x, &mut branch);
                let inside = x.len() / self.fc1.c_in() * self.fc1.c_out();
                let mut inside = Buffer::scratch(inside);
                self.fc1.run(&branch, LinearFinish::Gelu, &mut inside)?;
                self.fc2.run_add(&inside, &mut branch, x)
            })
    }
}

/// Layer norm of each token, on the caller's thread.
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f64,
}

impl Norm {
    fn new(norm: &LayerNorm) -> Result<Self> {
        Ok(Self {
            weight: norm.weight().to_vec1()?,
            bias: norm.bias().to_vec1()?,
            eps: norm.eps(),
        })
    }

    fn run(&self, x: &[f32], y: &mut [f32]) {
        layer_norm::forward_on_thread(x, &self.weight, &self.bias, self.eps, y);
    }
}

/// x += y, as far as `y` goes.
fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
