//! InfoNCE of 256 queries against a queue of 65536 keys of 128 values, and SimSiam's loss of 256 predictions
//! of 2048, in f32.

use super::{Case, Scale, f32s};
use crate::ops::cosine::{Compared, Loss, cosine};
use crate::ops::info_nce::{Contrast, Into, Positive, info_nce};
use crate::ops::queue::Queue;
use crate::ops::{Rows, l2_normalise};
use crate::{Array, DType, Machine, Product, Real};

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
        enqueue(rows, keys, width),
        alike(rows, scale.size(2048, 16)),
    ]
}

fn enqueue(rows: usize, capacity: usize, width: usize) -> Case {
    // Each key with its image.
    let work = (f32s(2 * rows * (width + 1)), 0);
    Case::new("loss: keys into the queue", work, move |inputs| {
        let mut queue = Queue::new(inputs.machine(), capacity, width)?;
        let keys = inputs.reals(Real::F32, rows * width)?;
        let images: Vec<u32> = (0..rows as u32).collect();
        let images = Array::from_u32(inputs.machine(), &images)?;
        Ok(move |machine: &dyn Machine| queue.push(machine, &keys, &images))
    })
}

fn alike(rows: usize, width: usize) -> Case {
    let len = rows * width;
    // Three products that are summed; and for the gradient two products, a difference, a scale.
    let work = (f32s(3 * len), 10 * len);
    Case::new("loss: cosine with its gradient", work, move |inputs| {
        let predictions = inputs.reals(Real::F32, len)?;
        let targets = inputs.reals(Real::F32, len)?;
        Ok(move |machine: &dyn Machine| {
            let compared = Compared {
                predictions: &predictions,
                targets: &targets,
                rows,
                width,
                shortest: 1e-6,
            };
            cosine(machine, &compared, Loss::HalfNegative, 1.).map(drop)
        })
    })
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
