//! The convolutions of the networks that are timed, each shape once.

use anyhow::{Context, Result, bail};
use fgvr_encoder::Architecture;
use fgvr_nn::kernels::conv::ConvShape;

use crate::case::Size;

/// Networks whose convolutions are timed one by one.
pub(crate) const NETWORKS: [Size; 4] = [
    Size {
        network: Architecture::ResNet18,
        side: 64,
        batch: 64,
    },
    Size {
        network: Architecture::ResNet18,
        side: 112,
        batch: 32,
    },
    Size {
        network: Architecture::ResNet50,
        side: 224,
        batch: 16,
    },
    Size {
        network: Architecture::TfEfficientNetLite0,
        side: 160,
        batch: 32,
    },
];

/// Stages of EfficientNet-Lite0: expansion, kernel, stride, channels, blocks.
const LITE0: [[usize; 5]; 7] = [
    [1, 3, 1, 16, 1],
    [6, 3, 2, 24, 2],
    [6, 5, 2, 40, 2],
    [6, 3, 2, 80, 3],
    [6, 5, 1, 112, 3],
    [6, 5, 2, 192, 4],
    [6, 3, 1, 320, 1],
];

/// The different convolutions of a network, in order: of a residual network with the ImageNet stem, or of
/// EfficientNet-Lite0, those with as many zeros on each side.
pub(crate) fn convolutions(size: Size) -> Result<Vec<ConvShape>> {
    let (bottleneck, blocks) = match size.network {
        Architecture::ResNet18 => (false, [2, 2, 2, 2]),
        Architecture::ResNet50 => (true, [3, 4, 6, 3]),
        Architecture::TfEfficientNetLite0 => return Ok(of_lite0(size)),
        other => bail!(
            "no list of convolutions for {other}; there are resnet18, resnet50 and \
             tf_efficientnet_lite0"
        ),
    };
    let mut found: Vec<ConvShape> = Vec::new();
    let mut add = |side: usize, c_in: usize, c_out: usize, kernel: usize, stride: usize| {
        let shape = ConvShape {
            n: size.batch,
            h: side,
            w: side,
            c_in,
            c_out,
            kernel,
            stride,
            padding: (kernel / 2).into(),
            dilation: 1,
            groups: 1,
        };
        if !found.contains(&shape) {
            found.push(shape);
        }
        shape.out_h()
    };
    // Stride 2 twice: the stem's convolution and its pooling.
    let mut side = add(size.side, 3, 64, 7, 2).div_ceil(2);
    let mut channels = 64;
    for (stage, blocks) in blocks.into_iter().enumerate() {
        let width = 64 << stage;
        let wide = if bottleneck { 4 * width } else { width };
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let next = if bottleneck {
                add(side, channels, width, 1, 1);
                let next = add(side, width, width, 3, stride);
                add(next, width, wide, 1, 1);
                next
            } else {
                let next = add(side, channels, width, 3, stride);
                add(next, width, width, 3, 1);
                next
            };
            if channels != wide {
                add(side, channels, wide, 1, stride);
            }
            (side, channels) = (next, wide);
        }
    }
    Ok(found)
}

fn of_lite0(size: Size) -> Vec<ConvShape> {
    let mut found: Vec<ConvShape> = Vec::new();
    let mut add = |side, [c_in, c_out]: [usize; 2], [kernel, stride]: [usize; 2], groups| {
        let shape = ConvShape {
            n: size.batch,
            h: side,
            w: side,
            c_in,
            c_out,
            kernel,
            stride,
            padding: (kernel / 2).into(),
            dilation: 1,
            groups,
        };
        if !found.contains(&shape) {
            found.push(shape);
        }
        shape.out_h()
    };
    let mut side = add(size.side, [3, 32], [3, 2], 1);
    let mut channels = 32;
    for [expansion, kernel, stride, out, blocks] in LITE0 {
        for block in 0..blocks {
            let wide = channels * expansion;
            if expansion > 1 {
                add(side, [channels, wide], [1, 1], 1);
            }
            let stride = if block == 0 { stride } else { 1 };
            side = add(side, [wide, wide], [kernel, stride], wide);
            add(side, [wide, out], [1, 1], 1);
            channels = out;
        }
    }
    add(side, [channels, 1280], [1, 1], 1);
    found
}

/// `n16-h56-i64-o256-k1-s1-p0`: images, side, channels in and out, kernel, stride, padding; `-g96` at the end
/// says how many groups, where there are several.
pub(crate) fn name(shape: &ConvShape) -> String {
    let ConvShape {
        n,
        h,
        c_in,
        c_out,
        kernel,
        stride,
        padding,
        groups,
        ..
    } = shape;
    let padding = padding.top;
    let groups = match groups {
        1 => String::new(),
        several => format!("-g{several}"),
    };
    format!("n{n}-h{h}-i{c_in}-o{c_out}-k{kernel}-s{stride}-p{padding}{groups}")
}

/// The shape with this [`name`].
pub(crate) fn parse(name: &str) -> Result<ConvShape> {
    let mut parts = name.split('-');
    let mut number = |prefix: &str| -> Result<usize> {
        let part = parts.next().and_then(|part| part.strip_prefix(prefix));
        part.and_then(|digits| digits.parse().ok())
            .with_context(|| {
                format!(
                    "`{name}` is no convolution; expected one such as n16-h56-i64-o256-k1-s1-p0"
                )
            })
    };
    let (n, h) = (number("n")?, number("h")?);
    let shape = ConvShape {
        n,
        h,
        w: h,
        c_in: number("i")?,
        c_out: number("o")?,
        kernel: number("k")?,
        stride: number("s")?,
        padding: number("p")?.into(),
        dilation: 1,
        groups: 1,
    };
    let shape = match name.matches('-').count() {
        6 => shape,
        _ => ConvShape {
            groups: number("g")?,
            ..shape
        },
    };
    shape.check()?;
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resnet_50_has_its_different_convolutions() {
        let size = Size {
            network: Architecture::ResNet50,
            side: 224,
            batch: 1,
        };
        let shapes = convolutions(size).unwrap();
        assert_eq!(shapes.len(), 23);
        assert_eq!((shapes[0].c_out, shapes[0].out_h()), (64, 112));
        let last = shapes.last().unwrap();
        assert_eq!((last.h, last.c_in, last.c_out), (7, 512, 512));
        for shape in shapes {
            assert_eq!(parse(&name(&shape)).unwrap(), shape);
        }
    }

    #[test]
    fn efficientnet_lite0_has_its_different_convolutions() {
        let size = Size {
            network: Architecture::TfEfficientNetLite0,
            side: 160,
            batch: 1,
        };
        let shapes = convolutions(size).unwrap();
        let depthwise: Vec<_> = shapes.iter().filter(|shape| shape.is_depthwise()).collect();
        assert_eq!((shapes.len(), depthwise.len()), (32, 12));
        let last = shapes.last().unwrap();
        assert_eq!((last.h, last.c_in, last.c_out), (5, 320, 1280));
        for shape in shapes {
            assert_eq!(parse(&name(&shape)).unwrap(), shape);
        }
    }

    #[test]
    fn a_name_that_is_no_shape_is_an_error() {
        for wrong in ["", "n1", "n0-h1-i1-o1-k1-s1-p0", "n1-h1-i1-o1-k9-s1-p0"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
