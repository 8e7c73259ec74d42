//! Tokens against sequences written out.

mod support;

use fgvr_cuda::ops::tokens::{self, Learnt, Taken, Tokens};
use fgvr_cuda::{Array, DType, Machine, Real, Result};
use support::{Random, close, on_each_machine, pairs, rounded};

/// (images, places, channels): packs and not (an even sequence of channels that fill no pack, too), more
/// columns than threads, several slabs of images.
const SHAPES: &[[usize; 3]] = &[
    [3, 5, 8],
    [2, 3, 7],
    [37, 2, 24],
    [1, 4, 4],
    [2, 41, 64],
    [0, 2, 8],
];

/// Learnt tokens of two arrays, and whether positions are there, and for all tokens.
const LEARNT: &[([usize; 2], Option<bool>)] = &[
    ([1, 4], Some(false)),
    ([1, 0], Some(true)),
    ([2, 1], Some(true)),
    ([1, 3], None),
    ([0, 0], Some(true)),
];

fn made(
    machine: &dyn Machine,
    random: &mut Random,
    real: Real,
    len: usize,
) -> Result<(Vec<f64>, Array)> {
    let values = random.normals(len, 0., 1.);
    let stored = rounded(real, &values).into_iter().map(f64::from).collect();
    Ok((stored, Array::from_reals(machine, real, &values)?))
}

fn tolerance(real: Real) -> f64 {
    match real {
        Real::F32 => 1e-6,
        Real::Bf16 => 4e-3,
    }
}

#[test]
fn learnt_tokens_come_first_and_all_get_their_position() {
    on_each_machine(|machine, random| {
        for (real, ([n, places, c], (counts, positions))) in
            pairs(Real::ALL, &pairs(SHAPES, LEARNT))
        {
            let shape = Tokens {
                images: n,
                places,
                channels: c,
            };
            let prefix = counts[0] + counts[1];
            let (x, of_x) = made(machine, random, real, n * places * c)?;
            let learnt = [
                made(machine, random, Real::F32, counts[0] * c)?,
                made(machine, random, Real::F32, counts[1] * c)?,
            ];
            let skip = if positions == Some(false) { prefix } else { 0 };
            let (table, of_table) = made(machine, random, Real::F32, (prefix - skip + places) * c)?;
            let arrays: Vec<&Array> = learnt
                .iter()
                .map(|(_, array)| array)
                .filter(|array| !array.is_empty())
                .collect();
            let given = Learnt {
                tokens: &arrays,
                positions: positions.is_some().then_some(&of_table),
            };
            let y = tokens::embed(machine, &of_x, shape, given)?;
            let before: Vec<f64> = [&learnt[0].0[..], &learnt[1].0[..]].concat();
            let sequence = (prefix + places) * c;
            let value = |i: usize| {
                let (image, at) = (i / sequence, i % sequence);
                let token = match at.checked_sub(prefix * c) {
                    Some(at) => x[image * places * c + at],
                    None => before[at],
                };
                let position = at.checked_sub(skip * c).map(|at| table[at]);
                token + position.filter(|_| positions.is_some()).unwrap_or(0.)
            };
            let expected: Vec<f64> = (0..n * sequence).map(value).collect();
            close("y", &y.to_f32(machine)?, &expected, tolerance(real));

            let (d, dy) = made(machine, random, real, n * sequence)?;
            let found = tokens::embed_grad(machine, &dy, shape, given)?;
            let mut sums = vec![0.; sequence];
            d.iter()
                .enumerate()
                .for_each(|(i, d)| sums[i % sequence] += d);
            let of_patches: Vec<f64> = d
                .iter()
                .enumerate()
                .filter_map(|(i, d)| (i % sequence >= prefix * c).then_some(*d))
                .collect();
            close("dx", &found.x.to_f32(machine)?, &of_patches, 0.);
            let mut start = 0;
            assert_eq!(found.tokens.len(), arrays.len());
            for token in &found.tokens {
                let end = start + token.len();
                close("token", &token.to_f32(machine)?, &sums[start..end], 1e-5);
                start = end;
            }
            assert_eq!(found.positions.is_some(), positions.is_some());
            if let Some(table) = &found.positions {
                close(
                    "positions",
                    &table.to_f32(machine)?,
                    &sums[skip * c..],
                    1e-5,
                );
            }
        }
        Ok(())
    });
}

#[test]
fn taken_tokens_and_their_gradient() {
    on_each_machine(|machine, random| {
        for (real, [n, t, c]) in pairs(Real::ALL, SHAPES) {
            for range in [0..1, 1..t, 0..t, t..t] {
                let taken = Taken {
                    sequences: [n, t, c],
                    range: range.clone(),
                };
                let inside = |i: usize| range.contains(&(i / c % t));
                let (x, of_x) = made(machine, random, real, n * t * c)?;
                let y = tokens::take(machine, &of_x, &taken)?;
                let expected: Vec<f64> =
                    (0..x.len()).filter(|i| inside(*i)).map(|i| x[i]).collect();
                close("y", &y.to_f32(machine)?, &expected, 0.);
                let (d, dy) = made(machine, random, real, y.len())?;
                let mut next = d.iter();
                let dx: Vec<f64> = (0..x.len())
                    .map(|i| if inside(i) { *next.next().unwrap() } else { 0. })
                    .collect();
                let found = tokens::take_grad(machine, &dy, &taken)?;
                close("dx", &found.to_f32(machine)?, &dx, 0.);
                tokens::add_taken(machine, &of_x, &dy, &taken)?;
                let sum: Vec<f64> = x.iter().zip(&dx).map(|(x, d)| x + d).collect();
                close("sum", &of_x.to_f32(machine)?, &sum, tolerance(real));
            }
        }
        Ok(())
    });
}

#[test]
fn tokens_of_other_lengths_are_refused() {
    on_each_machine(|machine, _| {
        let x = Array::from_f32(machine, &[0.; 24])?;
        let shape = Tokens {
            images: 1,
            places: 3,
            channels: 8,
        };
        let part = Array::from_f32(machine, &[0.; 12])?;
        let whole = Array::from_f32(machine, &[0.; 8])?;
        let wide = Array::from_reals(machine, Real::Bf16, &[0.; 24])?;
        for (tokens, positions) in [
            (vec![&part], None),
            (vec![&whole; 3], None),
            (vec![&whole], Some(&part)),
            (vec![], Some(&wide)),
        ] {
            let learnt = Learnt {
                tokens: &tokens,
                positions,
            };
            assert!(tokens::embed(machine, &x, shape, learnt).is_err());
        }
        let taken = Taken {
            sequences: [1, 3, 8],
            range: 2..4,
        };
        assert!(tokens::take(machine, &x, &taken).is_err());
        assert!(tokens::take_grad(machine, &x, &taken).is_err());
        assert_eq!(wide.dtype(), DType::Bf16);
        Ok(())
    });
}
