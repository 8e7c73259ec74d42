//! Features that are no numbers say nothing of a photo, so they are neither judged nor written.

use candle_core::Tensor;

use crate::{Error, Result};

/// What to do where a run's encoder gives them.
pub(crate) const OF_A_RUN: &str = "its weights have grown out of range in training: take an earlier checkpoint \
     (--checkpoint best-val of embed and export), or train again with a lower optimizer.lr";
/// What to do where the weights are from elsewhere.
pub(crate) const OF_WEIGHTS: &str = "these weights lead out of the range of f32: fetch them again, and see in `fgvr \
     weights inspect` whether it is the file, the network and the preprocessing that were meant";

/// Counts photos whose features are not finite.
#[derive(Debug, Default)]
pub(crate) struct Finite {
    seen: usize,
    bad: usize,
    first: Option<String>,
}

impl Finite {
    /// Looks at `features` (n, C) of n photos; `id` names the photo of a row.
    pub(crate) fn look(&mut self, features: &Tensor, id: impl Fn(usize) -> String) -> Result<()> {
        let rows = features.flatten_from(1)?.to_vec2::<f32>()?;
        for (row, values) in rows.iter().enumerate() {
            self.seen += 1;
            if values.iter().any(|value| !value.is_finite()) {
                self.bad += 1;
                self.first.get_or_insert_with(|| id(row));
            }
        }
        Ok(())
    }

    /// An error if there were any.
    pub(crate) fn verdict(self, advice: &'static str) -> Result<()> {
        match self.first {
            None => Ok(()),
            Some(first) => Err(Error::NotFinite {
                bad: self.bad,
                photos: self.seen,
                first,
                advice,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn photos_are_counted_over_all_batches_and_the_first_is_named() {
        let batch = |rows: &[[f32; 2]]| {
            Tensor::from_vec(rows.concat(), (rows.len(), 2), &Device::Cpu).unwrap()
        };
        let name = |row: usize| format!("photo {row}");
        let mut finite = Finite::default();
        finite.look(&batch(&[[0., 1.], [2., -3.]]), name).unwrap();
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let bad = batch(&[[0., 1.], [nan, nan], [1., -inf]]);
        finite.look(&bad, name).unwrap();
        let error = finite.verdict(OF_A_RUN).unwrap_err();
        assert!(error.is_bad_input());
        let text = error.to_string();
        assert!(
            text.contains("2 of 5 photos") && text.contains("photo 1"),
            "{text}"
        );
        let mut finite = Finite::default();
        finite.look(&batch(&[[0., f32::MAX]]), name).unwrap();
        finite.verdict(OF_A_RUN).unwrap();
    }
}
