//! What the importance rests on: facts about gradients of a head above mean-pooled features.

#![cfg(feature = "candle")]
#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use candle_core::{D, DType, Device, Result, Tensor, Var};
use fgvr_gradcam::{Importance, importance};

/// Fixed, irregular values in (-1, 1).
fn pattern(shape: &[usize], phase: f64) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values: Vec<f64> = (0..count)
        .map(|i| (12.9898 * (i as f64 + 1.) + phase).sin())
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

struct Head {
    first: Tensor,
    second: Tensor,
    bias: Option<Tensor>,
    keys: Tensor,
}

impl Head {
    /// Linear-ReLU-Linear from 12 to 6 dimensions, and InfoNCE against 9 keys, the first of which
    /// belong to the queries.
    fn new(bias: bool) -> Self {
        let keys = pattern(&[9, 6], 3.);
        Self {
            first: pattern(&[10, 12], 1.),
            second: pattern(&[6, 10], 2.),
            bias: bias.then(|| pattern(&[10], 5.)),
            keys: normalised(&keys).unwrap(),
        }
    }

    fn loss(&self, pooled: &Tensor) -> Result<Tensor> {
        let n = pooled.dim(0)?;
        let mut hidden = pooled.matmul(&self.first.t()?)?;
        if let Some(bias) = &self.bias {
            hidden = hidden.broadcast_add(bias)?;
        }
        let query = normalised(&hidden.relu()?.matmul(&self.second.t()?)?)?;
        let logits = (query.matmul(&self.keys.t()?)? / 0.2)?;
        let targets = Tensor::arange(0u32, n as u32, &Device::Cpu)?;
        candle_nn::loss::cross_entropy(&logits, &targets)
    }
}

fn normalised(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
}

/// A map (4, 12, 3, 2) as a ReLU leaves it.
fn map() -> Tensor {
    pattern(&[4, 12, 3, 2], 0.).relu().unwrap()
}

fn largest(x: &Tensor) -> f64 {
    let x = x
        .abs()
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap();
    x.max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn the_head_alone_gives_the_maps_gradient_summed_over_places() {
    for dtype in [DType::F32, DType::F64] {
        let head = Head::new(true);
        let head = Head {
            first: head.first.to_dtype(dtype).unwrap(),
            second: head.second.to_dtype(dtype).unwrap(),
            bias: head.bias.map(|b| b.to_dtype(dtype).unwrap()),
            keys: head.keys.to_dtype(dtype).unwrap(),
        };
        let map = Var::from_tensor(&map().to_dtype(dtype).unwrap()).unwrap();
        let loss = head.loss(&map.mean((2, 3)).unwrap()).unwrap();
        let full = loss
            .backward()
            .unwrap()
            .get(&map)
            .unwrap()
            .sum((2, 3))
            .unwrap();

        let pooled = Var::from_tensor(&map.mean((2, 3)).unwrap().detach()).unwrap();
        let gradients = head.loss(pooled.as_tensor()).unwrap().backward().unwrap();
        let alone = gradients.get(&pooled).unwrap();
        assert!(largest(alone) > 1e-3);
        assert!(largest(&(full - alone).unwrap()) < 1e-5);
    }
}

#[test]
fn signed_contributions_cancel_below_a_bias_free_head() {
    let pooled = Var::from_tensor(&map().mean((2, 3)).unwrap()).unwrap();
    let sums = |head: &Head| {
        let gradients = head.loss(pooled.as_tensor()).unwrap().backward().unwrap();
        let grad = gradients.get(&pooled).unwrap();
        let signed = (pooled.as_tensor() * grad).unwrap().sum(1).unwrap();
        let kind = Importance::GradientTimesFeature;
        let whole = importance(pooled.as_tensor(), grad, kind, None).unwrap();
        (largest(&signed), largest(&whole.sum(1).unwrap()))
    };
    let (signed, whole) = sums(&Head::new(false));
    assert!(
        whole > 1e-2 && signed < 1e-12 * whole.max(1.),
        "{signed} of {whole}"
    );
    // With biases the cancellation is only approximate, so the test above can fail.
    let (signed, whole) = sums(&Head::new(true));
    assert!(signed > 1e-6 * whole, "{signed} of {whole}");
}
