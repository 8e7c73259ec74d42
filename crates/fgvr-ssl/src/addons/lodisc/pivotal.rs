//! Pivotal patches: which cells of a map matter most, and images in which all others are masked.

use std::cmp::Ordering;

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::step::shuffle::Shuffle;

/// ⌊`fraction` · `cells`⌋: how many cells are kept.
///
/// # Errors
/// A map of a single cell, and a fraction that keeps none or all.
pub fn pivotal_count(fraction: f64, cells: usize) -> Result<usize> {
    if cells < 2 {
        bail!(
            "lodisc: the map has {cells} cell, expected 2 or more; use larger images or smaller patches"
        );
    }
    let kept = (fraction * cells as f64).floor();
    if !(kept >= 1. && kept < cells as f64) {
        bail!(
            "lodisc: fraction is {fraction}, which keeps {kept} of {cells} cells; expected 1 to {}",
            cells - 1
        );
    }
    Ok(kept as usize)
}

/// Σ_l ln A_l for each patch, in f64, from the class token's attention A_l of each layer, (N, h, w) each:
/// it ranks the patches as the product of all layers does, and cannot underflow.
///
/// # Errors
/// No layer, and layers of different shapes.
pub fn attention_product(layers: &[Tensor]) -> Result<Tensor> {
    let Some((first, rest)) = layers.split_first() else {
        bail!("attention product: no layer");
    };
    let (_, _, _) = first.dims3()?;
    let logarithm = |layer: &Tensor| layer.detach().to_dtype(DType::F64)?.log();
    let mut sum = logarithm(first)?;
    for layer in rest {
        sum = (sum + logarithm(layer)?)?;
    }
    Ok(sum)
}

/// 1 at the ⌊`fraction` · h·w⌋ cells of each image with the highest of `scores` (N, h, w), 0 elsewhere.
/// Where scores are equal, the earlier cell in rows counts as higher, so that the number never differs.
///
/// # Errors
/// As [`pivotal_count`].
pub fn pivotal_mask(scores: &Tensor, fraction: f64) -> Result<Tensor> {
    let (n, h, w) = scores.dims3()?;
    let kept = pivotal_count(fraction, h * w)?;
    let scores = scores.detach().to_dtype(DType::F64)?.flatten_from(1)?; // (N, h, w) -> (N, h*w)
    let chosen = scores.to_vec2::<f64>()?.into_iter().map(|scores| {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // Stable. NaN counts as lowest: a loss made with it is refused elsewhere.
        order.sort_by(|a, b| descending(scores[*a], scores[*b]));
        order.truncate(kept);
        order
    });
    mask_of(chosen, (n, h, w))
}

/// As many cells of each image as [`pivotal_mask`] keeps, drawn from `key` and the image alone.
///
/// # Errors
/// As [`pivotal_count`].
pub fn random_mask(
    images: &[u32],
    (h, w): (usize, usize),
    fraction: f64,
    [seed, step, draw]: [u64; 3],
) -> Result<Tensor> {
    let kept = pivotal_count(fraction, h * w)?;
    let mut chosen = Vec::with_capacity(images.len());
    for image in images {
        let order = Shuffle::new(h * w, [seed, step, draw, u64::from(*image)])?;
        let order = order.order()[..kept].iter().map(|cell| *cell as usize);
        chosen.push(order.collect());
    }
    mask_of(chosen.into_iter(), (images.len(), h, w))
}

/// `images` (N, 3, H, W) with 0 in the pixels of the cells where `mask` (N, h, w) is 0; the others keep
/// their bits. A cell is a block of H/h by W/w pixels.
///
/// # Errors
/// Cells that do not divide the image, and another number of images.
pub fn masked(images: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let ((n, channels, height, width), (rows, h, w)) = (images.dims4()?, mask.dims3()?);
    if n != rows {
        bail!("lodisc: {rows} masks, expected {n}, one an image");
    }
    if h * w == 0 || !height.is_multiple_of(h) || !width.is_multiple_of(w) {
        bail!(
            "lodisc: images of {height} x {width}, expected multiples of the map's sides {h} x {w}"
        );
    }
    // (N, h, w) -> (N, 1, h, 1, w, 1) -> (N, C, h, H/h, w, W/w) -> (N, C, H, W)
    let pixels = mask
        .ne(0f32)?
        .reshape(vec![n, 1, h, 1, w, 1])?
        .broadcast_as(vec![n, channels, h, height / h, w, width / w])?
        .contiguous()?
        .reshape((n, channels, height, width))?;
    pixels.where_cond(&images.contiguous()?, &images.zeros_like()?)
}

/// The share of `weights` (N, h, w), all of at least 0, that lies where `mask` is 1: mean over the images
/// that have any weight, `None` where there is none.
pub(crate) fn share_within(weights: &Tensor, mask: &Tensor) -> Result<Option<f64>> {
    let sums = |t: Tensor| {
        let sums = t.to_dtype(DType::F64)?.flatten_from(1)?.sum(1)?;
        sums.to_vec1::<f64>()
    };
    let weights = weights.detach().to_dtype(mask.dtype())?;
    let (all, within) = (sums(weights.clone())?, sums((weights * mask)?)?);
    let pairs = all.iter().zip(&within).filter(|(all, _)| **all > 0.);
    let shares: Vec<f64> = pairs.map(|(all, within)| within / all).collect();
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    Ok((!shares.is_empty()).then_some(mean))
}

/// The order from highest to lowest, NaN last.
fn descending(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    }
}

/// 1 at the chosen cells of each image.
fn mask_of(
    chosen: impl Iterator<Item = Vec<usize>>,
    (n, h, w): (usize, usize, usize),
) -> Result<Tensor> {
    let mut values = vec![0f32; n * h * w];
    for (image, cells) in values.chunks_mut(h * w).zip(chosen) {
        cells.into_iter().for_each(|cell| image[cell] = 1.);
    }
    Tensor::from_vec(values, (n, h, w), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fgvr_testkit::{normal, uniform};

    fn flat(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn exactly_the_floor_is_kept_whatever_the_ties() {
        assert_eq!(pivotal_count(0.3, 196).unwrap(), 58);
        let scores = normal(1, (3, 14, 14));
        let tied = (&scores * 2.).unwrap().round().unwrap();
        let equal = scores.zeros_like().unwrap();
        let never = (equal.clone() - f64::INFINITY).unwrap();
        for scores in [&scores, &tied, &equal, &never] {
            let mask = pivotal_mask(scores, 0.3).unwrap();
            let counts = mask.sum((1, 2)).unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(counts, [58.; 3]);
        }
        let first = flat(&pivotal_mask(&equal, 0.3).unwrap());
        assert!(first[..58].iter().all(|kept| *kept == 1.));
    }

    #[test]
    fn what_is_kept_lies_strictly_above_the_value_at_the_threshold_index() {
        let scores = normal(2, (2, 5, 6));
        let mask = pivotal_mask(&scores, 0.3).unwrap();
        for image in 0..2 {
            let (scores, mask) = (
                flat(&scores.get(image).unwrap()),
                flat(&mask.get(image).unwrap()),
            );
            let mut sorted = scores.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            for (score, kept) in scores.iter().zip(mask) {
                assert_eq!(*score > sorted[9], kept == 1.);
            }
        }
    }

    #[test]
    fn the_sum_of_logarithms_ranks_as_the_product_in_f64() {
        let layers: Vec<Tensor> = (0..12)
            .map(|layer| uniform(layer, (2, 7, 7), 1e-4, 0.1))
            .collect();
        let mut product = layers[0].to_dtype(DType::F64).unwrap();
        for layer in &layers[1..] {
            // The released code's factor of 1000 a layer.
            let layer = (layer.to_dtype(DType::F64).unwrap() * 1000.).unwrap();
            product = (product * layer).unwrap();
        }
        let sum = attention_product(&layers).unwrap();
        for fraction in [0.1, 0.3, 0.77] {
            let [a, b] = [&sum, &product].map(|s| flat(&pivotal_mask(s, fraction).unwrap()));
            assert_eq!(a, b);
        }
        assert!(attention_product(&[]).is_err());
    }

    #[test]
    fn an_attention_that_is_all_at_one_patch_picks_it() {
        let mut values = vec![0f32; 16];
        values[6] = 1.;
        let one = Tensor::from_vec(values.clone(), (1, 4, 4), &Device::Cpu).unwrap();
        let scores = attention_product(&[one.clone(), one]).unwrap();
        assert_eq!(flat(&pivotal_mask(&scores, 0.1).unwrap()), values);
    }

    #[test]
    fn masked_pixels_are_zero_and_the_others_keep_their_bits() {
        let images = (normal(3, (2, 3, 8, 12)) * 1e-3).unwrap();
        let mask = pivotal_mask(&normal(4, (2, 4, 3)), 0.3).unwrap();
        let found = masked(&images, &mask).unwrap();
        let (images, found, mask) = (flat(&images), flat(&found), flat(&mask));
        for (i, (image, found)) in images.iter().zip(&found).enumerate() {
            let (n, row, column) = (i / (3 * 96), (i / 12) % 8, i % 12);
            let kept = mask[n * 12 + (row / 2) * 3 + column / 4] == 1.;
            let expected = if kept { image.to_bits() } else { 0 };
            assert_eq!(found.to_bits(), expected);
        }
    }

    #[test]
    fn random_masks_have_the_same_size_and_are_keyed_by_seed_step_view_and_image() {
        let of = |images: &[u32], key| flat(&random_mask(images, (6, 6), 0.3, key).unwrap());
        let both = of(&[4, 9], [1, 2, 3]);
        assert_eq!(both[..36].iter().sum::<f32>(), 10.);
        assert_eq!(both[36..], of(&[9], [1, 2, 3]));
        assert_ne!(both[..36], both[36..]);
        for key in [[2, 2, 3], [1, 3, 3], [1, 2, 4]] {
            assert_ne!(both, of(&[4, 9], key));
        }
    }

    #[test]
    fn weight_within_a_mask_is_a_mean_over_images_that_have_any() {
        let weights = Tensor::new(&[[[1f32, 3.]], [[0., 0.]]], &Device::Cpu).unwrap();
        let mask = Tensor::new(&[[[0f32, 1.]], [[1., 0.]]], &Device::Cpu).unwrap();
        assert_eq!(share_within(&weights, &mask).unwrap(), Some(0.75));
        let none = weights.zeros_like().unwrap();
        assert_eq!(share_within(&none, &mask).unwrap(), None);
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let message = |result: Result<usize>| result.unwrap_err().to_string();
        assert!(message(pivotal_count(0.3, 1)).contains("the map has 1 cell"));
        assert!(message(pivotal_count(0.3, 3)).contains("keeps 0 of 3 cells"));
        assert!(message(pivotal_count(1., 4)).contains("keeps 4 of 4 cells"));
        assert!(message(pivotal_count(f64::NAN, 4)).contains("fraction is NaN"));
        let images = normal(5, (1, 3, 8, 8));
        let error = masked(&images, &normal(6, (1, 3, 3))).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("multiples of the map's sides 3 x 3")
        );
        let error = masked(&images, &normal(6, (2, 2, 2))).unwrap_err();
        assert!(error.to_string().contains("2 masks, expected 1"));
    }
}
