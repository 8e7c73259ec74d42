//! The gradients of one training step, with all that went into them, for PyTorch to repeat.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};

use crate::case::Size;
use crate::random;
use crate::train::Train;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Written {
    /// Tensors that have a gradient.
    pub(crate) parameters: usize,
    pub(crate) loss: f32,
}

/// Takes the step of [`Train`] up to its gradients and writes, as safetensors, `images` (N, 3, H, W),
/// `labels` (N), and of each parameter `value/NAME` and `gradient/NAME`.
///
/// Every norm scales by something in [0.5, 1.5] and shifts by something in [-0.5, 0.5]: at 1 and 0,
/// their initial values, a gradient mixed up with another could look right. The norms that end a
/// block's branch scale by a fifth of that. At full strength an untrained ResNet-50 multiplies a
/// rounding error by a hundred on its way to the last layer, in PyTorch as here, and a comparison
/// would be one of two errors.
pub(crate) fn write(size: Size, file: &Path) -> Result<Written> {
    let train = Train::new(size)?;
    let parameters = train.parameters();
    let last_norm = match parameters.contains_key("layer1.0.bn3.weight") {
        true => ".bn3.weight",
        false => ".bn2.weight",
    };
    for (stream, (name, var)) in parameters.iter().enumerate() {
        if var.rank() != 1 {
            continue;
        }
        let (middle, scale) = match name {
            name if name.ends_with(last_norm) => (1., 0.2),
            name if name.ends_with("weight") => (1., 1.),
            _ => (0., 1.),
        };
        // Stream 0 is that of the images. Values lie between -√3 and √3.
        let mut values = random::values(var.elem_count(), 1 + stream as u64);
        for value in &mut values {
            *value = scale * (middle + 0.5 * *value / 3f32.sqrt());
        }
        var.set(&Tensor::new(values, &Device::Cpu)?)?;
    }
    let (loss, gradients) = train.gradients()?;
    let mut tensors = HashMap::from([
        ("images".to_owned(), train.images().clone()),
        ("labels".to_owned(), train.labels().to_dtype(DType::I64)?),
    ]);
    for (name, var) in &parameters {
        let gradient = gradients
            .get(var)
            .with_context(|| format!("{name} has no gradient"))?;
        tensors.insert(format!("value/{name}"), var.as_tensor().clone());
        tensors.insert(format!("gradient/{name}"), gradient.clone());
    }
    candle_core::safetensors::save(&tensors, file)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(Written {
        parameters: parameters.len(),
        loss: loss.to_scalar()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_written_with_a_gradient_of_its_shape() {
        let folder = std::env::temp_dir();
        let file = folder.join(format!("fgvr-bench-gradients-{}", std::process::id()));
        let size = Size::parse("resnet18-32-b2").unwrap();
        let written = write(size, &file).unwrap();
        let tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(written.parameters, 62);
        assert_eq!(tensors.len(), 2 + 2 * 62);
        for name in ["conv1.weight", "layer2.0.downsample.1.bias", "fc.bias"] {
            let gradient = &tensors[&format!("gradient/{name}")];
            assert_eq!(gradient.dims(), tensors[&format!("value/{name}")].dims());
            let largest = gradient.abs().unwrap().max_all().unwrap();
            assert!(largest.to_scalar::<f32>().unwrap() > 0., "{name}");
        }
        let scale = &tensors["value/bn1.weight"];
        let spread = scale.max_all().unwrap().to_scalar::<f32>().unwrap()
            - scale.min_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(spread > 0.5 && spread <= 1., "{spread}");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let size = Size::parse("resnet18-32-b2").unwrap();
        let error = write(size, Path::new("no/such/folder/file")).unwrap_err();
        assert!(error.to_string().contains("no/such/folder/file"), "{error}");
    }
}
