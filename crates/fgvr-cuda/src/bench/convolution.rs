//! Convolutions of a ResNet-50: the stem, and a bottleneck of the second stage.

use super::{Arithmetic, Case, Scale};
use crate::{Array, Convolution, DType, Machine, Pass, Real};

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let shape = |[side, c_in, c_out, kernel]: [usize; 4]| Convolution {
        n: scale.size(256, 1),
        h: side,
        w: side,
        c_in,
        c_out,
        kernel,
        stride: 1,
        padding: kernel / 2,
        dilation: 1,
        groups: 1,
        real: Real::Bf16,
    };
    let stem = Convolution {
        stride: 2,
        ..shape([scale.size(224, 16), 3, scale.size(64, 8), 7])
    };
    let side = scale.size(28, 5);
    let (wide, narrow) = (scale.size(512, 16), scale.size(128, 8));
    let squeeze = shape([side, wide, narrow, 1]);
    let middle = shape([side, narrow, narrow, 3]);
    let expand = shape([side, narrow, wide, 1]);
    let single = Convolution {
        real: Real::F32,
        ..middle
    };
    let all = [Pass::Forward, Pass::GradInput, Pass::GradWeight];
    // No gradient goes to images.
    let layers: [(_, _, &[Pass]); 5] = [
        ("stem 7x7", stem, &[Pass::Forward, Pass::GradWeight]),
        ("block 1x1 in", squeeze, &all),
        ("block 3x3", middle, &all),
        ("block 1x1 out", expand, &all),
        ("block 3x3 f32", single, &all),
    ];
    let of = |(name, shape, passes): &(&str, Convolution, &[Pass])| {
        let (name, shape) = ((*name).to_owned(), *shape);
        let passes = passes.iter().map(move |pass| case(&name, shape, *pass));
        passes.collect::<Vec<_>>()
    };
    layers.iter().flat_map(of).collect()
}

fn case(name: &str, shape: Convolution, pass: Pass) -> Case {
    let (what, made) = match pass {
        Pass::Forward => ("forward", 2),
        Pass::GradInput => ("grad input", 0),
        Pass::GradWeight => ("grad weight", 1),
    };
    let lens = [shape.input_len(), shape.weight_len(), shape.output_len()];
    let dtype = DType::from(shape.real);
    let taps = shape.kernel * shape.kernel * (shape.c_in / shape.groups);
    let work = (
        dtype.bytes() * lens.iter().sum::<usize>(),
        2 * shape.output_len() * taps,
    );
    Case::new(&format!("conv: {name}, {what}"), work, move |inputs| {
        let mut given = Vec::new();
        for (_, len) in lens.iter().enumerate().filter(|(at, _)| *at != made) {
            given.push(inputs.reals(shape.real, *len)?);
        }
        Ok(move |machine: &dyn Machine| {
            let out = Array::new(machine, dtype, lens[made])?;
            let mut operands: Vec<&Array> = given.iter().collect();
            operands.insert(made, &out);
            machine.convolve(&shape, pass, [operands[0], operands[1], operands[2]])
        })
    })
    .on(Arithmetic::Product(shape.real))
}
