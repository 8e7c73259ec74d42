//! A vision transformer's parts: patches, layer scale, tokens before the patches, positions.

use candle_core::{DType, Device, Tensor};
use candle_nn::{Init, Module};
use fgvr_nn::layers::{
    FrozenLinear, LayerScale, Linear, LinearFinish, MultiHeadAttention, PatchEmbed,
    PositionEmbedding, global_mean, join_vectors, prepend_tokens, resize_position_embedding,
    take_tokens,
};
use fgvr_nn::{Activation, Parameters, Tape};
use fgvr_testkit::{assert_close, assert_close_values, golden, normal};

use crate::autograd::compare;
use crate::support::{REL, bits, check, check_golden, parameters, parameters_of, run, values};

const FILE: &str = "nn_vit.safetensors";

fn tape_input(shape: (usize, usize, usize, usize)) -> (Tape, Activation) {
    let mut tape = Tape::recording();
    let x = tape.input(&normal(0, shape), false).unwrap();
    (tape, x)
}

#[test]
fn patches_are_pytorchs_convolution() {
    let golden = golden(FILE);
    let given = ["weight", "bias"].map(|name| {
        let stored = golden.get(&format!("patch_embed.{name}"));
        (format!("proj.{name}"), stored)
    });
    let given: Vec<_> = given.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let (all, vb) = parameters_of(&given);
    let embed = PatchEmbed::new(3, 7, 4, vb).unwrap();
    let outcome = check_golden(&golden, "patch_embed", |t, x| embed.apply(t, x));
    for (what, var) in [
        ("d_weight", embed.proj().weight()),
        ("d_bias", embed.proj().bias().unwrap()),
    ] {
        let expected = golden.get(&format!("patch_embed.{what}"));
        assert_close(what, outcome.gradients.get(var).unwrap(), &expected, REL);
    }
    let x = normal(1, (2, 3, 8, 12));
    compare(&x, &all, |x| embed.forward(x), |t, x| embed.apply(t, x));
}

#[test]
fn patches_have_the_gradient_of_differences() {
    for (n, c, c_out, patch, rows, columns) in
        [(1, 1, 1, 1, 1, 1), (2, 3, 2, 2, 1, 3), (1, 2, 3, 3, 2, 1)]
    {
        let vb = Parameters::new(1).builder(DType::F32, &Device::Cpu);
        let embed = PatchEmbed::new(c, c_out, patch, vb).unwrap();
        let (h, w) = (rows * patch, columns * patch);
        let reference = |inputs: &[Vec<f64>]| -> Vec<f64> {
            let (x, weight, bias) = (&inputs[0], &inputs[1], &inputs[2]);
            let mut y = Vec::new();
            for (image, o) in (0..n).flat_map(|i| (0..c_out).map(move |o| (i, o))) {
                for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                    let mut sum = bias[o];
                    for k in 0..c * patch * patch {
                        let (channel, place) = (k / (patch * patch), k % (patch * patch));
                        let (dy, dx) = (place / patch, place % patch);
                        let at = (image * c + channel) * h + row * patch + dy;
                        sum += weight[o * c * patch * patch + k] * x[at * w + column * patch + dx];
                    }
                    y.push(sum);
                }
            }
            y
        };
        check(
            "patch_embed",
            &normal(2, (n, c, h, w)),
            &[embed.proj().weight(), embed.proj().bias().unwrap()],
            |t, x| embed.apply(t, x),
            reference,
        );
    }
}

#[test]
fn pixels_that_are_not_whole_patches_are_refused() {
    let vb = Parameters::new(1).builder(DType::F32, &Device::Cpu);
    let embed = PatchEmbed::new(3, 2, 4, vb.clone()).unwrap();
    let fails = |shape| {
        let (mut tape, x) = tape_input(shape);
        embed.apply(&mut tape, &x).unwrap_err().to_string()
    };
    assert!(fails((1, 3, 8, 6)).contains("8 x 6 pixels are not whole patches of 4 x 4"));
    assert!(fails((1, 2, 8, 8)).contains("expected 3 channels, found 2"));
    assert!(embed.forward(&normal(0, (1, 3, 8, 6))).is_err());
    for sizes in [(0, 2, 4), (3, 0, 4), (3, 2, 0), (3, 2, usize::MAX)] {
        let error = PatchEmbed::new(sizes.0, sizes.1, sizes.2, vb.clone()).unwrap_err();
        assert!(error.to_string().contains("a size is zero or too large"));
    }
}

#[test]
fn layer_scale_is_pytorchs_and_has_the_gradient_of_differences() {
    let golden = golden(FILE);
    let (all, vb) = parameters(&golden, "layer_scale", &["gamma"]);
    let scale = LayerScale::new(19, 1e-5, vb).unwrap();
    let outcome = check_golden(&golden, "layer_scale", |t, x| scale.apply(t, x));
    let gradient = outcome.gradients.get(scale.gamma()).unwrap();
    assert_close("gamma", gradient, &golden.get("layer_scale.d_gamma"), REL);
    compare(
        &normal(1, (2, 19, 3, 2)),
        &all,
        |x| {
            scale
                .forward(&x.permute((0, 2, 3, 1))?)?
                .permute((0, 3, 1, 2))
        },
        |t, x| scale.apply(t, x),
    );
    for (n, c, h, w) in [(1, 1, 1, 1), (2, 3, 1, 2), (1, 65, 2, 1)] {
        let (_, vb) = parameters_of(&[("gamma", normal(3, c))]);
        let scale = LayerScale::new(c, 1., vb).unwrap();
        check(
            "layer_scale",
            &normal(2, (n, c, h, w)),
            &[scale.gamma()],
            |t, x| scale.apply(t, x),
            |x| {
                let (x, gamma) = (&x[0], &x[1]);
                let channel = |i: usize| i / (h * w) % c;
                (0..x.len()).map(|i| x[i] * gamma[channel(i)]).collect()
            },
        );
    }
}

#[test]
fn layer_scale_starts_where_it_is_told_and_refuses_what_does_not_fit() {
    let parameters = Parameters::new(1);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let scale = LayerScale::new(3, 1e-5, vb.pp("ls1")).unwrap();
    assert_eq!(
        values(&parameters.all()["ls1.gamma"]),
        [f64::from(1e-5f32); 3]
    );
    let (mut tape, x) = tape_input((1, 4, 2, 2));
    let error = scale.apply(&mut tape, &x).unwrap_err().to_string();
    assert!(error.contains("layer_scale: expected 3 channels, found 4"));
    assert!(LayerScale::new(0, 1., vb).is_err());
}

#[test]
fn tokens_come_before_the_patches_as_in_pytorch() {
    let golden = golden(FILE);
    let (all, _) = parameters(&golden, "prepend_tokens", &["cls_token", "reg_token"]);
    let vars = all.all();
    let tokens = [vars["cls_token"].as_tensor(), vars["reg_token"].as_tensor()];
    let outcome = check_golden(&golden, "prepend_tokens", |t, x| {
        prepend_tokens(t, x, &tokens)
    });
    for (name, var) in &vars {
        let expected = golden.get(&format!("prepend_tokens.d_{name}"));
        assert_close(name, outcome.gradients.get(var).unwrap(), &expected, REL);
    }
}

#[test]
fn tokens_before_the_patches_have_the_gradient_of_differences() {
    for (n, c, h, w, k) in [(1, 1, 1, 1, 1), (3, 2, 2, 1, 2)] {
        let (all, _) = parameters_of(&[("a", normal(3, (1, k, c))), ("b", normal(4, (1, 1, c)))]);
        let (a, b) = (all.all()["a"].clone(), all.all()["b"].clone());
        let reference = |x: &[Vec<f64>]| {
            let places = h * w;
            let mut y = Vec::new();
            for (image, channel) in (0..n).flat_map(|i| (0..c).map(move |j| (i, j))) {
                y.extend((0..k).map(|t| x[1][t * c + channel]));
                y.push(x[2][channel]);
                y.extend((0..places).map(|p| x[0][(image * c + channel) * places + p]));
            }
            y
        };
        check(
            "prepend_tokens",
            &normal(2, (n, c, h, w)),
            &[a.as_tensor(), b.as_tensor()],
            |t, x| prepend_tokens(t, x, &[a.as_tensor(), b.as_tensor()]),
            reference,
        );
    }
    let (mut tape, x) = tape_input((1, 4, 2, 2));
    let error = prepend_tokens(&mut tape, &x, &[&normal(1, (1, 1, 3))]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected (1, k, 4), found [1, 1, 3]")
    );
}

#[test]
fn taken_tokens_have_the_gradient_of_differences_also_where_both_are_used() {
    let (n, c, tokens) = (2, 3, 5);
    // The class token, doubled by being taken twice, beside the last four.
    let take = |t: &mut Tape, x: &Activation| {
        let class = take_tokens(t, x, 0..1, (1, 1))?;
        let rest = take_tokens(t, x, 1..5, (2, 2))?;
        let again = take_tokens(t, x, 0..1, (1, 1))?;
        let all = prepend_tokens(t, &rest, &[])?;
        let sum = fgvr_nn::layers::add(t, &class, &again)?;
        let first = take_tokens(t, &all, 0..1, (1, 1))?;
        fgvr_nn::layers::add(t, &sum, &first)
    };
    check(
        "take_tokens",
        &normal(2, (n, c, 1, tokens)),
        &[],
        take,
        |x| {
            let rows = x[0].chunks(tokens);
            rows.map(|row| 2. * row[0] + row[1]).collect()
        },
    );
    let (mut tape, x) = tape_input((1, 4, 1, 5));
    for (range, places) in [(0..6, (2, 3)), (1..5, (2, 3))] {
        let error = take_tokens(&mut tape, &x, range, places).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("expected one row that has these tokens")
        );
    }
    let (mut tape, x) = tape_input((1, 4, 2, 2));
    assert!(take_tokens(&mut tape, &x, 0..1, (1, 1)).is_err());
}

#[test]
fn joined_vectors_have_the_gradient_of_differences_also_of_one_vector_twice() {
    // The first token and the mean of the others, then the mean again beside the token.
    let join = |t: &mut Tape, x: &Activation| {
        let class = take_tokens(t, x, 0..1, (1, 1))?;
        let rest = take_tokens(t, x, 1..5, (2, 2))?;
        let mean = global_mean(t, &rest)?;
        let one = join_vectors(t, &class, &mean)?;
        let other = join_vectors(t, &mean, &class)?;
        join_vectors(t, &one, &other)
    };
    let c = 3;
    check("join_vectors", &normal(2, (2, c, 1, 5)), &[], join, |x| {
        let images = x[0].chunks(5 * c);
        images
            .flat_map(|image| {
                let rows = image.chunks(5);
                let class: Vec<f64> = rows.clone().map(|row| row[0]).collect();
                let mean = rows.map(|row| row[1..].iter().sum::<f64>() / 4.);
                let mean: Vec<f64> = mean.collect();
                [&class[..], &mean, &mean, &class].concat()
            })
            .collect()
    });
    let (mut tape, x) = tape_input((1, 4, 2, 2));
    let error = join_vectors(&mut tape, &x, &x).unwrap_err().to_string();
    assert!(error.contains("expected the same (N, 1, 1, C)"), "{error}");
}

fn positions(
    c: usize,
    prefix: usize,
    side: usize,
    table: Tensor,
) -> (PositionEmbedding, Parameters) {
    let (all, vb) = parameters_of(&[("pos_embed", table)]);
    let embedding = PositionEmbedding::new(c, prefix, [side; 2], 0.02, vb).unwrap();
    (embedding, all)
}

#[test]
fn positions_on_another_grid_are_pytorchs_with_their_gradient() {
    let golden = golden(FILE);
    for (name, prefix, side, to) in [("smaller", 1, 7, [3, 5]), ("larger", 0, 3, [8, 4])] {
        let case = format!("positions.{name}");
        let table = golden.get(&format!("{case}.pos_embed"));
        let (embedding, _) = positions(6, prefix, side, table.clone());
        let outcome = check_golden(&golden, &case, |t, x| embedding.apply(t, x, to));
        let gradient = outcome.gradients.get(embedding.table()).unwrap();
        let expected = golden.get(&format!("{case}.d_pos_embed"));
        assert_close(&case, gradient, &expected, REL);
        let resized = resize_position_embedding(&table, prefix, to).unwrap();
        embedding
            .with_table(to, |table| assert_eq!(values(&resized).len(), table.len()))
            .unwrap();
    }
}

/// What output `o` of `to` takes of each of `from` places along one side.
fn shares(from: usize, to: usize, o: usize) -> Vec<f64> {
    let cubic = |x: f64| match x.abs() {
        x if x < 1. => 1.5 * x.powi(3) - 2.5 * x.powi(2) + 1.,
        x if x < 2. => -0.5 * x.powi(3) + 2.5 * x.powi(2) - 4. * x + 2.,
        _ => 0.,
    };
    let scale = from as f64 / to as f64;
    let centre = (o as f64 + 0.5) * scale;
    let all: Vec<f64> = (0..from)
        .map(|i| cubic((i as f64 + 0.5 - centre) / scale.max(1.)))
        .collect();
    let total: f64 = all.iter().sum();
    all.iter().map(|share| share / total).collect()
}

#[test]
fn positions_have_the_gradient_of_differences_on_any_grid() {
    for (n, c, prefix, side, to) in [
        (1, 1, 0, 1, [1, 1]),
        (2, 2, 1, 2, [2, 2]),
        (2, 1, 1, 3, [2, 4]),
        (1, 2, 0, 1, [2, 1]),
    ] {
        let table = normal(3, (1, prefix + side * side, c));
        let (embedding, _) = positions(c, prefix, side, table);
        let tokens = prefix + to[0] * to[1];
        let reference = |inputs: &[Vec<f64>]| {
            let (mut y, table) = (inputs[0].clone(), &inputs[1]);
            for (i, y) in y.iter_mut().enumerate() {
                let (channel, token) = (i / tokens % c, i % tokens);
                *y += match token.checked_sub(prefix) {
                    None => table[token * c + channel],
                    Some(place) => {
                        let rows = shares(side, to[0], place / to[1]);
                        let columns = shares(side, to[1], place % to[1]);
                        let at = |p: usize| table[(prefix + p) * c + channel];
                        (0..side * side)
                            .map(|p| rows[p / side] * columns[p % side] * at(p))
                            .sum()
                    }
                };
            }
            y
        };
        check(
            "positions",
            &normal(2, (n, c, 1, tokens)),
            &[embedding.table()],
            |t, x| embedding.apply(t, x, to),
            reference,
        );
    }
}

#[test]
fn positions_that_do_not_fit_are_errors() {
    let (embedding, _) = positions(4, 1, 2, normal(1, (1, 5, 4)));
    for (shape, grid) in [
        ((1, 4, 1, 4), [2, 2]),
        ((1, 3, 1, 5), [2, 2]),
        ((1, 4, 1, 1), [0, 2]),
    ] {
        let (mut tape, x) = tape_input(shape);
        let error = embedding.apply(&mut tape, &x, grid).unwrap_err();
        assert!(error.to_string().contains("position_embedding: expected"));
    }
    let vb = Parameters::new(1).builder(DType::F32, &Device::Cpu);
    assert!(PositionEmbedding::new(0, 1, [2, 2], 0.02, vb.clone()).is_err());
    assert!(PositionEmbedding::new(4, 1, [2, 0], 0.02, vb).is_err());
}

#[test]
fn attention_gives_out_its_shares_and_keeps_its_bits() {
    let vb = Parameters::new(2).builder(DType::F32, &Device::Cpu);
    let linear = |from, to, name| Linear::new(from, to, true, vb.pp(name)).unwrap();
    let attention = |heads| {
        MultiHeadAttention::from_projections(linear(12, 36, "qkv"), linear(12, 12, "proj"), heads)
    };
    let three = attention(3).unwrap();
    assert!(attention(5).is_err() && attention(0).is_err());
    let wrong = MultiHeadAttention::from_projections(linear(12, 24, "a"), linear(12, 12, "b"), 3);
    assert!(
        wrong
            .unwrap_err()
            .to_string()
            .contains("found [24, 12, 12]")
    );

    let x = normal(1, (2, 12, 1, 9));
    let plain = run(&x, None, |t, x| three.apply(t, x));
    let mut given = None;
    let with_shares = run(&x, None, |t, x| {
        let (y, shares) = three.apply_with_shares(t, x)?;
        given = Some(shares);
        Ok(y)
    });
    assert_eq!(bits(&plain.y), bits(&with_shares.y));
    assert_eq!(bits(&plain.dx), bits(&with_shares.dx));
    let shares = given.unwrap();
    assert_eq!(shares.dims(), [2, 3, 9, 9]);
    // The output again, from the shares, with candle.
    let tokens = x.flatten_from(2).unwrap().transpose(1, 2).unwrap();
    let qkv = candle_nn::ModuleT::forward_t(three.in_proj(), &tokens, false).unwrap();
    // (N, T, 3C) -> (N, T, 3, heads, width) -> (N, heads, T, width)
    let v = qkv
        .reshape((2, 9, 3, 3, 4))
        .unwrap()
        .narrow(2, 2, 1)
        .unwrap();
    let v = v
        .squeeze(2)
        .unwrap()
        .transpose(1, 2)
        .unwrap()
        .contiguous()
        .unwrap();
    let found = shares.matmul(&v).unwrap().transpose(1, 2).unwrap();
    let found = found.reshape((2, 9, 12)).unwrap();
    let y = candle_nn::ModuleT::forward_t(three.out_proj(), &found, false).unwrap();
    let y = y.transpose(1, 2).unwrap().reshape(x.shape()).unwrap();
    assert_close("from shares", &plain.y, &y, REL);
}

#[test]
fn a_frozen_linear_layer_is_the_layer_with_its_scale_folded_in() {
    let vb = Parameters::new(2).builder(DType::F32, &Device::Cpu);
    let (c_in, c_out, rows) = (21, 35, 9);
    let layer = Linear::with_init(
        c_in,
        c_out,
        Init::Randn {
            mean: 0.,
            stdev: 0.3,
        },
        Some(Init::Randn {
            mean: 0.,
            stdev: 1.,
        }),
        vb,
    )
    .unwrap();
    let x = normal(1, (rows, c_in));
    let expected = candle_nn::ModuleT::forward_t(&layer, &x, false).unwrap();
    let floats = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let run = |frozen: &FrozenLinear, finish| {
        let mut y = vec![f32::NAN; rows * c_out];
        frozen.run(&floats(&x), finish, &mut y).unwrap();
        y.iter().map(|v| f64::from(*v)).collect::<Vec<_>>()
    };
    let frozen = FrozenLinear::new(&layer, None).unwrap();
    assert_eq!((frozen.c_in(), frozen.c_out()), (c_in, c_out));
    assert_close_values(
        "plain",
        &run(&frozen, LinearFinish::Replace),
        &values(&expected),
        REL,
    );
    let gelu = values(&expected.gelu_erf().unwrap());
    assert_close_values("gelu", &run(&frozen, LinearFinish::Gelu), &gelu, REL);

    let scale = floats(&normal(3, c_out));
    let scaled = FrozenLinear::new(&layer, Some(&scale)).unwrap();
    let mut y = vec![1.; rows * c_out];
    let mut scratch = vec![f32::NAN; rows * c_out];
    scaled.run_add(&floats(&x), &mut scratch, &mut y).unwrap();
    let branch = expected.broadcast_mul(&normal(3, c_out)).unwrap();
    let sum: Vec<f64> = values(&branch).iter().map(|v| 1. + v).collect();
    let y: Vec<f64> = y.iter().map(|v| f64::from(*v)).collect();
    assert_close_values("residual", &y, &sum, REL);

    assert!(FrozenLinear::new(&layer, Some(&scale[1..])).is_err());
    let mut short = vec![0.; rows * c_out - 1];
    let error = frozen.run(&floats(&x), LinearFinish::Replace, &mut short);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("frozen_linear: 189 values to 314")
    );
    let mut y = vec![0.; rows * c_out];
    assert!(frozen.run_add(&floats(&x), &mut short, &mut y).is_err());
}
