//! DINO's head: a perceptron, a bottleneck on the unit sphere, and prototypes of length one.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use fgvr_nn::{NormMode, Parameters};

use crate::{ActivationFunction, DinoConfig, Mlp, MlpConfig, l2_normalise};

/// The prototypes' variable.
pub(crate) const PROTOTYPES: &str = "last_layer.weight_v";

/// MLP (GELU between), L2 normalisation, then the cosine with each prototype: a linear layer without
/// bias whose rows are normalised by their length, that is weight norm with its gain fixed at 1
/// (arXiv:2104.14294, appendix C). Variables `mlp.*` and `last_layer.weight_v` (K, bottleneck).
pub(crate) struct DinoHead {
    mlp: Mlp,
    prototypes: Tensor,
}

/// What the head says of a batch.
pub(crate) struct Scores {
    /// (N, bottleneck), normalised.
    pub(crate) bottleneck: Tensor,
    /// Cosine with each prototype (N, K).
    pub(crate) logits: Tensor,
}

impl DinoHead {
    /// From C = `width`, over variables in `parameters`.
    pub(crate) fn new(width: usize, cfg: &DinoConfig, parameters: &Parameters) -> Result<Self> {
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let shape = MlpConfig {
            layers: 3,
            hidden: cfg.hidden,
            out: cfg.bottleneck,
            norm: cfg.head_norm,
            last_norm: false,
            bias: [true, true],
            activation: ActivationFunction::Gelu,
        };
        initialise(width, &shape, vb.pp("mlp"))?;
        let bound = 1. / (cfg.bottleneck as f64).sqrt();
        let uniform = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let prototypes = (cfg.prototypes, cfg.bottleneck);
        Ok(Self {
            mlp: Mlp::new(width, &shape, vb.pp("mlp"))?,
            prototypes: vb.get_with_hints(prototypes, PROTOTYPES, uniform)?,
        })
    }

    /// (N, C) -> bottleneck (N, D) and logits (N, K); no gradient reaches the prototypes if they are
    /// `frozen`.
    pub(crate) fn forward(&self, pooled: &Tensor, norm: NormMode, frozen: bool) -> Result<Scores> {
        let bottleneck = l2_normalise(&self.mlp.forward(pooled, norm)?)?;
        let prototypes = match frozen {
            true => self.prototypes.detach(),
            false => self.prototypes.clone(),
        };
        let logits = bottleneck.matmul(&l2_normalise(&prototypes)?.t()?)?; // (N, D) x (D, K)
        Ok(Scores { bottleneck, logits })
    }
}

/// Makes the linear layers' variables before [`Mlp`] asks for them: normal with a standard deviation of
/// 0.02, and biases of 0, as the released code (whose truncation at ±2 cuts nothing off).
fn initialise(width: usize, shape: &MlpConfig, vb: VarBuilder<'_>) -> Result<()> {
    let stride = if shape.norm { 3 } else { 2 };
    let widths = [width, shape.hidden, shape.hidden, shape.out];
    for (layer, pair) in widths.windows(2).enumerate() {
        let vb = vb.pp(layer * stride);
        let init = Init::Randn {
            mean: 0.,
            stdev: 0.02,
        };
        vb.get_with_hints((pair[1], pair[0]), "weight", init)?;
        vb.get_with_hints(pair[1], "bias", Init::Const(0.))?;
    }
    Ok(())
}
