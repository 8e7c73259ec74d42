//! An optimiser's arrays of a variable with a row for each image, in a set that changed.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::objective::OBJECTIVE;

/// Brings what optimisers keep of the variable `name` (M, ...), under whatever prefix, into line with a set of `images`
/// images: a row goes to the number that `number` gives of its image, or with its image; a new image has zeros.
///
/// # Errors
/// None in practice.
pub(crate) fn renumber_rows(
    tensors: &mut HashMap<String, Tensor>,
    name: &str,
    images: usize,
    number: impl Fn(u32) -> Option<u32>,
) -> Result<()> {
    let Some(variable) = tensors.get(&format!("{OBJECTIVE}.{name}")) else {
        return Ok(());
    };
    let (dims, part) = (variable.dims().to_vec(), format!(".{name}."));
    for (key, tensor) in tensors.iter_mut() {
        // A variable's own counter of steps has another shape, and stays.
        if !key.contains(&part) || tensor.dims() != dims {
            continue;
        }
        let width: usize = dims[1..].iter().product();
        let old = tensor.to_dtype(DType::F32)?.flatten_all()?;
        let old = old.to_vec1::<f32>()?;
        let mut new = vec![0f32; images * width];
        for (before, values) in (0u32..).zip(old.chunks_exact(width.max(1))) {
            let now = number(before).map(|now| now as usize);
            if let Some(now) = now.filter(|now| *now < images) {
                new[now * width..][..width].copy_from_slice(values);
            }
        }
        let mut shape = dims.clone();
        shape[0] = images;
        *tensor = Tensor::from_vec(new, shape, &Device::Cpu)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_go_with_their_images_and_counters_stay() {
        let rows = |count: usize| {
            let values = Tensor::arange(1f32, 1. + 2. * count as f32, &Device::Cpu).unwrap();
            values.reshape((count, 2)).unwrap()
        };
        let counter = Tensor::new(&[7i64], &Device::Cpu).unwrap();
        let mut tensors: HashMap<_, _> = [
            ("objective.head.w", rows(3)),
            ("adamw.head.w.exp_avg", rows(3)),
            ("adamw_constant.head.w.exp_avg_sq", rows(3)),
            ("adamw.head.w.step", counter),
            ("adamw.head.v.exp_avg", rows(3)),
        ]
        .into_iter()
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .collect();
        // 1 is gone, 0 and 2 change places, 3 is new.
        let number = |image: u32| (image != 1).then_some(2 - image);
        renumber_rows(&mut tensors, "head.w", 4, number).unwrap();
        let values = |name: &str| tensors[name].to_vec2::<f32>().unwrap();
        let expected = [[5., 6.], [0., 0.], [1., 2.], [0., 0.]];
        for moved in ["adamw.head.w.exp_avg", "adamw_constant.head.w.exp_avg_sq"] {
            assert_eq!(values(moved), expected);
        }
        // The base brings its own variables into line by itself.
        for kept in ["objective.head.w", "adamw.head.v.exp_avg"] {
            assert_eq!(values(kept), rows(3).to_vec2::<f32>().unwrap());
        }
        assert_eq!(tensors["adamw.head.w.step"].dims(), [1]);
        renumber_rows(&mut tensors, "head.other", 4, number).unwrap();
    }
}
