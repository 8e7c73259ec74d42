//! The layers of vision transformers.

use candle_core::Device::Cpu;
use candle_core::{D, DType, Result, Tensor};
use candle_nn::Init;
use fgvr_nn::layers::{
    AttentionConfig, Gelu, L2Normalise, LayerNorm, LayerNormConfig, LayerScale, MultiHeadAttention,
    PatchEmbed, PositionEmbedding, Softmax, add, prepend_tokens, take_tokens,
};
use fgvr_nn::{Device, Parameters, Tape};
use fgvr_testkit::{assert_close, normal};

use crate::support::{agrees, devices};

/// Three images of 2 x 5 places.
fn places(channels: usize) -> Tensor {
    normal(1, (3, channels, 2, 5))
}

#[test]
fn a_layer_norm() {
    // A warp a row, and rows that do not fill packs.
    for channels in [24, 7] {
        agrees("layer norm", &places(channels), |vb| {
            let layer = LayerNorm::new(channels, &LayerNormConfig::default(), vb.pp("norm"))?;
            Ok(Box::new(move |tape, x| layer.apply(tape, x)))
        });
    }
}

#[test]
fn a_layer_scale() {
    agrees("layer scale", &places(24), |vb| {
        let layer = LayerScale::new(24, 0.1, vb)?;
        Ok(Box::new(move |tape, x| layer.apply(tape, x)))
    });
}

#[test]
fn gelu_softmax_and_l2_normalise() {
    agrees("gelu", &places(24), |_| {
        Ok(Box::new(|tape, x| Gelu.apply(tape, x)))
    });
    agrees("softmax", &places(24), |_| {
        Ok(Box::new(|tape, x| Softmax.apply(tape, x)))
    });
    agrees("l2_normalise", &places(24), |_| {
        Ok(Box::new(|tape, x| L2Normalise::default().apply(tape, x)))
    });
}

#[test]
fn l2_normalise_on_a_device_refuses_an_eps_of_zero() {
    for (device, _) in devices() {
        let mut tape = Tape::inference().on(Some(&device));
        let x = tape.input(&places(8), false).unwrap();
        let error = L2Normalise { eps: 0. }.apply(&mut tape, &x).unwrap_err();
        assert!(error.to_string().contains("more than 0"), "{error}");
    }
}

#[test]
fn an_attention_with_and_without_biases() {
    // Heads of 8 channels go to tensor cores in bf16, heads of 6 do not.
    for (channels, heads, bias) in [(16, 2, true), (18, 3, false)] {
        agrees("attention", &places(channels), |vb| {
            let config = AttentionConfig { heads, bias };
            let layer = MultiHeadAttention::new(channels, &config, vb)?;
            Ok(Box::new(move |tape, x| layer.apply(tape, x)))
        });
    }
}

/// What the queries, or the first alone, give to each token.
fn shares(first: bool, device: Option<&Device>) -> Result<Tensor> {
    let vb = Parameters::new(3).builder(DType::F32, &Cpu);
    let config = AttentionConfig {
        heads: 2,
        bias: true,
    };
    let layer = MultiHeadAttention::new(16, &config, vb)?;
    let mut tape = Tape::inference().on(device);
    // Larger values, so that shares are far from equal.
    let x = tape.input(&(places(16) * 3.)?, false)?;
    let (_, shares) = match first {
        true => layer.apply_with_first_shares(&mut tape, &x)?,
        false => layer.apply_with_shares(&mut tape, &x)?,
    };
    Ok(shares)
}

#[test]
fn the_shares_of_an_attention() {
    for first in [true, false] {
        for (device, allowed) in devices() {
            let expected = shares(first, None).unwrap();
            let found = shares(first, Some(&device)).unwrap();
            assert_close(&format!("{device:?}"), &found, &expected, allowed);
            let sums = found.sum_keepdim(D::Minus1).unwrap();
            assert_close("sums", &sums, &sums.ones_like().unwrap(), 1e-5);
        }
    }
}

#[test]
fn an_embedding_of_patches() {
    agrees("patch_embed", &normal(2, (2, 3, 8, 12)), |vb| {
        let layer = PatchEmbed::new(3, 16, 4, vb)?;
        Ok(Box::new(move |tape, x| layer.apply(tape, x)))
    });
}

#[test]
fn learnt_tokens_before_those_of_patches() {
    // No token, one kind, two, and more than a kernel takes at once.
    for kinds in 0..4 {
        agrees(&format!("{kinds} kinds of tokens"), &places(8), |vb| {
            let init = Init::Randn {
                mean: 0.,
                stdev: 1.,
            };
            let tokens: Vec<Tensor> = (0..kinds)
                .map(|kind| vb.get_with_hints((1, kind + 1, 8), &format!("token{kind}"), init))
                .collect::<Result<_>>()?;
            Ok(Box::new(move |tape, x| {
                prepend_tokens(tape, x, &tokens.iter().collect::<Vec<_>>())
            }))
        });
    }
}

#[test]
fn positions_on_their_own_grid_and_on_another() {
    for (prefix, grid) in [(1, [2, 3]), (1, [3, 4]), (0, [3, 4]), (2, [1, 2])] {
        let tokens = prefix + grid[0] * grid[1];
        let what = format!("{prefix} tokens and {grid:?} places");
        agrees(&what, &normal(2, (3, 8, 1, tokens)), |vb| {
            let layer = PositionEmbedding::new(8, prefix, [2, 3], 1., vb)?;
            Ok(Box::new(move |tape, x| layer.apply(tape, x, grid)))
        });
    }
}

#[test]
fn tokens_taken_out_of_sequences_that_others_read_too() {
    let sequences = normal(2, (3, 8, 1, 7));
    agrees("ranges that overlap", &sequences, |_| {
        Ok(Box::new(|tape, x| {
            let first = take_tokens(tape, x, 0..4, (2, 2))?;
            let last = take_tokens(tape, x, 3..7, (2, 2))?;
            add(tape, &first, &last)
        }))
    });
    // When the way back comes to what was taken, the gradient there is at work elsewhere, too.
    agrees("a gradient held twice", &sequences, |_| {
        Ok(Box::new(|tape, x| {
            let other = Gelu.apply(tape, x)?;
            let taken = take_tokens(tape, x, 0..7, (1, 7))?;
            let sum = add(tape, x, &other)?;
            add(tape, &sum, &taken)
        }))
    });
}
