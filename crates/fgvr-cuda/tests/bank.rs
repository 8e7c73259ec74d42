//! The feature bank's kernels against two passes over the rows in f64.

mod support;

use fgvr_cuda::ops::bank::Bank;
use fgvr_cuda::{Array, Machine, Result};
use support::{Random, close, on_each_machine};

/// Rows about a mean that is far from zero, some channels of which are dead or constant.
fn rows(random: &mut Random, count: usize, channels: usize) -> Vec<f32> {
    let mut rows = random.normals(count * channels, 100., 0.5);
    for row in rows.chunks_mut(channels) {
        row[0] = 0.;
        row[channels - 1] = 0.3;
    }
    rows
}

/// The rows by slot after pushes of `pushes`, and the next slot.
fn ring(pushes: &[Vec<f32>], capacity: usize, channels: usize) -> (Vec<Vec<f64>>, usize) {
    let (mut slots, mut next) = (Vec::new(), 0);
    for row in pushes.iter().flat_map(|push| push.chunks(channels)) {
        let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
        match slots.get_mut(next) {
            Some(slot) => *slot = row,
            None => slots.push(row),
        }
        next = (next + 1) % capacity;
    }
    (slots, next)
}

fn mean(rows: &[Vec<f64>], channel: usize) -> f64 {
    rows.iter().map(|row| row[channel]).sum::<f64>() / rows.len() as f64
}

fn variance(rows: &[Vec<f64>], channel: usize) -> f64 {
    let mean = mean(rows, channel);
    let off = |row: &Vec<f64>| (row[channel] - mean).powi(2);
    rows.iter().map(off).sum::<f64>() / rows.len() as f64
}

fn compare(machine: &dyn Machine, bank: &Bank, slots: &[Vec<f64>]) -> Result<()> {
    let channels = slots[0].len();
    let each = |of: &dyn Fn(usize) -> f64| (0..channels).map(of).collect::<Vec<_>>();
    let norm = |row: &Vec<f64>| row.iter().map(|v| v * v).sum::<f64>().sqrt();
    let unit: Vec<Vec<f64>> = slots
        .iter()
        .map(|row| row.iter().map(|v| v / norm(row).max(1e-300)).collect())
        .collect();
    for normalise in [false, true] {
        let made = bank.statistics(machine, normalise)?;
        let deviation = each(&|c| variance(slots, c).sqrt());
        close(
            "mean",
            &made.mean.to_f32(machine)?,
            &each(&|c| mean(slots, c)),
            1e-7,
        );
        close(
            "deviation",
            &made.deviation.to_f32(machine)?,
            &deviation,
            1e-6,
        );
        let expected = match normalise {
            true => each(&|c| variance(&unit, c)),
            false => each(&|c| variance(slots, c)),
        };
        let found = made.variance.to_f32(machine)?;
        for (found, expected) in found.iter().zip(&expected) {
            let off = (f64::from(*found) - expected).abs();
            assert!(off <= 1e-6 * expected + 1e-15, "{found} {expected}");
        }
        let dead = each(&|c| f64::from(u8::from(slots.iter().all(|row| row[c] == 0.))));
        close("dead", &made.dead.to_f32(machine)?, &dead, 0.);
    }
    Ok(())
}

#[test]
fn statistics_are_those_of_the_last_rows() {
    on_each_machine(|machine, random| {
        // (capacity, channels, rows of each push): not yet full, around the end, more than all at once.
        let cases: &[(usize, usize, &[usize])] = &[
            (40, 5, &[7]),
            (10, 33, &[4, 4, 4]),
            (7, 64, &[3, 20]),
            (100, 40, &[100, 9]),
            (1, 3, &[1, 1]),
            (3000, 3, &[2500]),
        ];
        for (capacity, channels, pushes) in cases {
            let pushes: Vec<Vec<f32>> = pushes
                .iter()
                .map(|count| rows(random, *count, *channels))
                .collect();
            let mut bank = Bank::new(machine, *capacity, *channels, false)?;
            for push in &pushes {
                bank.push(machine, &Array::from_f32(machine, push)?, None)?;
            }
            let (slots, next) = ring(&pushes, *capacity, *channels);
            assert_eq!((bank.len(), bank.position()), (slots.len(), next));
            let found = bank.rows().to_f32(machine)?;
            let stored: Vec<f64> = slots.iter().flatten().copied().collect();
            close("rows", &found[..stored.len()], &stored, 0.);
            compare(machine, &bank, &slots)?;
        }
        Ok(())
    });
}

#[test]
fn a_row_of_zeros_stays_zero_when_normalised() {
    on_each_machine(|machine, _| {
        let mut bank = Bank::new(machine, 4, 2, false)?;
        let rows = [0., 0., 3., 4., 3., 4.];
        bank.push(machine, &Array::from_f32(machine, &rows)?, None)?;
        let slots = [[0., 0.], [3., 4.], [3., 4.]].map(|row| row.to_vec());
        compare(machine, &bank, &slots)
    });
}

#[test]
fn variance_between_images_is_what_the_views_share() {
    on_each_machine(|machine, random| {
        for (capacity, channels, count) in [(50, 6, 31), (9, 35, 20), (600, 2, 500)] {
            let firsts = vec![rows(random, count, channels)];
            let noise = random.normals(count * channels, 0., 0.3);
            let seconds = vec![
                firsts[0]
                    .iter()
                    .zip(noise)
                    .map(|(v, n)| if *v == 0. { 0. } else { v + n })
                    .collect::<Vec<f32>>(),
            ];
            let mut bank = Bank::new(machine, capacity, channels, true)?;
            let pair = [&firsts[0], &seconds[0]].map(|v| Array::from_f32(machine, v));
            let [first, second] = pair;
            bank.push(machine, &first?, Some(&second?))?;
            let (a, _) = ring(&firsts, capacity, channels);
            let (b, _) = ring(&seconds, capacity, channels);
            let found = bank.between(machine)?.to_f32(machine)?;
            for (c, found) in found.into_iter().enumerate() {
                let (of_a, of_b) = (mean(&a, c), mean(&b, c));
                let product = |(a, b): (&Vec<f64>, &Vec<f64>)| (a[c] - of_a) * (b[c] - of_b);
                let covariance = a.iter().zip(&b).map(product).sum::<f64>() / a.len() as f64;
                let square = ((of_a + of_b) / 2.).powi(2);
                let expected = if square == 0. {
                    0.
                } else {
                    covariance / square
                };
                let off = (f64::from(found) - expected).abs();
                assert!(off <= 1e-5 * expected.abs() + 1e-12, "{found} {expected}");
            }
            compare(machine, &bank, &a)?;
        }
        Ok(())
    });
}

#[test]
fn a_restored_bank_goes_on_as_before() {
    on_each_machine(|machine, random| {
        let mut bank = Bank::new(machine, 6, 5, false)?;
        let pushes = [rows(random, 8, 5), rows(random, 3, 5)];
        let arrays = pushes.each_ref().map(|p| Array::from_f32(machine, p));
        let [first, second] = arrays;
        let second = second?;
        bank.push(machine, &first?, None)?;
        let mut other = Bank::new(machine, 6, 5, false)?;
        other.restore(machine, bank.rows(), None, bank.position())?;
        for bank in [&mut bank, &mut other] {
            bank.push(machine, &second, None)?;
            compare(machine, bank, &ring(&pushes, 6, 5).0)?;
        }
        assert_eq!(bank.position(), other.position());
        Ok(())
    });
}

#[test]
fn a_value_that_is_no_number_shows() {
    on_each_machine(|machine, _| {
        let mut bank = Bank::new(machine, 3, 2, false)?;
        let rows = Array::from_f32(machine, &[1., 2., f32::NAN, 4.])?;
        bank.push(machine, &rows, None)?;
        let raw = bank.statistics(machine, false)?;
        let found = raw.variance.to_f32(machine)?;
        assert!(found[0].is_nan() && found[1] == 1., "{found:?}");
        let unit = bank.statistics(machine, true)?.variance.to_f32(machine)?;
        assert!(unit.iter().all(|v| v.is_nan()), "{unit:?}");
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_each_machine(|machine, _| {
        let text = |found: Result<()>| found.err().map(|e| e.to_string()).unwrap_or_default();
        let made = Bank::new(machine, 0, 3, false).map(|_| ());
        assert_eq!(
            text(made),
            "feature bank: capacity and channels: expected both above 0, found 0 and 3"
        );
        let mut bank = Bank::new(machine, 2, 3, false)?;
        let statistics = bank.statistics(machine, true).map(|_| ());
        assert_eq!(
            text(statistics),
            "feature bank: rows: expected at least one, found none"
        );
        let rows = |len: usize| Array::from_f32(machine, &vec![1.; len]);
        assert_eq!(
            text(bank.push(machine, &rows(7)?, None)),
            "feature bank: rows: expected 6 of F32, found 7 of F32"
        );
        let three = rows(3)?;
        assert_eq!(
            text(bank.push(machine, &three, Some(&three))),
            "feature bank: second views: expected none, found some"
        );
        assert_eq!(
            text(bank.restore(machine, &three, None, 0)),
            "feature bank: position: expected one that fits 1 of 2 rows, found 0"
        );
        assert_eq!(
            text(bank.restore(machine, &rows(9)?, None, 0)),
            "feature bank: rows: expected at most 2, found 3"
        );
        let between = bank.between(machine).map(|_| ());
        assert_eq!(
            text(between),
            "feature bank: second views: expected some, found none"
        );
        Ok(())
    });
}
