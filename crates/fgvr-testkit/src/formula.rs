//! Weights and images computed from a name and an index, the same bits here and in
//! `benches/torch/formula.py`.
//!
//! A network filled so can be compared with another program's without sending it the weights, and
//! golden files hold outputs alone. Values are finite, of both signs and of the size that keeps
//! activations of deep networks at order one; no two tensors are alike, so that exchanged ones show.

use candle_core::{Device, Result, Tensor, Var};

/// Side of the squares of one brightness in [`images`].
const COARSE: usize = 16;

/// `count` values in [-1, 1), multiples of 2^-23: the upper 24 bits of splitmix64 over the counter
/// that begins after FNV-1a of `name`.
#[must_use]
pub fn uniform_of(name: &str, count: usize) -> Vec<f64> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (1..=count as u64)
        .map(|i| {
            let z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.
        })
        .collect()
}

/// Middle and half width of the values of the parameter called `name`, in timm's names.
fn range(name: &str, dims: &[usize]) -> (f64, f64) {
    let last = name.rsplit('.').next().unwrap_or(name);
    let fan_in = dims.iter().skip(1).product::<usize>().max(1) as f64;
    match (last, dims.len()) {
        ("running_mean", _) => (0., 0.25),
        ("running_var", _) => (1., 0.5),
        ("gamma", _) => (0.5, 0.25),
        ("cls_token" | "reg_token" | "pos_embed", _) => (0., 0.5),
        // What ends a branch counts a quarter, or each block would double the variance, and dozens
        // of batch norms in a row would magnify rounding a hundredfold.
        ("weight", 1) if name.ends_with("bn3.weight") => (0.25, 0.0625),
        ("weight", 1) if name.ends_with("bn2.weight") => (0.5, 0.125),
        ("weight", 1) => (1., 0.25),
        (_, 0 | 1) => (0., 0.25),
        // A uniform value has a third of the variance of its square's maximum; a ReLU halves it.
        (_, 4) if !name.starts_with("patch_embed") => (0., (6. / fan_in).sqrt()),
        _ => (0., (3. / fan_in).sqrt()),
    }
}

/// What the parameter called `name`, of shape `dims`, holds.
#[must_use]
pub fn weights(name: &str, dims: &[usize]) -> Vec<f32> {
    let (middle, half) = range(name, dims);
    uniform_of(name, dims.iter().product())
        .into_iter()
        .map(|u| (middle + half * u) as f32)
        .collect()
}

/// Sets each variable to [`weights`] of its name.
///
/// # Errors
/// None in practice: candle checks shapes.
pub fn fill<'a>(variables: impl IntoIterator<Item = (&'a String, &'a Var)>) -> Result<()> {
    for (name, variable) in variables {
        let values = weights(name, variable.dims());
        let values = Tensor::from_vec(values, variable.shape(), variable.device())?;
        variable.set(&values.to_dtype(variable.dtype())?)?;
    }
    Ok(())
}

/// Images (N, 3, H, W) called `name`: squares of 16 pixels of one colour each, in [-1, 1), with noise
/// of half that size upon them.
///
/// # Errors
/// None in practice: candle checks shapes.
pub fn images(name: &str, [n, h, w]: [usize; 3]) -> Result<Tensor> {
    let (rows, columns) = (h.div_ceil(COARSE), w.div_ceil(COARSE));
    let coarse = uniform_of(&format!("{name}.coarse"), n * 3 * rows * columns);
    let fine = uniform_of(&format!("{name}.fine"), n * 3 * h * w);
    let values = fine.into_iter().enumerate().map(|(i, fine)| {
        let (plane, y, x) = (i / (h * w), i / w % h, i % w);
        let square = (plane * rows + y / COARSE) * columns + x / COARSE;
        (coarse[square] + 0.5 * fine) as f32
    });
    Tensor::from_vec(values.collect(), (n, 3, h, w), &Device::Cpu)
}

/// A number that two programs with the same `values` agree on: the sum over i of (i + 1) times the
/// bits of value i, modulo 2^64.
#[must_use]
pub fn checksum(values: &[f32]) -> u64 {
    values.iter().zip(1u64..).fold(0, |sum, (value, i)| {
        sum.wrapping_add(i.wrapping_mul(u64::from(value.to_bits())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `python benches/torch/formula.py` prints them.
    const CHECKSUMS: &[(&str, &[usize], u64)] = &[
        ("conv1.weight", &[64, 3, 7, 7], 0x014b_e5bd_4746_7d1d),
        (
            "layer2.0.downsample.0.weight",
            &[128, 64, 1, 1],
            0x00fd_2339_8062_c216,
        ),
        ("layer1.0.bn2.weight", &[64], 0x0000_01ff_7d22_02b8),
        ("layer3.5.bn3.running_var", &[1024], 0x0001_fbec_de15_e48a),
        ("pos_embed", &[1, 197, 192], 0x150f_1ca3_008d_03e2),
        (
            "blocks.11.attn.qkv.weight",
            &[576, 192],
            0xb26b_2019_afd7_bda4,
        ),
        ("blocks.3.ls2.gamma", &[384], 0x0000_46f8_e90a_ad19),
    ];

    #[test]
    fn weights_have_the_bits_that_numpy_computes() {
        for (name, dims, expected) in CHECKSUMS {
            assert_eq!(checksum(&weights(name, dims)), *expected, "{name}");
        }
    }

    #[test]
    fn images_have_the_bits_that_numpy_computes() {
        let images = images("images", [2, 40, 24]).unwrap();
        let values: Vec<f32> = images.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(checksum(&values), 0x007c_a3cc_8f47_c246);
    }

    #[test]
    fn values_lie_in_the_range_of_their_role() {
        let within = |name: &str, dims: &[usize], low: f32, high: f32| {
            let values = weights(name, dims);
            assert_eq!(values.len(), dims.iter().product::<usize>());
            assert!(values.iter().all(|v| (low..high).contains(v)), "{name}");
            let spread = values
                .iter()
                .fold(0f32, |m, v| m.max((v - values[0]).abs()));
            assert!(spread > 0.4 * (high - low), "{name}: {spread}");
        };
        within("layer1.0.bn1.running_var", &[64], 0.5, 1.5);
        within("layer1.0.bn1.running_mean", &[64], -0.25, 0.25);
        within("layer1.0.bn1.weight", &[64], 0.75, 1.25);
        within("blocks.0.ls1.gamma", &[64], 0.25, 0.75);
        within("norm.bias", &[64], -0.25, 0.25);
        within("blocks.0.attn.qkv.weight", &[64, 12], -0.5, 0.5);
        within("conv1.weight", &[16, 6, 2, 2], -0.5, 0.5);
        within("patch_embed.proj.weight", &[16, 3, 2, 2], -0.5, 0.5);
    }

    #[test]
    fn every_name_has_values_of_its_own() {
        assert_ne!(weights("a.bias", &[9]), weights("b.bias", &[9]));
        assert_eq!(weights("a.bias", &[9])[..4], weights("a.bias", &[4]));
    }
}
