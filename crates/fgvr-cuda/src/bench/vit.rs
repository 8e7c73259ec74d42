//! A ViT-S/16: 196 patches and a class token, 6 heads of 64 channels.

use super::{Arithmetic, Case, Scale, bf16, f32s};
use crate::ops::attention::{self, Shape};
use crate::ops::gelu;
use crate::ops::patches::{self, Patches};
use crate::ops::tokens::{self, Learnt, Tokens};
use crate::ops::{Rows, layer_norm};
use crate::{DType, Machine, Product, Real};

const EPS: f64 = 1e-6;

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let images = scale.size(256, 2);
    let places = scale.size(196, 4);
    let (heads, head) = (scale.size(6, 2), scale.size(64, 8));
    let width = heads * head;
    let rows = images * (places + 1);
    let shape = Shape {
        images,
        tokens: places + 1,
        heads,
        width: head,
    };
    let mut all = Vec::new();
    all.push(cut(images, scale.size(224, 8), scale.size(16, 4)));
    all.extend(embedded(Tokens {
        images,
        places,
        channels: width,
    }));
    all.extend(normed(Rows {
        groups: 1,
        rows,
        channels: width,
    }));
    all.extend(linear(rows, width));
    all.extend(gelus(4 * rows * width));
    all.extend(attended(shape));
    all
}

fn cut(images: usize, side: usize, patch: usize) -> Case {
    let map = [images, side, side, 3];
    let len: usize = map.iter().product();
    let patches = Patches { map, patch };
    Case::new("vit: patches", (bf16(2 * len), 0), move |inputs| {
        let x = inputs.reals(Real::Bf16, len)?;
        Ok(move |machine: &dyn Machine| patches::cut(machine, &x, &patches).map(drop))
    })
}

fn embedded(of: Tokens) -> [Case; 2] {
    let channels = of.channels;
    let patches = of.images * of.places * channels;
    let sequence = (of.places + 1) * channels;
    let whole = of.images * sequence;
    let bytes = bf16(patches + whole) + f32s(channels + sequence);
    let case = |name: &str, backward: bool| {
        Case::new(name, (bytes, whole), move |inputs| {
            let len = if backward { whole } else { patches };
            let x = inputs.reals(Real::Bf16, len)?;
            let (class, positions) = (inputs.positive(channels)?, inputs.positive(sequence)?);
            Ok(move |machine: &dyn Machine| {
                let learnt = Learnt {
                    tokens: &[&class],
                    positions: Some(&positions),
                };
                match backward {
                    false => tokens::embed(machine, &x, of, learnt).map(drop),
                    true => tokens::embed_grad(machine, &x, of, learnt).map(drop),
                }
            })
        })
    };
    [case("vit: tokens", false), case("vit: tokens, grad", true)]
}

fn normed(rows: Rows) -> [Case; 2] {
    let (len, channels) = (rows.rows * rows.channels, rows.channels);
    let kept = f32s(2 * rows.rows);
    let forward = (bf16(2 * len) + kept, 7 * len);
    let backward = (bf16(3 * len) + kept, 12 * len);
    [
        Case::new("vit: layer norm", forward, move |inputs| {
            let x = inputs.reals(Real::Bf16, len)?;
            let (weight, bias) = (inputs.positive(channels)?, inputs.positive(channels)?);
            Ok(move |machine: &dyn Machine| {
                layer_norm::forward(machine, &x, rows, [&weight, &bias], EPS).map(drop)
            })
        }),
        Case::new("vit: layer norm, grad", backward, move |inputs| {
            let (x, dy) = (
                inputs.reals(Real::Bf16, len)?,
                inputs.reals(Real::Bf16, len)?,
            );
            let (weight, bias) = (inputs.positive(channels)?, inputs.positive(channels)?);
            let parameters = [&weight, &bias];
            let (_, kept) = layer_norm::forward(inputs.machine(), &x, rows, parameters, EPS)?;
            Ok(move |machine: &dyn Machine| {
                layer_norm::backward(machine, &dy, &x, rows, &weight, &kept).map(drop)
            })
        }),
    ]
}

/// The first of an MLP, to four times the width.
fn linear(rows: usize, width: usize) -> [Case; 3] {
    let wide = 4 * width;
    let product = |[m, n, k]: [usize; 3], [a_transposed, b_transposed]: [bool; 2]| Product {
        m,
        n,
        k,
        a_transposed,
        b_transposed,
    };
    let forward = product([rows, wide, width], [false, true]);
    let to_input = product([rows, width, wide], [false, false]);
    let to_weight = product([wide, width, rows], [true, false]);
    let case = |what: &str, product, out| {
        Case::product(&format!("vit: linear, {what}"), product, Real::Bf16, out)
    };
    [
        case("forward", forward, DType::Bf16),
        case("grad input", to_input, DType::Bf16),
        case("grad weight", to_weight, DType::F32),
    ]
}

fn gelus(len: usize) -> [Case; 2] {
    [
        Case::new("vit: GELU", (bf16(2 * len), 5 * len), move |inputs| {
            let x = inputs.reals(Real::Bf16, len)?;
            Ok(move |machine: &dyn Machine| gelu::forward(machine, &x).map(drop))
        }),
        Case::new(
            "vit: GELU, grad",
            (bf16(3 * len), 11 * len),
            move |inputs| {
                let (x, dy) = (
                    inputs.reals(Real::Bf16, len)?,
                    inputs.reals(Real::Bf16, len)?,
                );
                Ok(move |machine: &dyn Machine| gelu::backward(machine, &dy, &x).map(drop))
            },
        ),
    ]
}

fn attended(shape: Shape) -> [Case; 2] {
    let queries = shape.images * shape.heads * shape.tokens;
    let len = queries * shape.width;
    // A product of all pairs of tokens: two in the forward, five in the gradient.
    let pairs = 2 * len * shape.tokens;
    let forward = (bf16(4 * len) + f32s(queries), 2 * pairs);
    let backward = (bf16(8 * len) + f32s(queries), 5 * pairs);
    let math = Arithmetic::Product(Real::Bf16);
    [
        Case::new("vit: attention", forward, move |inputs| {
            let qkv = inputs.reals(Real::Bf16, 3 * len)?;
            Ok(move |machine: &dyn Machine| attention::forward(machine, &qkv, shape).map(drop))
        })
        .on(math),
        Case::new("vit: attention, grad", backward, move |inputs| {
            let qkv = inputs.reals(Real::Bf16, 3 * len)?;
            let dy = inputs.reals(Real::Bf16, len)?;
            let made = attention::forward(inputs.machine(), &qkv, shape)?;
            Ok(move |machine: &dyn Machine| {
                attention::backward(machine, &dy, &qkv, &made, shape).map(drop)
            })
        })
        .on(math),
    ]
}
