//! What a network filled by formula makes of images made by formula, for timm to be compared with.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use fgvr_encoder::{Architecture, Backbone, EncoderConfig};
use fgvr_nn::{Encoder, NormMode, ParameterGradients, Parameters};
use fgvr_testkit::formula;

use crate::preprocess::save;

/// A network and its images: `resnet18 2x160x192`, or `vit_tiny_patch16_224@96 …` for a network made
/// for images of 96 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) architecture: Architecture,
    /// What the network is made for, where that is not the architecture's own size.
    pub(crate) image_size: Option<usize>,
    /// N, H, W.
    pub(crate) images: [usize; 3],
}

impl Subject {
    pub(crate) fn parse(network: &str, images: &str) -> Result<Self> {
        let (name, image_size) = match network.split_once('@') {
            Some((name, size)) => match size.parse() {
                Ok(size) => (name, Some(size)),
                Err(_) => bail!("`{network}`: expected a number of pixels after the @"),
            },
            None => (network, None),
        };
        let numbers: Vec<usize> = images
            .split('x')
            .map_while(|number| number.parse().ok().filter(|number| *number > 0))
            .collect();
        let Ok(images) = <[usize; 3]>::try_from(numbers) else {
            bail!("`{images}`: expected a number of images and their size, such as 2x160x192");
        };
        Ok(Self {
            architecture: name.parse()?,
            image_size,
            images,
        })
    }

    fn config(&self) -> EncoderConfig {
        EncoderConfig {
            image_size: self.image_size,
            ..EncoderConfig::from(self.architecture)
        }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Written {
    /// Tensors of the network, running statistics among them.
    pub(crate) tensors: usize,
    /// Seconds of the pass for inference.
    pub(crate) seconds: f64,
}

/// Writes, as safetensors: `pooled` and `map` with running statistics; `frozen.pooled` and
/// `frozen.map`, of the frozen network; `train.pooled` and `train.map` with batch statistics; the
/// gradient of sum(map * a) + sum(pooled * b) of these at the images, `gradient`; and `checksums` of
/// the weights in order of name, then of the images, so that the other side knows it has the same.
pub(crate) fn write(subject: &Subject, file: &Path) -> Result<Written> {
    let parameters = Parameters::new(0);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let network = Backbone::new(&subject.config(), vb)?;
    let all = parameters.all();
    formula::fill(&all)?;
    let images = formula::images("images", subject.images)?;

    let mut checksums = Vec::with_capacity(all.len() + 1);
    for tensor in all.values().map(|var| var.as_tensor()).chain([&images]) {
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        checksums.push(formula::checksum(&values) as i64);
    }
    // The frozen network is a snapshot of the running statistics before they are updated.
    let frozen = network.freeze()?.features(&images)?;
    let start = Instant::now();
    let features = network.features(&images, NormMode::Eval)?;
    let seconds = start.elapsed().as_secs_f64();
    let (trained, tape) = network.forward_train_to_images(&images, NormMode::Train)?;
    let weighted = |name: &str, output: &Tensor| -> Result<Tensor> {
        let weights = formula::uniform_of(name, output.elem_count());
        let weights = Tensor::from_vec(weights, output.shape(), &Device::Cpu)?;
        Ok((output * weights.to_dtype(DType::F32)?)?.sum_all()?)
    };
    let loss = (weighted("loss.map", &trained.map)? + weighted("loss.pooled", &trained.pooled)?)?;
    let leaves = loss.backward()?;
    let gradient = tape
        .backward(&leaves, &mut ParameterGradients::default())?
        .context("no gradient came back to the images")?;

    let count = checksums.len();
    let tensors = [
        ("pooled", features.pooled),
        ("map", features.map),
        ("frozen.pooled", frozen.pooled),
        ("frozen.map", frozen.map),
        ("train.pooled", trained.pooled),
        ("train.map", trained.map),
        ("gradient", gradient),
        (
            "checksums",
            Tensor::from_vec(checksums, count, &Device::Cpu)?,
        ),
    ];
    save(HashMap::from(tensors), file)?;
    Ok(Written {
        tensors: all.len(),
        seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_and_a_wrong_one_named() {
        let subject = Subject::parse("resnet18", "2x160x192").unwrap();
        assert_eq!(subject.architecture, Architecture::ResNet18);
        assert_eq!((subject.image_size, subject.images), (None, [2, 160, 192]));
        for (network, images, says) in [
            ("resnet18", "160x192", "2x160x192"),
            ("resnet18", "2x0x192", "2x160x192"),
            ("resnet18@x", "1x8x8", "after the @"),
            ("resnet19", "1x8x8", "resnet18"),
        ] {
            let error = format!("{:#}", Subject::parse(network, images).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn all_outputs_are_written_and_finite() {
        let subject = Subject::parse("resnet18", "2x32x48").unwrap();
        let name = format!("fgvr-bench-parity-{}", std::process::id());
        let file = std::env::temp_dir().join(name);
        let written = write(&subject, &file).unwrap();
        let tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(tensors["map"].dims(), [2, 512, 1, 2]);
        assert_eq!(tensors["gradient"].dims(), [2, 3, 32, 48]);
        assert_eq!(tensors["checksums"].dims(), [written.tensors + 1]);
        for name in ["pooled", "map", "train.pooled", "train.map", "gradient"] {
            let largest = tensors[name].abs().unwrap().max_all().unwrap();
            let largest = largest.to_scalar::<f32>().unwrap();
            assert!(largest > 0. && largest.is_finite(), "{name}: {largest}");
        }
        let (frozen, live) = (&tensors["frozen.pooled"], &tensors["pooled"]);
        fgvr_testkit::assert_close("frozen", frozen, live, 1e-5);
    }
}
