//! Self-attention, alone and in a transformer's block.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Module, ModuleT};
use fgvr_nn::ParameterGradients;
use fgvr_nn::layers::{
    AttentionConfig, Conv2d, ConvConfig, Gelu, LayerNorm, LayerNormConfig, MultiHeadAttention, add,
};
use fgvr_nn::{Activation, Parameters, Tape};
use fgvr_testkit::{assert_close, golden, normal};

use crate::autograd::compare;
use crate::support::{REL, bits, check, check_golden, parameters_of, run, values, with_threads};

/// Case, channels, heads and whether there are biases.
const CASES: [(&str, usize, usize, bool); 8] = [
    ("plain", 8, 2, true),
    ("one_token", 6, 3, true),
    ("one_channel", 1, 1, true),
    ("heads_of_one", 5, 5, true),
    ("odd", 21, 3, true),
    ("no_bias", 12, 4, false),
    ("long", 6, 2, true),
    ("equal", 8, 2, true),
];

/// The variables of `attention`, under the golden file's names.
fn variables(attention: &MultiHeadAttention) -> Vec<(&'static str, Tensor)> {
    let (inner, outer) = (attention.in_proj(), attention.out_proj());
    let mut all = vec![
        ("in_proj_weight", inner.weight().clone()),
        ("out_proj_weight", outer.weight().clone()),
    ];
    let biases = [("in_proj_bias", inner), ("out_proj_bias", outer)];
    all.extend(
        biases
            .map(|(n, l)| l.bias().map(|b| (n, b.clone())))
            .into_iter()
            .flatten(),
    );
    all
}

#[test]
fn attention_is_pytorchs() {
    let golden = golden("nn_tokens.safetensors");
    for (case, channels, heads, bias) in CASES {
        let case = format!("attention.{case}");
        let mut given = Vec::new();
        for (name, stored) in [
            ("in_proj_weight", "in_proj_weight"),
            ("in_proj_bias", "in_proj_bias"),
            ("out_proj.weight", "out_proj_weight"),
            ("out_proj.bias", "out_proj_bias"),
        ] {
            if bias || !name.ends_with("bias") {
                given.push((name, golden.get(&format!("{case}.{stored}"))));
            }
        }
        let (_, vb) = parameters_of(&given);
        let cfg = AttentionConfig { heads, bias };
        let attention = MultiHeadAttention::new(channels, &cfg, vb).unwrap();
        let outcome = check_golden(&golden, &case, |t, x| attention.apply(t, x));
        for (name, var) in variables(&attention) {
            let name = format!("{case}.d_{name}");
            let gradient = outcome.gradients.get(&var).unwrap();
            assert_close(&name, gradient, &golden.get(&name), REL);
        }
    }
}

/// (N, C, tokens), and weights and biases as in `variables`.
fn reference(inputs: &[Vec<f64>], c: usize, tokens: usize, heads: usize) -> Vec<f64> {
    let (x, in_weight, out_weight) = (&inputs[0], &inputs[1], &inputs[2]);
    let (in_bias, out_bias) = (&inputs[3], &inputs[4]);
    let width = c / heads;
    let mut y = vec![0.; x.len()];
    for (x, y) in x.chunks(c * tokens).zip(y.chunks_mut(c * tokens)) {
        let project = |row: usize, token: usize| -> f64 {
            let products = (0..c).map(|j| in_weight[row * c + j] * x[j * tokens + token]);
            products.sum::<f64>() + in_bias[row]
        };
        let qkv: Vec<Vec<f64>> = (0..3 * c)
            .map(|row| (0..tokens).map(|t| project(row, t)).collect())
            .collect();
        for query in 0..tokens {
            let mut found = vec![0.; c];
            for head in 0..heads {
                let channels = head * width..(head + 1) * width;
                let shares: Vec<f64> = (0..tokens)
                    .map(|key| {
                        let products = channels.clone().map(|j| qkv[j][query] * qkv[c + j][key]);
                        (products.sum::<f64>() / (width as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = shares.iter().sum();
                for j in channels {
                    let values = shares.iter().zip(&qkv[2 * c + j]);
                    found[j] = values.map(|(s, v)| s * v / total).sum();
                }
            }
            for row in 0..c {
                let products = (0..c).map(|j| out_weight[row * c + j] * found[j]);
                y[row * tokens + query] = products.sum::<f64>() + out_bias[row];
            }
        }
    }
    y
}

/// Attention with biases that are not zero.
fn attention_of(channels: usize, heads: usize) -> (MultiHeadAttention, Parameters) {
    let scaled = |seed, rows: usize| (normal(seed, (rows, channels)) * 0.6).unwrap();
    let (parameters, vb) = parameters_of(&[
        ("in_proj_weight", scaled(11, 3 * channels)),
        ("in_proj_bias", normal(12, 3 * channels)),
        ("out_proj.weight", scaled(13, channels)),
        ("out_proj.bias", normal(14, channels)),
    ]);
    let cfg = AttentionConfig { heads, bias: true };
    (
        MultiHeadAttention::new(channels, &cfg, vb).unwrap(),
        parameters,
    )
}

/// `module`, of (N, T, C), as a function of (N, C, H, W).
fn of_tokens(module: impl Fn(&Tensor) -> Result<Tensor>) -> impl Fn(&Tensor) -> Result<Tensor> {
    move |x| {
        let tokens = x.flatten_from(2)?.transpose(1, 2)?;
        module(&tokens)?.transpose(1, 2)?.reshape(x.shape())
    }
}

#[test]
fn attention_has_the_gradient_of_differences_and_its_module_the_tapes() {
    for (n, h, w, channels, heads) in [
        (1, 1, 1, 1, 1),
        (2, 1, 1, 3, 1),
        (1, 2, 3, 4, 2),
        (2, 1, 3, 6, 3),
        (1, 2, 2, 3, 3),
    ] {
        let (attention, parameters) = attention_of(channels, heads);
        let x = normal(2, (n, channels, h, w));
        let variables = variables(&attention);
        let variables: Vec<&Tensor> = variables.iter().map(|(_, v)| v).collect();
        let name = format!("attention {n} {h} {w} {channels} {heads}");
        check(
            &name,
            &x,
            &variables,
            |t, x| attention.apply(t, x),
            |x| reference(x, channels, h * w, heads),
        );
        compare(
            &x,
            &parameters,
            of_tokens(|x| attention.forward(x)),
            |t, x| attention.apply(t, x),
        );
    }
}

/// More tokens than are scored at once, against the naive forward, and the module.
#[test]
fn a_long_sequence_is_the_sum_of_its_pieces() {
    let (channels, heads, side) = (6, 3, 23);
    let (attention, parameters) = attention_of(channels, heads);
    let x = normal(2, (1, channels, side, side));
    let outcome = run(&x, None, |t, x| attention.apply(t, x));
    let variables = variables(&attention);
    let mut inputs = vec![values(&x)];
    inputs.extend(variables.iter().map(|(_, v)| values(v)));
    let expected = reference(&inputs, channels, side * side, heads);
    fgvr_testkit::assert_close_values("long", &values(&outcome.y), &expected, REL);
    compare(
        &x,
        &parameters,
        of_tokens(|x| attention.forward(x)),
        |t, x| attention.apply(t, x),
    );
}

#[test]
fn attention_starts_as_pytorchs_under_its_names() {
    let parameters = Parameters::new(3);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    MultiHeadAttention::new(48, &AttentionConfig::default(), vb.pp("attn")).unwrap();
    let all = parameters.trainable();
    let names = [
        "in_proj_bias",
        "in_proj_weight",
        "out_proj.bias",
        "out_proj.weight",
    ];
    let shapes = [vec![144], vec![144, 48], vec![48], vec![48, 48]];
    let bounds = [0., (6f64 / 192.).sqrt(), 0., (1f64 / 48.).sqrt()];
    assert_eq!(all.len(), 4);
    for ((name, shape), bound) in names.iter().zip(shapes).zip(bounds) {
        let var = &all[&format!("attn.{name}")];
        assert_eq!(var.dims(), shape);
        let largest = values(var).iter().fold(0f64, |m, v| m.max(v.abs()));
        assert!(
            largest <= bound && largest >= 0.98 * bound,
            "{name}: {largest}"
        );
    }
    let parameters = Parameters::new(3);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let cfg = AttentionConfig {
        heads: 2,
        bias: false,
    };
    let plain = MultiHeadAttention::new(4, &cfg, vb).unwrap();
    assert!(plain.in_proj().bias().is_none() && plain.out_proj().bias().is_none());
    assert_eq!(parameters.all().len(), 2);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let vb = Parameters::new(3).builder(DType::F32, &Device::Cpu);
    for (channels, heads) in [(8, 3), (0, 1), (8, 0), (2, 4)] {
        let cfg = AttentionConfig { heads, bias: true };
        let complaint = MultiHeadAttention::new(channels, &cfg, vb.clone()).unwrap_err();
        let expected = format!("attention: {channels} channels do not divide into {heads} heads");
        assert!(complaint.to_string().contains(&expected), "{complaint}");
    }
    let (attention, _) = attention_of(4, 2);
    let mut tape = Tape::recording();
    let mut fails = |shape: (usize, usize, usize, usize)| {
        let x = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let x = tape.input(&x, false).unwrap();
        attention.apply(&mut tape, &x).unwrap_err().to_string()
    };
    assert!(fails((1, 6, 2, 2)).contains("attention: expected 4 channels, found 6"));
    assert!(fails((1, 4, 0, 2)).contains("attention: 1 sequences of 0 tokens"));
    assert!(fails((0, 4, 2, 2)).contains("attention: 0 sequences of 4 tokens"));
    let complaint = attention.forward(&normal(0, (2, 3, 5))).unwrap_err();
    assert!(
        complaint
            .to_string()
            .contains("expected 4 channels, found 5")
    );
    assert!(attention.forward(&normal(0, (3, 4))).is_err());
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let (attention, parameters) = attention_of(12, 3);
    let x = normal(4, (2, 12, 18, 17));
    let [one, two] = [1, 2].map(|threads| {
        with_threads(threads, || {
            let outcome = run(&x, None, |t, x| attention.apply(t, x));
            let mut all = vec![bits(&outcome.y), bits(&outcome.dx)];
            let variables = parameters.trainable();
            all.extend(
                variables
                    .values()
                    .map(|v| bits(outcome.gradients.get(v).unwrap())),
            );
            all
        })
    });
    assert_eq!(one, two);
}

/// A vision transformer's block: x + attention(norm1(x)), then x + fc2(gelu(fc1(norm2(x)))).
struct Block {
    norm1: LayerNorm,
    attention: MultiHeadAttention,
    norm2: LayerNorm,
    fc1: Conv2d,
    fc2: Conv2d,
}

impl Block {
    fn new(channels: usize, parameters: &Parameters) -> Self {
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let norm =
            |name| LayerNorm::new(channels, &LayerNormConfig::default(), vb.pp(name)).unwrap();
        let cfg = ConvConfig {
            bias: true,
            ..ConvConfig::default()
        };
        let fc = |from, to, name| Conv2d::new(from, to, 1, &cfg, vb.pp(name)).unwrap();
        let heads = AttentionConfig {
            heads: 2,
            bias: true,
        };
        Self {
            norm1: norm("norm1"),
            attention: MultiHeadAttention::new(channels, &heads, vb.pp("attn")).unwrap(),
            norm2: norm("norm2"),
            fc1: fc(channels, 2 * channels, "fc1"),
            fc2: fc(2 * channels, channels, "fc2"),
        }
    }

    fn apply(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        let y = self.norm1.apply(tape, x)?;
        let y = self.attention.apply(tape, &y)?;
        let x = add(tape, x, &y)?;
        let y = self.norm2.apply(tape, &x)?;
        let y = self.fc1.apply(tape, &y)?;
        let y = Gelu.apply(tape, &y)?;
        let y = self.fc2.apply(tape, &y)?;
        add(tape, &x, &y)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let norm = |norm: &LayerNorm, x: &Tensor| {
            norm.forward(&x.permute((0, 2, 3, 1))?)?
                .permute((0, 3, 1, 2))
        };
        let attend = of_tokens(|x| self.attention.forward(x));
        let x = (x + attend(&norm(&self.norm1, x)?)?)?;
        let y = self.fc1.forward_t(&norm(&self.norm2, &x)?, true)?;
        let y = self.fc2.forward_t(&Gelu.forward(&y)?, true)?;
        x + y
    }
}

#[test]
fn in_a_block_every_trainable_variable_gets_a_gradient_and_the_module_the_tapes() {
    let parameters = Parameters::new(6);
    let block = Block::new(10, &parameters);
    let x = normal(5, (2, 10, 3, 2));
    compare(
        &x,
        &parameters,
        |x| block.forward(x),
        |t, x| block.apply(t, x),
    );
    let outcome = run(&x, None, |t, x| block.apply(t, x));
    for (name, var) in parameters.trainable() {
        let gradient = values(outcome.gradients.get(&var).unwrap());
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!(norm.is_finite() && norm > 1e-3, "{name}: {norm}");
    }
}

#[test]
fn add_gives_both_sides_the_gradient_and_refuses_two_shapes() {
    let x = normal(1, (2, 3, 2, 2));
    // y = x + (x + x)
    let outcome = run(&x, None, |t, x| {
        let twice = add(t, x, x)?;
        add(t, x, &twice)
    });
    assert_close("y", &outcome.y, &(&x * 3.).unwrap(), 1e-6);
    let dy = normal(99, x.dims());
    assert_close("dx", &outcome.dx, &(dy * 3.).unwrap(), 1e-6);
    let mut tape = Tape::recording();
    let a = tape.input(&x, false).unwrap();
    let b = tape.input(&normal(1, (2, 3, 2, 1)), false).unwrap();
    let complaint = add(&mut tape, &a, &b).unwrap_err().to_string();
    assert!(
        complaint.contains("add: [2, 2, 2, 3] and [2, 2, 1, 3]"),
        "{complaint}"
    );
}

#[test]
fn a_tape_for_inference_gives_the_same_values() {
    let (attention, _) = attention_of(6, 2);
    let x = normal(4, (2, 6, 3, 2));
    let mut tape = Tape::inference();
    let input = tape.input(&x, false).unwrap();
    let y = attention
        .apply(&mut tape, &input)
        .unwrap()
        .to_tensor()
        .unwrap();
    assert_eq!(
        bits(&y),
        bits(&run(&x, None, |t, x| attention.apply(t, x)).y)
    );
    assert!(
        tape.backward(
            &ParameterGradients::default(),
            &mut ParameterGradients::default()
        )
        .is_err()
    );
}
