//! How images are made ready for a network: what its weights were trained with.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::json;
use crate::Error;

/// Mean of ImageNet's training images, by channel.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Their standard deviation.
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];
/// The largest side accepted.
const MAX_SIDE: usize = 8192;

/// How a resized pixel is made from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[allow(missing_docs)] // the names are those of Pillow's filters
pub enum Interpolation {
    Nearest,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
    Lanczos,
}

fgvr_nn::named!(Interpolation, "Its name in a settings file." {
    Nearest = "nearest",
    Bilinear = "bilinear",
    Bicubic = "bicubic",
    Box = "box",
    Hamming = "hamming",
    Lanczos = "lanczos",
});

/// What is done to an image before it is cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Resize {
    /// Its shorter side gets this many pixels; then its middle is cut out.
    ShorterSide(usize),
    /// Both sides are brought to the network's size, whatever the image's shape.
    Exact,
}

/// From an image with values in 0 to 1 to the network's input.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Preprocessing {
    /// Height and width of the input.
    pub size: [usize; 2],
    /// How the image gets there.
    pub resize: Resize,
    /// Subtracted from each channel.
    pub mean: [f32; 3],
    /// Divides each channel then.
    pub std: [f32; 3],
    /// How it is resized.
    pub interpolation: Interpolation,
}

impl fmt::Display for Preprocessing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            size: [h, w],
            resize,
            mean,
            std,
            interpolation,
        } = self;
        match resize {
            Resize::ShorterSide(side) => {
                write!(f, "shorter side to {side}, {interpolation}, centre {h}x{w}")?;
            }
            Resize::Exact => write!(f, "to {h}x{w}, {interpolation}")?,
        }
        write!(f, ", mean {mean:?}, s.d. {std:?}")
    }
}

impl Preprocessing {
    /// torchvision's for ImageNet: shorter side to 256, centre 224, ImageNet's mean and deviation.
    #[must_use]
    pub fn imagenet() -> Self {
        Self {
            size: [224, 224],
            resize: Resize::ShorterSide(256),
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
            interpolation: Interpolation::Bilinear,
        }
    }

    /// DINOv2's at its own resolution: 518 pixels, nothing cut off.
    #[must_use]
    pub fn dinov2() -> Self {
        Self {
            size: [518, 518],
            resize: Resize::ShorterSide(518),
            interpolation: Interpolation::Bicubic,
            ..Self::imagenet()
        }
    }

    /// ImageNet's at the size that EfficientNet-Lite of this `scale`, 0 to 4, was made for.
    #[must_use]
    pub fn efficientnet_lite(scale: usize) -> Self {
        let imagenet = Self::imagenet();
        let size = crate::efficientnet::image_size(scale).unwrap_or(imagenet.size[0]);
        Self {
            size: [size; 2],
            // 0.875 of the shorter side is cut out.
            resize: Resize::ShorterSide(size * 8 / 7),
            ..imagenet
        }
    }

    /// That of most of timm's vision transformers: crop 0.9, mean and deviation of one half.
    #[must_use]
    pub fn timm_vit() -> Self {
        Self {
            size: [224, 224],
            resize: Resize::ShorterSide(248),
            mean: [0.5; 3],
            std: [0.5; 3],
            interpolation: Interpolation::Bicubic,
        }
    }

    /// From the text of timm's `config.json`; `None` if it says nothing of preprocessing.
    ///
    /// # Errors
    /// [`Error::Json`]: no JSON, or values that cannot be meant.
    pub fn from_timm(file: &Path, text: &[u8]) -> Result<Option<Self>, Error> {
        let mut config: TimmConfig = json::parse(file, text)?;
        let architecture = config.architecture.take().unwrap_or_default();
        if let Some(part) = config.pretrained_cfg.take() {
            config = *part;
        }
        let Some([_, height, width]) = config.input_size else {
            return Ok(None);
        };
        let vit = architecture.starts_with("vit_") && !architecture.contains("dino");
        let half = vit || architecture.starts_with("tf_efficientnet_lite");
        let default = if half {
            Self::timm_vit()
        } else {
            Self::imagenet()
        };
        let crop = config.crop_pct.unwrap_or(if vit { 0.9 } else { 0.875 });
        if !(crop > 0. && crop <= 1.5) {
            return Err(wrong(file, format!("crop_pct is {crop}, expected 0 to 1")));
        }
        let resize = match config.crop_mode.as_deref() {
            Some("squash") => Resize::Exact,
            // timm rounds down.
            _ => Resize::ShorterSide((height.min(width) as f64 / crop) as usize),
        };
        let interpolation = match config.interpolation.as_deref() {
            None | Some("") => Interpolation::Bicubic,
            Some(name) => interpolation(name)
                .ok_or_else(|| wrong(file, format!("interpolation is {name:?}")))?,
        };
        Self {
            size: [height, width],
            resize,
            mean: config.mean.unwrap_or(default.mean),
            std: config.std.unwrap_or(default.std),
            interpolation,
        }
        .checked(file)
        .map(Some)
    }

    /// From the text of transformers' `preprocessor_config.json`.
    ///
    /// # Errors
    /// [`Error::Json`]: no JSON, or values that cannot be meant.
    pub fn from_transformers(file: &Path, text: &[u8]) -> Result<Self, Error> {
        let config: TransformersConfig = json::parse(file, text)?;
        let kind = config
            .image_processor_type
            .or(config.feature_extractor_type)
            .unwrap_or_default();
        let side = config.size.as_ref().and_then(|size| size.side);
        let rectangle = config.size.as_ref().and_then(Size::rectangle);
        let crop = config.crop_size.as_ref().and_then(Size::any);
        let mut interpolation_default = Interpolation::Bilinear;
        let (size, resize) = if let (Some(part), Some(side)) = (config.crop_pct, side) {
            // ConvNext's and ResNet's: small images are cropped by a part, large ones squashed.
            interpolation_default = Interpolation::Bicubic;
            if !(part > 0. && part <= 1.) {
                return Err(wrong(file, format!("crop_pct is {part}, expected 0 to 1")));
            }
            match side {
                384.. => ([side; 2], Resize::Exact),
                _ => (
                    [side; 2],
                    Resize::ShorterSide((side as f64 / part) as usize),
                ),
            }
        } else if config.do_center_crop == Some(true) || (crop.is_some() && side.is_some()) {
            let Some(size) = crop.or(side.map(|side| [side; 2])).or(rectangle) else {
                return Err(wrong(file, "no crop_size".to_owned()));
            };
            interpolation_default = Interpolation::Bicubic;
            match (side, rectangle) {
                (Some(side), _) => (size, Resize::ShorterSide(side)),
                (None, Some(rectangle)) if rectangle == size => (size, Resize::Exact),
                (None, Some([h, w])) => {
                    return Err(wrong(
                        file,
                        format!("images to {h}x{w}, then cropped, is not supported"),
                    ));
                }
                (None, None) => (size, Resize::ShorterSide(size[0].min(size[1]))),
            }
        } else if let Some(size) = rectangle {
            (size, Resize::Exact)
        } else if let Some(side) = side {
            // A single number meant a square where the class does not crop.
            ([side; 2], Resize::Exact)
        } else if kind.starts_with("ViT") {
            ([224; 2], Resize::Exact)
        } else {
            return Err(wrong(file, "no size".to_owned()));
        };
        let interpolation = match config.resample {
            None => interpolation_default,
            Some(number) => *[
                Interpolation::Nearest,
                Interpolation::Lanczos,
                Interpolation::Bilinear,
                Interpolation::Bicubic,
                Interpolation::Box,
                Interpolation::Hamming,
            ]
            .get(number)
            .ok_or_else(|| wrong(file, format!("resample is {number}, expected 0 to 5")))?,
        };
        let vit = kind.starts_with("ViT");
        let mut mean = config
            .image_mean
            .unwrap_or(if vit { [0.5; 3] } else { IMAGENET_MEAN });
        let mut std = config
            .image_std
            .unwrap_or(if vit { [0.5; 3] } else { IMAGENET_STD });
        if config.do_normalize == Some(false) {
            (mean, std) = ([0.; 3], [1.; 3]);
        }
        // Values here are in 0 to 1; what the processor makes of a byte may be another range.
        let factor = match config.do_rescale {
            Some(false) => 255.,
            _ => config.rescale_factor.map_or(1., |factor| factor * 255.),
        };
        for value in mean.iter_mut().chain(&mut std) {
            *value = (f64::from(*value) / factor) as f32;
        }
        Self {
            size,
            resize,
            mean,
            std,
            interpolation,
        }
        .checked(file)
    }

    fn checked(self, file: &Path) -> Result<Self, Error> {
        let sides = self.size.into_iter().chain(match self.resize {
            Resize::ShorterSide(side) => Some(side),
            Resize::Exact => None,
        });
        for side in sides {
            if side == 0 || side > MAX_SIDE {
                let reason = format!("a side of {side} pixels, expected 1 to {MAX_SIDE}");
                return Err(wrong(file, reason));
            }
        }
        if let Resize::ShorterSide(side) = self.resize
            && side < self.size[0].max(self.size[1])
            && self.size[0] == self.size[1]
        {
            let reason = format!(
                "images of {side} pixels cannot be cropped to {}",
                self.size[0]
            );
            return Err(wrong(file, reason));
        }
        let finite = self.mean.iter().all(|value| value.is_finite());
        let positive = self
            .std
            .iter()
            .all(|value| value.is_finite() && *value > 0.);
        if !finite || !positive {
            let reason = format!("mean {:?} and std {:?}", self.mean, self.std);
            return Err(wrong(file, reason));
        }
        Ok(self)
    }
}

fn wrong(file: &Path, reason: String) -> Error {
    Error::Json {
        file: file.to_path_buf(),
        reason,
    }
}

fn interpolation(name: &str) -> Option<Interpolation> {
    Some(match name {
        "nearest" => Interpolation::Nearest,
        "bilinear" => Interpolation::Bilinear,
        // timm picks one of the two at random while training.
        "bicubic" | "random" => Interpolation::Bicubic,
        "box" => Interpolation::Box,
        "hamming" => Interpolation::Hamming,
        "lanczos" => Interpolation::Lanczos,
        _ => return None,
    })
}

/// timm's `config.json`: the newer form has a part for this, the older is flat.
#[derive(Deserialize)]
struct TimmConfig {
    architecture: Option<String>,
    pretrained_cfg: Option<Box<TimmConfig>>,
    input_size: Option<[usize; 3]>,
    interpolation: Option<String>,
    crop_pct: Option<f64>,
    crop_mode: Option<String>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
}

#[derive(Deserialize)]
struct TransformersConfig {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    size: Option<Size>,
    crop_size: Option<Size>,
    crop_pct: Option<f64>,
    do_center_crop: Option<bool>,
    do_normalize: Option<bool>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    resample: Option<usize>,
}

/// A number, or an object with some of these.
#[derive(Default)]
struct Size {
    side: Option<usize>,
    height: Option<usize>,
    width: Option<usize>,
}

impl Size {
    fn rectangle(&self) -> Option<[usize; 2]> {
        Some([self.height?, self.width?])
    }

    fn any(&self) -> Option<[usize; 2]> {
        self.rectangle().or(self.side.map(|side| [side; 2]))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of pixels, or shortest_edge, or height and width")
            }

            fn visit_u64<E: serde::de::Error>(self, side: u64) -> Result<Size, E> {
                let side = usize::try_from(side).map_err(E::custom)?;
                Ok(Size {
                    side: Some(side),
                    ..Size::default()
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Size, A::Error> {
                let mut size = Size::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "shortest_edge" => size.side = map.next_value()?,
                        "height" => size.height = map.next_value()?,
                        "width" => size.width = map.next_value()?,
                        _ => {
                            map.next_value::<serde::de::IgnoredAny>()?;
                        }
                    }
                }
                Ok(size)
            }
        }
        deserializer.deserialize_any(Form)
    }
}
