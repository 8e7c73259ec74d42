//! What batch norm computes, given its statistics: shared by the tape and candle's autograd.

use std::ops::Range;

use candle_core::{Result, bail};

use crate::kernels::activation::ActivationFunction;
use crate::kernels::norm::{self, Affine, GradSums, Moments, Slope};

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

/// How what follows the norm masks the gradient.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mask<'a> {
    /// By an activation of the norm's output, which is recomputed from its input: no residual was added.
    Recompute(ActivationFunction),
    /// By the output of a ReLU after a residual; the gradient is masked in place.
    Output(&'a [f32]),
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

    /// y = norm(x) (+ residual), then the activation.
    pub(super) fn forward(
        &self,
        x: &[f32],
        residual: Option<&[f32]>,
        activation: ActivationFunction,
        y: &mut [f32],
    ) {
        for (i, group) in self.groups.iter().enumerate() {
            let range = self.range(i, x.len());
            let residual = residual.map(|r| &r[range.clone()]);
            norm::apply(
                &x[range.clone()],
                &group.affine,
                residual,
                activation,
                &mut y[range],
            );
        }
    }

    /// y = relu(norm(x) + other(r)).
    ///
    /// # Errors
    /// Norms over different groups of images.
    pub(super) fn forward_two_relu(
        &self,
        x: &[f32],
        other: &Self,
        r: &[f32],
        y: &mut [f32],
    ) -> Result<()> {
        let groups = self.groups.len();
        if groups != other.groups.len() {
            bail!(
                "add_relu: norms over {groups} and {} groups of images",
                other.groups.len()
            );
        }
        for (i, (group, of_r)) in self.groups.iter().zip(&other.groups).enumerate() {
            let range = self.range(i, x.len());
            let (x, r) = (&x[range.clone()], &r[range.clone()]);
            norm::apply_two_relu(x, &group.affine, r, &of_r.affine, &mut y[range]);
        }
        Ok(())
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
        let mut sums = Vec::with_capacity(self.groups.len());
        for (i, group) in self.groups.iter().enumerate() {
            let range = self.range(i, x.len());
            let (dy, x) = (&mut dy[range.clone()], &x[range.clone()]);
            // What is masked already needs no mask.
            let activation = match mask {
                Mask::Recompute(activation) => activation,
                Mask::Output(_) => ActivationFunction::Identity,
            };
            sums.push(match mask {
                Mask::Output(y) => norm::grad_sums_masking(dy, x, &group.affine, &y[range.clone()]),
                Mask::Recompute(_) => norm::grad_sums(dy, x, &group.affine, activation),
            });
            let slope = self.slope(i, &sums[i], x.len() / self.channels);
            match &mut dx {
                None => norm::grad_input(dy, x, &group.affine, &slope, activation),
                Some(dx) => {
                    let dx = &mut dx[range];
                    norm::grad_input_into(dy, x, &group.affine, &slope, activation, dx);
                }
            }
        }
        self.parameter_gradients(&sums)
    }

    /// How many groups of images have statistics of their own.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// What is done to the channels of group `i`.
    pub(super) fn affine(&self, i: usize) -> &Affine {
        &self.groups[i].affine
    }

    /// What turns the gradient of group `i`, of `count` values per channel, into that of x.
    pub(super) fn slope(&self, i: usize, sums: &GradSums, count: usize) -> Slope {
        let group = &self.groups[i];
        let of_batch = if self.of_batch { 1. / count as f64 } else { 0. };
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
        Slope::new(&group.affine, &g_mean, &slope)
    }

    /// The gradients of weight and bias, from the sums of each group.
    pub(super) fn parameter_gradients(&self, sums: &[GradSums]) -> ParameterGradients {
        let (mut weight, mut bias) = (vec![0f64; self.channels], vec![0f64; self.channels]);
        for (group, sums) in self.groups.iter().zip(sums) {
            for (c, (product, sum)) in sums.product.iter().zip(&sums.sum).enumerate() {
                weight[c] += product * group.inverse_std[c];
                bias[c] += sum;
            }
        }
        let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
        ParameterGradients {
            weight: narrow(weight),
            bias: narrow(bias),
        }
    }

    /// `f` of each group that `range`, of `len` values in all, has a part in: the group, the part,
    /// and the part relative to the range's start.
    pub(super) fn each_part(
        &self,
        range: &Range<usize>,
        len: usize,
        mut f: impl FnMut(usize, Range<usize>, Range<usize>),
    ) {
        for i in 0..self.groups.len() {
            let group = self.range(i, len);
            let (start, end) = (group.start.max(range.start), group.end.min(range.end));
            if start < end {
                f(i, start..end, start - range.start..end - range.start);
            }
        }
    }

    /// Values of group `i` in a slice of `len`.
    pub(super) fn range(&self, i: usize, len: usize) -> Range<usize> {
        let each = len / self.groups.len();
        i * each..(i + 1) * each
    }
}
