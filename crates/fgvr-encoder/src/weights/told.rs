//! What weights tell of their network beyond shapes: the heads of a transformer's attention, and the epsilon of
//! its norms.

use super::Weights;
use super::find::Trunk;
use super::found::FoundArchitecture;
use super::keys;
use super::layout::Layout;
use super::named::{self, ModelType, Named};
use super::positions;
use super::setting::Setting;
use super::stated::Stated;
use crate::Error;
use crate::vit::Pooling;
use crate::vit::sincos::{self, First};

/// Heads of MoCo v3's ViT-S and ViT-B, and of the smaller ones that solo-learn adds.
const MOCO_V3_HEADS: usize = 12;

/// A value, and who says so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said<T> {
    pub(crate) value: T,
    /// The name that it may be passed over by: the path of a key, or what it is.
    pub(crate) name: String,
    /// Who says so, in words.
    pub(crate) by: String,
}

/// What is told of a vision transformer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) heads: Option<Said<usize>>,
    pub(crate) norm_eps: Option<Said<f64>>,
    pub(crate) pooling: Option<Said<Pooling>>,
}

impl Told {
    /// What `weights` tell of the transformer whose `trunk` and architecture `found` are.
    ///
    /// # Errors
    /// A number of heads or an epsilon that is none; a position embedding that cannot be read.
    pub(crate) fn of(
        weights: &Weights,
        stated: &Stated,
        trunk: &Trunk,
        found: &FoundArchitecture,
    ) -> Result<Self, Error> {
        let &FoundArchitecture::Vit { width, .. } = found else {
            return Ok(Self::default());
        };
        let wrong = |path: &str, value: &Setting, expected: &str| Error::Json {
            file: weights.sidecar.config_file(),
            reason: format!("{path} is {value}, expected {expected}"),
        };
        let mut told = Self {
            pooling: pooling(stated),
            ..Self::default()
        };
        if let Some((path, value)) = own(stated, "heads").or_else(|| stated.find(keys::HEADS)) {
            let Some(heads) = value.count().filter(|heads| *heads > 0) else {
                return Err(wrong(&path, value, "a number of heads"));
            };
            let by = format!("{path} of config.json");
            told.heads = Some(Said {
                value: heads,
                name: path,
                by,
            });
        }
        if let Some((path, value)) = own(stated, "norm_eps").or_else(|| stated.find(keys::NORM_EPS))
        {
            let Some(eps) = value.number().filter(|eps| *eps >= 0. && *eps < 1.) else {
                return Err(wrong(&path, value, "a small number"));
            };
            let by = format!("{path} of config.json");
            told.norm_eps = Some(Said {
                value: eps,
                name: path,
                by,
            });
        }
        let family = stated.model_type.as_deref();
        if let Some((name, family)) =
            family.and_then(|name| Some((name, ModelType::of(name).filter(|family| family.vit)?)))
        {
            let by = |what: &str| format!("transformers' default {what} for model_type {name:?}");
            told.heads.get_or_insert_with(|| Said {
                value: ModelType::HEADS,
                name: "num_attention_heads".to_owned(),
                by: by("num_attention_heads"),
            });
            told.norm_eps.get_or_insert_with(|| Said {
                value: family.norm_eps,
                name: "layer_norm_eps".to_owned(),
                by: by("layer_norm_eps"),
            });
        }
        if told.heads.is_none() {
            told.heads = layout_heads(weights, stated, trunk, width)?;
        }
        Ok(told)
    }
}

/// What is pooled: as an export of this crate says it, or by timm's arguments, where the norm stays before the mean.
fn pooling(stated: &Stated) -> Option<Said<Pooling>> {
    if let Some((path, value)) = own(stated, "pooling") {
        return Some(Said {
            value: value.text().and_then(Pooling::of)?,
            by: format!("{path} of config.json"),
            name: path,
        });
    }
    let text = |key: &str| Some(stated.find(&[key])?.1.clone());
    let before = text("fc_norm") == Some(Setting::Bool(false));
    let mean = text("global_pool") == Some(Setting::Text("avg".to_owned()));
    (mean && before).then(|| Said {
        value: Pooling::PatchMean,
        by: "global_pool and fc_norm of config.json".to_owned(),
        name: "global_pool".to_owned(),
    })
}

fn own<'a>(stated: &'a Stated, key: &str) -> Option<(String, &'a Setting)> {
    Some((format!("fgvr.encoder.{key}"), stated.own(key)?))
}

/// The heads as names and values of tensors show who built the network; timm, DINO, DINOv2 and torchvision have 64
/// channels a head in all their networks of our widths.
fn layout_heads(
    weights: &Weights,
    stated: &Stated,
    trunk: &Trunk,
    width: usize,
) -> Result<Option<Said<usize>>, Error> {
    let said = |value: usize, by: &str| {
        Some(Said {
            value,
            name: "heads".to_owned(),
            by: by.to_owned(),
        })
    };
    if !matches!(width, 192 | 384 | 768) {
        return Ok(None);
    }
    let stated = stated.architecture.as_deref().and_then(named::timm);
    if matches!(stated, Some(Named::Vit { .. })) {
        return Ok(said(width / 64, "architecture of config.json"));
    }
    match trunk.layout {
        Layout::Dino => return Ok(said(width / 64, "DINOv2's names")),
        Layout::TorchvisionVit => return Ok(said(width / 64, "torchvision's names")),
        Layout::Timm => {}
        _ => return Ok(None),
    }
    let parts = |wanted: &str| trunk.prefix.split('.').any(|part| part == wanted);
    if parts("base_encoder") || parts("momentum_encoder") {
        return Ok(said(MOCO_V3_HEADS, "MoCo v3's names"));
    }
    if parts("teacher") || parts("student") {
        return Ok(said(width / 64, "DINO's names"));
    }
    // The same networks under names that do not tell: their position embedding is a fixed table.
    Ok(match fixed_positions(weights, trunk, width)? {
        Some(First::Rows) => said(MOCO_V3_HEADS, "MoCo v3's fixed position embedding"),
        Some(First::Columns) if solo_learn_decoder(weights, trunk) => said(
            MOCO_V3_HEADS,
            "names and fixed position embedding of solo-learn's masked autoencoder",
        ),
        _ => None,
    })
}

/// Which fixed table the position embedding is.
fn fixed_positions(weights: &Weights, trunk: &Trunk, width: usize) -> Result<Option<First>, Error> {
    let Some([piece]) = trunk.pieces.get(positions::NAME).map(Vec::as_slice) else {
        return Ok(None);
    };
    // A file that claims more places than any network has is read no further.
    const MOST: usize = 1 << 14;
    let info = &weights.tensors()[&piece.name];
    match info.shape.as_slice() {
        [1, places, channels] if *channels == width && *places <= MOST => {}
        _ => return Ok(None),
    }
    let values = weights.read(&piece.name)?;
    let values = values
        .flatten_all()
        .and_then(|values| values.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>())
        .map_err(|source| Error::Tensor {
            name: piece.name.clone(),
            source,
        })?;
    Ok(sincos::recognise(&values, width))
}

/// Whether a decoder lies where solo-learn has it, beside `backbone`.
fn solo_learn_decoder(weights: &Weights, trunk: &Trunk) -> bool {
    let Some(before) = trunk.prefix.strip_suffix("backbone.") else {
        return false;
    };
    let decoder = format!("{before}decoder.");
    let mut names = weights.tensors().keys();
    names.any(|name| name.starts_with(&decoder))
}
