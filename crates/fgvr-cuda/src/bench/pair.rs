//! What a generated pair's images take beside networks: reconstruction loss and augmentation, of 256 images of
//! 224 px.

use super::{Case, Scale, bf16};
use crate::ops::augment::{Adjustment, Draw, Norm, Shape, augment_pairs};
use crate::ops::squared_error::mean_squared_error;
use crate::{Machine, Real};

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let side = scale.size(224, 8);
    let shape = Shape {
        images: scale.size(256, 5),
        height: side,
        width: side,
    };
    vec![squared_error(shape), augment(shape)]
}

fn squared_error(shape: Shape) -> Case {
    let len = 3 * shape.images * shape.height * shape.width;
    // The difference, its square, their sum, the gradient.
    let work = (bf16(3 * len), 4 * len);
    Case::new(
        "pair: squared error with its gradient",
        work,
        move |inputs| {
            let images = inputs.reals(Real::Bf16, len)?;
            let target = inputs.reals(Real::Bf16, len)?;
            Ok(move |machine: &dyn Machine| {
                mean_squared_error(machine, &images, &target, 1.).map(drop)
            })
        },
    )
}

/// As often as fgvr-data's defaults draw each change.
fn augment(shape: Shape) -> Case {
    let pixels = shape.images * shape.height * shape.width;
    // In and out of the normalisation 12, hue 40, the other adjustments 26.
    let work = (bf16(6 * pixels) + 24 * shape.images, 78 * pixels);
    Case::new("pair: augment", work, move |inputs| {
        use Adjustment::{Brightness, Contrast, Hue, Saturation};
        let images = inputs.reals(Real::Bf16, 3 * pixels)?;
        let draw = |at: usize| {
            let mut order = [
                (Brightness, 1.2),
                (Contrast, 0.7),
                (Saturation, 1.3),
                (Hue, 0.1),
            ];
            order.rotate_left(at % 4);
            Draw {
                jitter: (at % 5 < 4).then_some(order),
                grayscale: at % 5 == 2,
                flip: at.is_multiple_of(2),
            }
        };
        let draws: Vec<Draw> = (0..shape.images).map(draw).collect();
        let norm = Norm {
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        };
        Ok(move |machine: &dyn Machine| {
            augment_pairs(machine, &images, shape, &draws, norm).map(drop)
        })
    })
}
