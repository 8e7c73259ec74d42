//! A photograph's file as a network for evaluation sees it, for timm to be compared with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use fgvr_data::augment::{EvaluationView, Interpolation};
use fgvr_data::{Normalisation, decode};

/// Pixels of the largest photograph.
const MOST_PIXELS: u64 = 1 << 27;

/// Which view of which photograph, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    view: EvaluationView,
    file: PathBuf,
    pub(crate) photo: PathBuf,
}

impl Order {
    /// `224 0.875 bilinear FILE PHOTO`; the photograph's path may have blanks.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let [size, crop_pct, interpolation, file, photo] =
            text.splitn(5, ' ').collect::<Vec<_>>()[..]
        else {
            bail!(
                "expected a size, crop_pct, an interpolation, a file and a photograph, found `{text}`"
            );
        };
        let interpolation = match interpolation {
            "bilinear" => Interpolation::Bilinear,
            "bicubic" => Interpolation::Bicubic,
            other => bail!("`{other}`: expected bilinear or bicubic"),
        };
        let size = size
            .parse()
            .with_context(|| format!("`{size}`: expected a number of pixels"))?;
        let crop_pct = crop_pct
            .parse()
            .with_context(|| format!("`{crop_pct}`: expected a number such as 0.875"))?;
        Ok(Self {
            view: EvaluationView::of_crop_pct(size, crop_pct, interpolation)?,
            file: file.into(),
            photo: photo.into(),
        })
    }

    /// Writes `view`, (3, size, size) in [0, 1], as safetensors.
    pub(crate) fn write(&self) -> Result<()> {
        let size = self.view.size;
        let image = decode(&self.photo, MOST_PIXELS)?;
        let values = self.view.apply(&image, &Normalisation::none());
        let view = Tensor::from_vec(values, (3, size, size), &Device::Cpu)?;
        save(HashMap::from([("view", view)]), &self.file)
    }
}

/// Writes tensors as safetensors.
pub(crate) fn save(tensors: HashMap<&str, Tensor>, file: &Path) -> Result<()> {
    candle_core::safetensors::save(&tensors, file)
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_and_a_wrong_one_named() {
        let order = Order::parse("224 0.9 bicubic out a photo.jpg").unwrap();
        assert_eq!(order.view.fit, fgvr_data::augment::Fit::Crop(248));
        assert_eq!(order.photo, Path::new("a photo.jpg"));
        for (wrong, says) in [
            ("224 0.9 bicubic out", "a photograph"),
            ("224 0.9 nearest out p", "bilinear or bicubic"),
            ("x 0.9 bicubic out p", "number of pixels"),
            ("224 x bicubic out p", "such as 0.875"),
            ("224 2 bicubic out p", "crop_pct"),
        ] {
            let error = format!("{:#}", Order::parse(wrong).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_photograph_that_is_not_there_is_an_error() {
        let order = Order::parse("32 0.9 bicubic out no/such/photo.jpg").unwrap();
        let error = format!("{:#}", order.write().unwrap_err());
        assert!(error.contains("no/such/photo.jpg"), "{error}");
    }
}
