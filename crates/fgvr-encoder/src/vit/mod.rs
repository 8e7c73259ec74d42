//! The vision transformer: patches, position embedding, blocks, norm.

use std::collections::BTreeMap;

use candle_core::{DType, Error as CandleError, Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};
use fgvr_nn::layers::{
    LayerNorm, LayerNormConfig, PatchEmbed, PositionEmbedding, global_mean, join_vectors,
    prepend_tokens, take_tokens,
};
use fgvr_nn::{Activation, Device, Encoder, FeatureMaps, Features, NormMode, Tape, images};

use crate::intermediates::{self, Intermediates};

mod block;
mod config;
mod frozen;
pub(crate) mod sincos;

use block::{Block, STDEV, xavier};
pub use config::{Initialisation, Pooling, Positions, VitConfig};
pub use fgvr_nn::layers::resize_position_embedding as resample_position_embedding;

/// Standard deviation of the initial class and register tokens.
const TOKEN_STDEV: f64 = 1e-6;

/// A vision transformer (arXiv:2010.11929) without its classifier, under timm's parameter names:
/// `cls_token`, `reg_token`, `pos_embed`, `patch_embed.proj.weight`, `blocks.0.norm1.weight`,
/// `blocks.0.attn.qkv.weight`, `blocks.0.attn.proj.weight`, `blocks.0.ls1.gamma`,
/// `blocks.0.mlp.fc1.weight`, `norm.weight`, ...
///
/// [`Features::map`] is the patches' tokens after the last norm, (N, C, H/patch, W/patch);
/// [`Features::pooled`] is the class token after it, (N, C), or what [`VitConfig::pooling`] asks for. There is no
/// batch norm, so [`NormMode`] makes no difference.
///
/// Images need not be of the configured size, only of whole patches: on another grid the position
/// embedding is resized, bicubic with antialiasing, as timm does with `dynamic_img_size`.
///
/// Initial values are timm's: weights and position embedding normal with deviation 0.02, biases 0,
/// class and register tokens normal with 1e-6, the patches' projection uniform as PyTorch's
/// convolutions. [`VitConfig::initialisation`] and [`VitConfig::positions`] ask for MoCo v3's.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use fgvr_encoder::{Vit, VitConfig};
/// use fgvr_nn::{Encoder, NormMode, Parameters};
///
/// let config = VitConfig { width: 24, depth: 2, ..VitConfig::tiny_patch16() };
/// let encoder = Vit::new(&config, Parameters::new(0).builder(DType::F32, &Device::Cpu))?;
/// let images = Tensor::ones((2, 3, 64, 96), DType::F32, &Device::Cpu)?;
/// let features = encoder.features(&images, NormMode::Eval)?;
/// assert_eq!((features.map.dims(), features.pooled.dims()), (&[2, 24, 4, 6][..], &[2, 24][..]));
/// let inside = encoder.intermediates(&images, &["attention.1"])?;
/// assert_eq!(inside["attention.1"].dims(), [2, 3, 25, 25]); // heads, queries, keys
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct Vit {
    config: VitConfig,
    patches: PatchEmbed,
    class: Tensor,
    registers: Option<Tensor>,
    positions: PositionEmbedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    device: Option<Device>,
}

impl Vit {
    /// The network, with its variables under `vb`.
    ///
    /// # Errors
    /// A configuration that [`VitConfig::validate`] refuses; a variable of another shape in `vb`.
    pub fn new(config: &VitConfig, vb: VarBuilder) -> Result<Self> {
        config.validate().map_err(CandleError::wrap)?;
        let (width, grid) = (config.width, config.grid());
        let tokens = |count, name| {
            let init = Init::Randn {
                mean: 0.,
                stdev: TOKEN_STDEV,
            };
            vb.get_with_hints((1, count, width), name, init)
        };
        let registers = (config.registers > 0).then(|| tokens(config.registers, "reg_token"));
        let prefix = config.embedded_prefix_tokens();
        let blocks = vb.pp("blocks");
        let stdev = match config.positions {
            Positions::Learned => STDEV,
            Positions::Sincos => 0.,
        };
        let norm = LayerNormConfig {
            eps: config.norm_eps,
        };
        Ok(Self {
            config: config.clone(),
            patches: patches(config, vb.pp("patch_embed"))?,
            class: tokens(1, "cls_token")?,
            registers: registers.transpose()?,
            positions: positions(
                config,
                PositionEmbedding::new(width, prefix, [grid; 2], stdev, vb.clone())?,
            )?,
            blocks: (0..config.depth)
                .map(|i| Block::new(config, blocks.pp(i.to_string())))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(width, &norm, vb.pp("norm"))?,
            device: None,
        })
    }

    /// What the network was built from.
    #[must_use]
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// This network, run on `device`; on the CPU if there is none. Its variables stay where they are, and
    /// [`Vit::freeze`] makes a snapshot for the same place.
    #[must_use]
    pub fn on(mut self, device: Option<Device>) -> Self {
        self.device = device;
        self
    }

    /// What [`Vit::intermediates`] can give: `blocks.0` and so on and `norm`, the tokens (N, T, C)
    /// after each block and after the last norm, class and registers first; `attention.0` and so on,
    /// what share each query gives to each key, (N, heads, T, T); `class_attention.0` and so on, what the
    /// class token gives, mean over heads, (N, T).
    #[must_use]
    pub fn intermediate_names(&self) -> Vec<String> {
        let of_blocks = |what| (0..self.blocks.len()).map(move |i| format!("{what}.{i}"));
        let mut names: Vec<String> = of_blocks("blocks").collect();
        names.push("norm".to_owned());
        names.extend(of_blocks("attention"));
        names.extend((0..self.blocks.len()).map(of_class));
        names
    }

    /// The tensors that `wanted` names, without a way back; no others are made.
    ///
    /// # Errors
    /// A name that is not among [`Vit::intermediate_names`]; images of a shape that does not fit.
    pub fn intermediates(
        &self,
        images: &Tensor,
        wanted: &[&str],
    ) -> Result<BTreeMap<String, Tensor>> {
        let (_, found) = self.collect(images, wanted)?;
        Ok(found)
    }

    /// [`Encoder::features`] and the tensors that `wanted` names, of one pass. What is wanted changes
    /// no bit of the features.
    ///
    /// # Errors
    /// A name that is not among [`Vit::intermediate_names`]; images of a shape that does not fit.
    pub fn features_and_intermediates(
        &self,
        images: &Tensor,
        wanted: &[&str],
    ) -> Result<(Features, BTreeMap<String, Tensor>)> {
        let (maps, found) = self.collect(images, wanted)?;
        Ok((maps.to_features()?, found))
    }

    fn collect(
        &self,
        images: &Tensor,
        wanted: &[&str],
    ) -> Result<(FeatureMaps, BTreeMap<String, Tensor>)> {
        let (names, device) = (self.intermediate_names(), self.device.as_ref());
        intermediates::collect(wanted, &names, device, images, |tape, images, seen| {
            self.forward(tape, images, seen)
        })
    }

    /// All that stands before the first block.
    fn stem_variables(&self) -> Vec<Tensor> {
        let mut all = self.patches.proj().variables();
        all.extend([self.class.clone(), self.positions.table().clone()]);
        all.extend(self.registers.clone());
        all
    }

    /// What the first block takes of images (N, H, W, 3): class token, registers and patches with their positions, (N, 1, T, C).
    fn tokens(&self, tape: &mut Tape, images: &Activation) -> Result<Activation> {
        let patches = self.patches.apply(tape, images)?;
        let [_, h, w, _] = patches.shape();
        let mut prefix = vec![&self.class];
        prefix.extend(&self.registers);
        // (N, h, w, C) -> (N, 1, T, C)
        if self.config.embed_prefix {
            let tokens = prepend_tokens(tape, &patches, &prefix)?;
            self.positions.apply(tape, &tokens, [h, w])
        } else {
            let patches = self.positions.apply(tape, &patches, [h, w])?;
            prepend_tokens(tape, &patches, &prefix)
        }
    }

    /// The one forward pass, of training and inference: the patches' tokens and what is pooled.
    fn forward(
        &self,
        tape: &mut Tape,
        images: &Activation,
        intermediates: &mut Intermediates<'_>,
    ) -> Result<FeatureMaps> {
        let [_, h, w, _] = self.patches.output(images.shape())?;
        let of_stem = self.stem_variables();
        let mut x = tape.part(images, &of_stem, |tape| self.tokens(tape, images))?;
        for (i, block) in self.blocks.iter().enumerate() {
            let of_block = block.variables();
            x = tape.part(&x, &of_block, |tape| {
                block.apply(tape, &x, i, intermediates)
            })?;
            intermediates.see(&format!("blocks.{i}"), || tokens_of(&x))?;
        }
        let x = self.norm.apply(tape, &x)?;
        intermediates.see("norm", || tokens_of(&x))?;
        let first = self.config.prefix_tokens();
        let map = take_tokens(tape, &x, first..first + h * w, (h, w))?;
        let pooled = match self.config.pooling {
            Pooling::ClassToken => take_tokens(tape, &x, 0..1, (1, 1))?,
            Pooling::PatchMean => global_mean(tape, &map)?,
            Pooling::Both => {
                let class = take_tokens(tape, &x, 0..1, (1, 1))?;
                let mean = global_mean(tape, &map)?;
                join_vectors(tape, &class, &mean)?
            }
        };
        Ok(FeatureMaps { map, pooled })
    }
}

/// The projection of patches, with the initial values that the configuration asks for.
fn patches(config: &VitConfig, vb: VarBuilder) -> Result<PatchEmbed> {
    let (width, side) = (config.width, config.patch_size);
    match config.initialisation {
        Initialisation::Normal => PatchEmbed::new(3, width, side, vb),
        Initialisation::Xavier => {
            let weight = xavier(3 * side * side + width);
            PatchEmbed::with_init(3, width, side, [weight, Init::Const(0.)], vb)
        }
    }
}

/// `embedding`, with the fixed table where the configuration asks for one and the variable was made just now: all of
/// its values are then zero, which no table of two or more channels is.
fn positions(config: &VitConfig, embedding: PositionEmbedding) -> Result<PositionEmbedding> {
    let table = embedding.table();
    if config.positions != Positions::Sincos || !table.is_variable() {
        return Ok(embedding);
    }
    let old = table
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    if old.iter().all(|value| *value == 0.) {
        let mut values = vec![0.; config.embedded_prefix_tokens() * config.width];
        values.extend(sincos::table(
            sincos::First::Rows,
            [config.grid(); 2],
            config.width,
        ));
        let values = Tensor::from_vec(values, table.dims(), table.device())?;
        Var::from_tensor(table)?.set(&values.to_dtype(table.dtype())?)?;
    }
    Ok(embedding)
}

/// The name of what the class token attends to in block `i`.
fn of_class(i: usize) -> String {
    format!("class_attention.{i}")
}

/// (N, 1, T, C) of the tape as a tensor (N, T, C).
fn tokens_of(x: &Activation) -> Result<Tensor> {
    // (N, C, 1, T) -> (N, C, T) -> (N, T, C)
    x.to_tensor()?.squeeze(2)?.transpose(1, 2)?.contiguous()
}

impl Encoder for Vit {
    fn apply(&self, tape: &mut Tape, images: &Activation, _: NormMode) -> Result<FeatureMaps> {
        images::check(images.shape())?;
        self.forward(tape, images, &mut Intermediates::none())
    }

    fn device(&self) -> Option<&Device> {
        self.device.as_ref()
    }

    fn width(&self) -> usize {
        self.config.out_channels()
    }

    fn class_attention(&self, images: &Tensor, _: NormMode) -> Result<Option<Vec<Tensor>>> {
        let (_, _, height, width) = images.dims4()?;
        let (patch, first) = (self.config.patch_size, self.config.prefix_tokens());
        let (h, w) = (height / patch, width / patch);
        let names: Vec<String> = (0..self.blocks.len()).map(of_class).collect();
        let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut found = self.intermediates(images, &wanted)?;
        let layers = names.iter().map(|name| match found.remove(name) {
            // (N, T) -> (N, h*w) -> (N, h, w)
            Some(shares) => shares.narrow(1, first, h * w)?.reshape(((), h, w)),
            None => bail!("class attention: {name} was not computed"),
        });
        layers.collect::<Result<_>>().map(Some)
    }
}
