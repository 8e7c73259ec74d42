//! EfficientNet-Lite in a file: which of its sizes the tensors show, and who says how borders are padded, which they
//! do not show.

use std::collections::BTreeMap;

use super::find::Trunk;
use super::layout::Layout;
use super::named::{self, Named};
use super::setting::Setting;
use super::stated::Stated;
use super::told::Said;
use crate::efficientnet::{EPS, HEAD, Padding, STEM};
use crate::{Architecture, EfficientNetConfig};

/// Lite0 to Lite4.
const SCALES: std::ops::Range<usize> = 0..5;

/// The scale of the network that variables of these shapes, by timm's names, are of. One with
/// squeeze-and-excitation, or of other widths, such as a MobileNet, is none.
pub(super) fn scale(shapes: &BTreeMap<String, Vec<usize>>) -> Option<usize> {
    if shapes.keys().any(|name| name.contains(".se.")) {
        return None;
    }
    let dims = |name: &str| shapes.get(name).map(Vec::as_slice);
    let head = dims("conv_head.weight").is_none_or(|dims| dims.first() == Some(&HEAD));
    if dims("conv_stem.weight") != Some(&[STEM, 3, 3, 3]) || !head {
        return None;
    }
    SCALES.into_iter().find(|scale| {
        let Ok(config) = EfficientNetConfig::lite(*scale) else {
            return false;
        };
        config.stages().iter().enumerate().all(|(i, stage)| {
            let block = |block: usize, rest: &str| dims(&format!("blocks.{i}.{block}.{rest}"));
            let project = if i == 0 { "conv_pw" } else { "conv_pwl" };
            let wide = block(0, &format!("{project}.weight"));
            let kernel = block(0, "conv_dw.weight");
            wide.and_then(|dims| dims.first()) == Some(&stage.channels)
                && kernel.and_then(|dims| dims.last()) == Some(&stage.kernel)
                && super::found::numbers(shapes, &format!("blocks.{i}.")) == stage.blocks
        })
    })
}

/// The networks that have the tensors of Lite`scale`.
pub(super) fn candidates(scale: usize) -> Vec<Architecture> {
    let all = Architecture::ALL.into_iter();
    all.filter(|known| known.is_efficientnet() && named_scale(known.name()) == Some(scale))
        .collect()
}

/// The same in words, with what fgvr does not have.
pub(super) fn candidates_in_words(scale: usize) -> Vec<String> {
    let [tensorflow, pytorch] = EPS;
    let missing = candidates(scale).len() < 2;
    vec![
        format!("tf_efficientnet_lite{scale} (TensorFlow's padding, epsilon {tensorflow:e})"),
        format!(
            "efficientnet_lite{scale} (the same padding on all sides, epsilon {pytorch:e}{})",
            if missing {
                "; fgvr does not have it"
            } else {
                ""
            }
        ),
    ]
}

fn named_scale(name: &str) -> Option<usize> {
    match named::timm(name) {
        Some(Named::EfficientNetLite { scale, .. }) => Some(scale),
        _ => None,
    }
}

/// The padding, as far as a configuration or the names of tensors say it.
pub(super) fn padding(stated: &Stated, trunk: &Trunk) -> Option<Said<Padding>> {
    let by_name = |name: &str| match named::timm(name) {
        Some(Named::EfficientNetLite { padding, .. }) => Some(padding),
        _ => None,
    };
    let own = stated.own("architecture").and_then(Setting::text);
    let said = |path: &str, name: &str| {
        Some(Said {
            value: by_name(name)?,
            name: path.to_owned(),
            by: format!("{path} of config.json, {name:?}"),
        })
    };
    own.and_then(|name| said("fgvr.encoder.architecture", name))
        .or_else(|| said("architecture", stated.architecture.as_deref()?))
        .or_else(|| {
            matches!(trunk.layout, Layout::EfficientNetPytorch(_)).then(|| Said {
                value: Padding::Same,
                name: "architecture".to_owned(),
                by: "efficientnet_pytorch's names".to_owned(),
            })
        })
}

/// The architecture of Lite`scale` with this padding, and with the epsilon that goes with it.
pub(super) fn architecture(scale: usize, padding: Padding) -> Option<Architecture> {
    let tensorflow = |known: &Architecture| known.name().starts_with("tf_");
    let mut all = candidates(scale).into_iter();
    all.find(|known| tensorflow(known) == (padding == Padding::Same))
}
