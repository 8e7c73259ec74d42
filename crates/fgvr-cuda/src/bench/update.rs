//! Optimisers and the momentum update over the parameters of a ResNet-50, tensor by tensor of its sizes.

use super::{Case, Inputs, Scale, f32s};
use crate::ops::average::{Averages, Pair};
use crate::ops::finite::all_finite;
use crate::ops::optimizer::{Adam, Lars, Parameter, Parameters, Sgd};
use crate::{Machine, Real, Result};

/// So small that values stay near what they were, however often a case runs.
const RATE: f64 = 1e-7;

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let sizes = move || -> Vec<usize> {
        let of = |size: usize| scale.size(size, size.div_ceil(5000));
        resnet50().into_iter().map(of).collect()
    };
    let len: usize = sizes().iter().sum();
    let sgd = Sgd {
        lr: RATE,
        momentum: 0.9,
        weight_decay: 1e-4,
    };
    let lars = Lars {
        lr: RATE,
        trust: 1e-3,
        momentum: 0.9,
        weight_decay: 1e-4,
    };
    let adam = Adam {
        lr: RATE,
        betas: [0.9, 0.999],
        eps: 1e-8,
        weight_decay: 0.05,
        steps: 10,
    };
    vec![
        Case::new("update: SGD", (f32s(5 * len), 6 * len), move |inputs| {
            let parameters = parameters(inputs, &sizes(), 1)?;
            Ok(move |machine: &dyn Machine| parameters.sgd(machine, sgd, None))
        }),
        Case::new("update: LARS", (f32s(5 * len), 13 * len), move |inputs| {
            let parameters = parameters(inputs, &sizes(), 1)?;
            Ok(move |machine: &dyn Machine| parameters.lars(machine, lars, None))
        }),
        Case::new("update: AdamW", (f32s(7 * len), 14 * len), move |inputs| {
            let parameters = parameters(inputs, &sizes(), 2)?;
            Ok(move |machine: &dyn Machine| parameters.adam(machine, adam, None))
        }),
        Case::new(
            "update: gradient norm",
            (f32s(len), 2 * len),
            move |inputs| {
                let parameters = parameters(inputs, &sizes(), 1)?;
                Ok(move |machine: &dyn Machine| {
                    parameters.gradient_norm(machine, Some(1.)).map(drop)
                })
            },
        ),
        Case::new(
            "update: moving average",
            (f32s(3 * len), 3 * len),
            move |inputs| {
                let pairs: Result<Vec<_>> =
                    sizes().iter().map(|size| pair(inputs, *size)).collect();
                let averages = Averages::new(inputs.machine(), &pairs?)?;
                Ok(move |machine: &dyn Machine| averages.update(machine, 0.999))
            },
        ),
        // One array of as many values: more of them take more launches.
        Case::new("update: all finite", (f32s(len), 0), move |inputs| {
            let values = inputs.reals(Real::F32, len)?;
            Ok(move |machine: &dyn Machine| all_finite(machine, &[&values]).map(drop))
        }),
    ]
}

fn parameters(inputs: &mut Inputs<'_>, sizes: &[usize], moments: usize) -> Result<Parameters> {
    let mut all = Vec::new();
    for size in sizes {
        // Means of squares are none below 0; for a velocity the sign does not matter.
        let moments = (0..moments).map(|_| inputs.positive(*size));
        all.push(Parameter {
            moments: moments.collect::<Result<_>>()?,
            value: inputs.own(Real::F32, *size)?,
            gradient: inputs.own(Real::F32, *size)?,
            decays: true,
            adapts: true,
        });
    }
    Parameters::new(inputs.machine(), &all)
}

fn pair(inputs: &mut Inputs<'_>, size: usize) -> Result<Pair> {
    Ok(Pair {
        target: inputs.own(Real::F32, size)?,
        online: inputs.own(Real::F32, size)?,
        copied: false,
    })
}

/// The lengths of its tensors: convolutions, weight and bias of each norm, the classifier.
fn resnet50() -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut layer = |c_in: usize, c_out: usize, kernel: usize| {
        sizes.extend([c_out * c_in * kernel * kernel, c_out, c_out]);
    };
    layer(3, 64, 7);
    let mut c_in = 64;
    for (blocks, width) in [(3, 64), (4, 128), (6, 256), (3, 512)] {
        for block in 0..blocks {
            layer(c_in, width, 1);
            layer(width, width, 3);
            layer(width, 4 * width, 1);
            if block == 0 {
                layer(c_in, 4 * width, 1);
            }
            c_in = 4 * width;
        }
    }
    sizes.extend([2048 * 1000, 1000]);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tensors_are_those_of_a_resnet_50() {
        let sizes = resnet50();
        assert_eq!(sizes.len(), 161);
        assert_eq!(sizes.iter().sum::<usize>(), 25_557_032);
    }
}
