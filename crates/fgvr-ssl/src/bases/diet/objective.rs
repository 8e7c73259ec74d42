//! DIET's loss: cross entropy with label smoothing over as many classes as there are images.

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::InfoNce;

/// Cross entropy with label smoothing ε of `logits` z (N, M) and the class y of each row, mean over rows:
///
/// L = log Σ_m exp(z_m) - (1 - ε) z_y - ε/M Σ_m z_m
///
/// which is -Σ_m t_m log softmax(z)_m with the target t = (1 - ε) δ_y + ε/M, as in PyTorch's
/// `cross_entropy(label_smoothing=ε)`. A scalar, on candle's autograd.
///
/// # Errors
/// Another number of classes than rows, and a class of M or more.
pub fn smoothed_cross_entropy(logits: &Tensor, classes: &[u32], smoothing: f64) -> Result<Tensor> {
    let (n, m) = logits.dims2()?;
    if classes.len() != n {
        bail!(
            "diet: {} image indices, expected {n}, one a row",
            classes.len()
        );
    }
    if let Some(class) = classes.iter().find(|class| **class as usize >= m) {
        bail!("diet: image {class} has no class, expected less than the {m} images of the set");
    }
    let own = Tensor::from_slice(classes, (n, 1), logits.device())?;
    let own = logits.gather(&own, 1)?; // (N, M) -> (N, 1)
    let highest = logits.max_keepdim(1)?.detach();
    let sums = logits.broadcast_sub(&highest)?.exp()?.sum_keepdim(1)?;
    let log_sum = (sums.log()? + highest)?;
    let spread = (logits.mean_keepdim(1)? * smoothing)?;
    ((log_sum - (own * (1. - smoothing))?)? - spread)?.mean_all()
}

/// [`smoothed_cross_entropy`] of `similarity` (N, M) over `temperature`, and how well each row finds its class.
pub(super) fn classified(
    similarity: &Tensor,
    classes: &[u32],
    smoothing: f64,
    temperature: f64,
) -> Result<InfoNce> {
    let loss = smoothed_cross_entropy(&(similarity / temperature)?, classes, smoothing)?;
    let (n, m) = similarity.dims2()?;
    let values = similarity.detach().to_dtype(DType::F32)?;
    let values = values.to_device(&Device::Cpu)?.flatten_all()?;
    let values = values.to_vec1::<f32>()?;
    let (mut hits, mut own_sum, mut others_sum) = (0usize, 0f64, 0f64);
    for (row, class) in values.chunks_exact(m).zip(classes) {
        let class = *class as usize;
        let others = row.iter().enumerate().filter(|(at, _)| *at != class);
        let (mut highest, mut sum) = (f32::NEG_INFINITY, 0f64);
        for (_, value) in others {
            highest = highest.max(*value);
            sum += f64::from(*value);
        }
        // A tie is a miss, so that features that say nothing score 0.
        hits += usize::from(row[class] > highest);
        own_sum += f64::from(row[class]);
        others_sum += sum;
    }
    let rows = n.max(1) as f64;
    Ok(InfoNce {
        loss,
        top1: hits as f64 / rows,
        positive: own_sum / rows,
        negative: (m > 1).then(|| others_sum / (rows * (m - 1) as f64)),
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use fgvr_testkit::normal;

    use super::*;

    #[test]
    fn the_loss_is_the_sum_over_targets_and_logarithms_written_out() {
        let logits = (normal(1, (3, 5)) * 3.).unwrap();
        let rows = logits.to_vec2::<f32>().unwrap();
        for smoothing in [0., 0.3, 0.8] {
            let found = smoothed_cross_entropy(&logits, &[4, 0, 2], smoothing).unwrap();
            let mut expected = 0.;
            for (row, class) in rows.iter().zip([4, 0, 2]) {
                let sum: f64 = row.iter().map(|z| f64::from(*z).exp()).sum();
                for (m, z) in row.iter().enumerate() {
                    let target = smoothing / 5. + if m == class { 1. - smoothing } else { 0. };
                    expected -= target * (f64::from(*z) - sum.ln()) / 3.;
                }
            }
            let found = f64::from(found.to_scalar::<f32>().unwrap());
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn large_logits_do_not_overflow_and_equal_ones_are_no_hit() {
        let large = Tensor::new(&[[1e4f32, 0.], [0., -1e4]], &Device::Cpu).unwrap();
        let found = classified(&large, &[0, 1], 0., 1.).unwrap();
        assert_eq!(found.loss.to_scalar::<f32>().unwrap(), 5e3);
        assert_eq!((found.top1, found.positive), (0.5, 0.));
        assert_eq!(found.negative, Some(0.));
        let equal = Var::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let found = classified(&equal, &[0, 1], 0.8, 0.1).unwrap();
        assert_eq!(found.top1, 0.);
        let loss = found.loss.to_scalar::<f32>().unwrap();
        assert!((loss - 3f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn classes_that_are_not_there_are_named() {
        let logits = normal(2, (2, 3));
        let error = |classes: &[u32]| {
            let error = smoothed_cross_entropy(&logits, classes, 0.8).unwrap_err();
            error.to_string()
        };
        assert!(error(&[0]).contains("1 image indices, expected 2"));
        let text = error(&[0, 3]);
        assert!(text.contains("image 3 has no class") && text.contains("the 3 images"));
    }
}
