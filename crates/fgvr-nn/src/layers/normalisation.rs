//! What batch norm computes, given its statistics: shared by the tape and candle's autograd.

use crate::kernels::norm::{self, Affine, Mask, Moments};

/// One application of batch norm: what each group of rows is shifted and scaled by.
#[derive(Clone, Debug)]
pub(super) struct Normalisation {
    groups: Vec<Group>,
    /// Whether the statistics are those of the input itself, and so have gradients.
    of_batch: bool,
    channels: usize,
}

#[derive(Clone, Debug)]
struct Group {
    affine: Affine,
    inverse_std: Vec<f64>,
    scale: Vec<f64>,
}

/// Gradients of weight and bias.
pub(super) struct ParameterGradients {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Normalisation {
    /// From the statistics of each group, and the weight and bias (C).
    pub(super) fn new(
        groups: &[Moments],
        of_batch: bool,
        eps: f64,
        weight: &[f32],
        bias: &[f32],
    ) -> Self {
        let group = |moments: &Moments| {
            let inverse_std: Vec<f64> = moments
                .variance
                .iter()
                .map(|v| 1. / (v + eps).sqrt())
                .collect();
            let scale: Vec<f64> = inverse_std
                .iter()
                .zip(weight)
                .map(|(i, w)| i * f64::from(*w))
                .collect();
            let affine = Affine::new(&moments.mean, &scale, bias);
            Group {
                affine,
                inverse_std,
                scale,
            }
        };
        Self {
            groups: groups.iter().map(group).collect(),
            of_batch,
            channels: weight.len(),
        }
    }

    /// y = norm(x) (+ residual) (then ReLU).
    pub(super) fn forward(&self, x: &[f32], residual: Option<&[f32]>, relu: bool, y: &mut [f32]) {
        for (i, group) in self.groups.iter().enumerate() {
            let range = self.range(i, x.len());
            let residual = residual.map(|r| &r[range.clone()]);
            norm::apply(
                &x[range.clone()],
                &group.affine,
                residual,
                relu,
                &mut y[range],
            );
        }
    }

    /// Turns `dy` into the gradient of x, in place. With `dx`, that goes there instead, and `dy`
    /// becomes the gradient of the residual. [`Mask::Output`] takes the whole output.
    pub(super) fn backward(
        &self,
        dy: &mut [f32],
        x: &[f32],
        mask: Mask<'_>,
        mut dx: Option<&mut [f32]>,
    ) -> ParameterGradients {
        let (mut weight, mut bias) = (vec![0f64; self.channels], vec![0f64; self.channels]);
        for (i, group) in self.groups.iter().enumerate() {
            let range = self.range(i, x.len());
            let (dy, x) = (&mut dy[range.clone()], &x[range.clone()]);
            let mask = match mask {
                Mask::Output(y) => Mask::Output(&y[range.clone()]),
                mask => mask,
            };
            let sums = norm::grad_sums(dy, x, &group.affine, mask);
            let count = (x.len() / self.channels) as f64;
            let of_batch = if self.of_batch { 1. / count } else { 0. };
            // With x^ = (x - mean) / std:
            // dx = scale (g - mean(g) - x^ mean(g x^)), the means left out for constant statistics
            let g_mean: Vec<f64> = sums.sum.iter().map(|s| s * of_batch).collect();
            let slope: Vec<f64> = (group
                .scale
                .iter()
                .zip(&group.inverse_std)
                .zip(&sums.product))
            .map(|((scale, inverse), product)| scale * inverse * inverse * product * of_batch)
            .collect();
            for (c, (product, sum)) in sums.product.iter().zip(&sums.sum).enumerate() {
                weight[c] += product * group.inverse_std[c];
                bias[c] += sum;
            }
            let recompute = matches!(mask, Mask::Recompute);
            let dx = dx.as_mut().map(|dx| &mut dx[range]);
            norm::grad_input(dy, x, &group.affine, &g_mean, &slope, recompute, dx);
        }
        let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
        ParameterGradients {
            weight: narrow(weight),
            bias: narrow(bias),
        }
    }

    /// Values of group `i` in a slice of `len`.
    fn range(&self, i: usize, len: usize) -> std::ops::Range<usize> {
        let each = len / self.groups.len();
        i * each..(i + 1) * each
    }
}
