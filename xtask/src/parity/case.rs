//! What is compared: each architecture, at the size it was made for and at another.

use anyhow::{Result, bail};

use crate::nearest::nearest;

/// Networks that the page shows together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Convolutional,
    EfficientNet,
    Patch16,
    Patch14,
}

impl Family {
    pub(super) const ALL: [Self; 4] = [
        Self::Convolutional,
        Self::EfficientNet,
        Self::Patch16,
        Self::Patch14,
    ];

    /// The section of the page.
    pub(super) fn section(self) -> &'static str {
        match self {
            Self::Convolutional => "resnet",
            Self::EfficientNet => "efficientnet",
            Self::Patch16 => "vit",
            Self::Patch14 => "dinov2",
        }
    }
}

/// A network and the images it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// timm's name; `@112` behind it: made for images of 112 pixels.
    pub(super) network: &'static str,
    /// N, H, W.
    pub(super) images: [usize; 3],
    /// Tenths of a GFLOP for one image of 224 pixels, roughly: what the time is guessed from.
    weight: usize,
    pub(super) family: Family,
}

/// Networks with their weights.
type Networks = &'static [(&'static str, usize)];

/// Residual networks.
const CONVOLUTIONAL: Networks = &[
    ("resnet18", 18),
    ("resnet34", 37),
    ("resnet50", 41),
    ("resnet101", 78),
    ("wide_resnet50_2", 114),
];

/// EfficientNet-Lites.
const EFFICIENTNET: Networks = &[
    ("tf_efficientnet_lite0", 4),
    ("tf_efficientnet_lite1", 6),
    ("tf_efficientnet_lite2", 8),
    ("tf_efficientnet_lite3", 14),
    ("tf_efficientnet_lite4", 26),
    ("efficientnet_lite0", 4),
];

/// ViTs of patches of 16 pixels, made for 224 pixels.
const PATCH_16: Networks = &[
    ("vit_tiny_patch16_224", 11),
    ("vit_small_patch16_224", 46),
    ("vit_base_patch16_224", 176),
];

/// ViTs of patches of 14 pixels, made for 518 pixels.
const PATCH_14: Networks = &[
    ("vit_small_patch14_dinov2", 60),
    ("vit_base_patch14_dinov2", 230),
    ("vit_small_patch14_reg4_dinov2", 60),
    ("vit_base_patch14_reg4_dinov2", 230),
];

impl Case {
    /// `resnet18 2x160x192`.
    pub(super) fn name(&self) -> String {
        let [n, h, w] = self.images;
        format!("{} {n}x{h}x{w}", self.network)
    }

    /// In arbitrary units.
    pub(super) fn cost(&self) -> usize {
        let [n, h, w] = self.images;
        (self.weight * n * h * w / (224 * 224)).max(1)
    }

    /// Whether ReLUs or the largest of a window decide where gradients go.
    pub(super) fn has_kinks(&self) -> bool {
        matches!(self.family, Family::Convolutional | Family::EfficientNet)
    }
}

/// All cases.
pub(super) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        // A ViT made for one size sees others by interpolating its position embeddings.
        let (networks, sizes) = match family {
            Family::Convolutional => (CONVOLUTIONAL, [[2, 224, 224], [2, 160, 192]]),
            // TensorFlow pads a side of an odd number of pixels otherwise.
            Family::EfficientNet => (EFFICIENTNET, [[2, 224, 224], [2, 161, 192]]),
            Family::Patch16 => (PATCH_16, [[2, 224, 224], [2, 160, 192]]),
            Family::Patch14 => (PATCH_14, [[1, 518, 518], [2, 224, 224]]),
        };
        for &(network, weight) in networks {
            cases.extend(sizes.map(|images| Case {
                network,
                images,
                weight,
                family,
            }));
        }
    }
    cases
}

/// The cases whose names begin with one of `only`, with one whole name or part of it; all where there are
/// none.
pub(super) fn chosen(only: &[String]) -> Result<Vec<Case>> {
    let all = all();
    for prefix in only {
        if !all.iter().any(|case| case.name().starts_with(prefix)) {
            let names = all.iter().map(|case| case.network);
            let hint = nearest(prefix, names)
                .map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            bail!("--only {prefix}: no network's name begins so{hint}");
        }
    }
    let wanted =
        |case: &Case| only.is_empty() || only.iter().any(|prefix| case.name().starts_with(prefix));
    Ok(all.into_iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_is_seen_at_two_sizes() {
        let cases = chosen(&[]).unwrap();
        for (network, _) in [CONVOLUTIONAL, EFFICIENTNET, PATCH_16, PATCH_14].concat() {
            let sizes = cases.iter().filter(|case| case.network == network);
            assert_eq!(sizes.count(), 2, "{network}");
        }
        assert!(cases.iter().all(|case| case.cost() > 0));
    }

    #[test]
    fn some_are_chosen_by_how_their_names_begin() {
        let names = |only: &str| -> Vec<String> {
            let cases = chosen(&[only.to_string()]).unwrap();
            cases.iter().map(Case::name).collect()
        };
        assert_eq!(
            names("resnet18"),
            ["resnet18 2x224x224", "resnet18 2x160x192"]
        );
        assert_eq!(names("resnet18 2x160"), ["resnet18 2x160x192"]);
        let error = chosen(&["resnet19".into()]).unwrap_err().to_string();
        assert!(error.contains("did you mean `resnet18`?"), "{error}");
    }
}
