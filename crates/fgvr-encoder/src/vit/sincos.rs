//! The fixed position embeddings made of sines and cosines of a patch's row and column.

use std::f64::consts::E;

/// Ratio of the longest wave to the shortest.
const TEMPERATURE: f64 = 10_000.;

/// Which direction the first half of the channels tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// MoCo v3's (arXiv:2104.02057).
    Rows,
    /// Those of masked autoencoders (arXiv:2111.06377).
    Columns,
}

/// The embedding of `rows` * `columns` patches, (rows * columns, C), for C a multiple of four: a quarter of the
/// channels each is the sine and the cosine of one direction's place, then of the other's.
pub(crate) fn table(first: First, [rows, columns]: [usize; 2], channels: usize) -> Vec<f32> {
    let waves = channels / 4;
    let decay = |i: usize| E.powf(-TEMPERATURE.ln() * i as f64 / waves as f64);
    let mut values = Vec::with_capacity(rows * columns * channels);
    for row in 0..rows {
        for column in 0..columns {
            let places = match first {
                First::Rows => [row, column],
                First::Columns => [column, row],
            };
            for place in places {
                let angles = (0..waves).map(|i| place as f64 * decay(i));
                values.extend(angles.clone().map(|angle| angle.sin() as f32));
                values.extend(angles.map(|angle| angle.cos() as f32));
            }
        }
    }
    values
}

/// Which table the embedding of a square grid is, class token first and without a position; `None` for any other,
/// such as one that was trained. `values` are (1 + side * side, C).
pub(crate) fn recognise(values: &[f32], channels: usize) -> Option<First> {
    /// What values of 16 bits are off.
    const ROUNDING: f32 = 4e-3;
    if channels == 0 || !channels.is_multiple_of(4) || !values.len().is_multiple_of(channels) {
        return None;
    }
    let side = (values.len() / channels).checked_sub(1)?.isqrt();
    let (class, places) = values.split_at(channels);
    // On a grid of one place the two are the same.
    if side < 2 || places.len() != side * side * channels {
        return None;
    }
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= ROUNDING);
    let zeros = vec![0.; channels];
    let both = [First::Rows, First::Columns].into_iter();
    both.filter(|_| near(class, &zeros))
        .find(|first| near(places, &table(*first, [side; 2], channels)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_rows_and_columns_apart() {
        // 2 rows, 3 columns, one wave: sin and cos of the row, then of the column
        let values = table(First::Rows, [2, 3], 4);
        let at = |place: usize| &values[4 * place..4 * place + 4];
        let (sin, cos) = (|x: f64| x.sin() as f32, |x: f64| x.cos() as f32);
        assert_eq!(at(0), [0., 1., 0., 1.]);
        assert_eq!(at(2), [0., 1., sin(2.), cos(2.)]);
        assert_eq!(at(3), [sin(1.), cos(1.), 0., 1.]);
        assert_eq!(
            table(First::Columns, [2, 3], 4)[4 * 3..4 * 4],
            [0., 1., sin(1.), cos(1.)]
        );
        // The second of two waves is a hundred times as long.
        assert!((table(First::Rows, [2, 1], 8)[9] - 0.01f64.sin() as f32).abs() < 1e-7);
    }

    #[test]
    fn a_table_is_recognised_and_a_trained_embedding_is_not() {
        for first in [First::Rows, First::Columns] {
            let mut values = vec![0.; 16];
            values.extend(table(first, [3, 3], 16));
            assert_eq!(recognise(&values, 16), Some(first));
            values[40] += 0.02;
            assert_eq!(recognise(&values, 16), None);
        }
        assert_eq!(recognise(&[0.; 32], 16), None);
        assert_eq!(recognise(&[], 16), None);
        assert_eq!(recognise(&[0.; 30], 15), None);
    }
}
