//! InfoNCE of 256 queries against a queue of 65536 keys of 128 values, in f32.

use super::{Case, Scale, f32s};
use crate::ops::info_nce::{Contrast, Into, Positive, info_nce};
use crate::ops::{Rows, l2_normalise};
use crate::{DType, Machine, Product, Real};

const TEMPERATURE: f64 = 0.2;
const EPS: f64 = 1e-12;

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let (rows, keys, width) = (
        scale.size(256, 3),
        scale.size(65536, 20),
        scale.size(128, 8),
    );
    let similarities = Product {
        m: rows,
        n: keys,
        k: width,
        a_transposed: false,
        b_transposed: true,
    };
    let to_queries = Product {
        m: rows,
        n: width,
        k: keys,
        a_transposed: false,
        b_transposed: false,
    };
    let queries = Rows {
        groups: 1,
        rows,
        channels: width,
    };
    let [normalise, normalise_grad] = normalised(queries);
    let product = |name, product| Case::product(name, product, Real::F32, DType::F32);
    vec![
        normalise,
        product("loss: similarities to keys", similarities),
        contrast(rows, keys),
        product("loss: grad of queries", to_queries),
        normalise_grad,
    ]
}

fn normalised(rows: Rows) -> [Case; 2] {
    let len = rows.rows * rows.channels;
    [
        Case::new(
            "loss: L2 normalise",
            (f32s(2 * len), 3 * len),
            move |inputs| {
                let x = inputs.reals(Real::F32, len)?;
                Ok(move |machine: &dyn Machine| {
                    l2_normalise::forward(machine, &x, rows, EPS).map(drop)
                })
            },
        ),
        Case::new(
            "loss: L2 normalise, grad",
            (f32s(3 * len), 7 * len),
            move |inputs| {
                let (x, dy) = (inputs.reals(Real::F32, len)?, inputs.reals(Real::F32, len)?);
                Ok(move |machine: &dyn Machine| {
                    l2_normalise::backward(machine, &dy, &x, rows, EPS).map(drop)
                })
            },
        ),
    ]
}

fn contrast(rows: usize, columns: usize) -> Case {
    let len = rows * columns;
    // Scaled, subtracted, exp, added; and for the gradient scaled, subtracted, exp, scaled.
    let work = (f32s(2 * len), 8 * len);
    Case::new("loss: InfoNCE with its gradient", work, move |inputs| {
        let similarity = inputs.reals(Real::F32, len)?;
        let positive = inputs.positive(rows)?;
        Ok(move |machine: &dyn Machine| {
            let contrast = Contrast {
                similarity: &similarity,
                rows,
                columns,
                positive: Positive::Beside(&positive),
                own: None,
                images: None,
                temperature: TEMPERATURE,
            };
            info_nce(machine, &contrast, 1., Into::New(Real::F32)).map(drop)
        })
    })
}
