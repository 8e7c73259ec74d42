//! The names that a configuration gives a network, beside the network that its tensors are loaded into.

use super::Fit;
use crate::weights::found::FoundArchitecture;
use crate::weights::named::{self, ModelType};
use crate::weights::setting::Setting;
use crate::weights::stated::Stated;

impl Fit {
    /// The names that the configuration gives the network.
    pub(super) fn compare_names(&mut self, stated: &Stated, found: &FoundArchitecture) {
        if let Some(name) = &stated.architecture {
            let blocks = stated
                .find(&["layers"])
                .and_then(|(_, value)| value.counts(4));
            let patch = stated
                .find(&["patch_size"])
                .and_then(|(_, value)| value.counts(2));
            let sized = match named::timm(name) {
                // Arguments of timm's go before what the name says of sizes.
                Some(named::Named::ResNet {
                    blocks: _,
                    bottleneck,
                    wide,
                }) if blocks.is_some() => {
                    let blocks = blocks.and_then(|blocks| blocks.try_into().ok());
                    blocks.map(|blocks| named::Named::ResNet {
                        blocks,
                        bottleneck,
                        wide,
                    })
                }
                Some(named::Named::Vit {
                    width,
                    depth,
                    patch: own,
                }) => Some(named::Named::Vit {
                    width,
                    depth,
                    patch: patch
                        .and_then(|patch| patch.first().copied())
                        .unwrap_or(own),
                }),
                known => known,
            };
            match sized {
                None => self.differs(
                    "architecture",
                    format!("config.json: architecture is {name:?}, which is not known to compute what {found} does"),
                ),
                Some(named) => {
                    if let Some(found) = named.difference(found) {
                        let what = format!("config.json: architecture is {name:?}, and the tensors are those of {found}");
                        self.differs("architecture", what);
                    }
                }
            }
        }
        let wrapped =
            stated.model_type.as_deref() == Some("timm_wrapper") && stated.architecture.is_some();
        let is_vit = matches!(found, FoundArchitecture::Vit { .. });
        // transformers has vision transformers and residual networks of ours, and no EfficientNet-Lite.
        let is_lite = matches!(found, FoundArchitecture::EfficientNetLite { .. });
        if let Some(name) = stated.model_type.as_deref().filter(|_| !wrapped) {
            if ModelType::of(name).is_none_or(|family| is_lite || family.vit != is_vit) {
                let what = format!(
                    "config.json: model_type is {name:?}, which is not known to compute what {found} does"
                );
                self.differs("model_type", what);
            }
        } else if stated.architecture.is_none() {
            let other = |class: &&String| {
                ModelType::of_class(class).is_none_or(|family| is_lite || family.vit != is_vit)
            };
            if let Some(class) = stated.classes.iter().find(other) {
                let what = format!(
                    "config.json: architectures is {class:?}, which is not known to compute what {found} does"
                );
                self.differs("architectures", what);
            }
        }
        if let Some(name) = stated.own("architecture").and_then(Setting::text) {
            let same = name
                .parse::<crate::Architecture>()
                .ok()
                .is_some_and(|own| (own.is_vit(), own.is_efficientnet()) == (is_vit, is_lite));
            let named = named::timm(name).and_then(|named| named.difference(found));
            if !same || (named.is_some() && !is_vit) {
                self.differs(
                    "fgvr.encoder.architecture",
                    format!("config.json: fgvr.encoder.architecture is {name:?}, and the tensors are those of {found}"),
                );
            }
        }
    }
}
