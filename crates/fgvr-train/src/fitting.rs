//! Which batch a GPU's memory would hold.

use fgvr_data::Splits;
use fgvr_nn::{Device, Exhausted};

use crate::config::PretrainConfig;
use crate::loader::loader;
use crate::out_of_memory::found;
use crate::teacher::stand_in;
use crate::{Compute, Error, Result, Trainer};

/// The share of the memory that is planned with; the rest is for what else lives there, and what its pool cannot use.
const USABLE: f64 = 0.95;

/// What to say of a step that memory was short of: how short, and which batch would fit.
pub(crate) fn explain(
    config: &PretrainConfig,
    splits: &Splits,
    compute: &Compute,
    device: &Device,
    short: Exhausted,
) -> Error {
    let batch = config.loader.batch;
    let found = found(batch, device, short);
    let advice = match largest(config, splits, compute, device) {
        Ok(Some(fits)) if fits > 0 => {
            format!("about {fits} would fit, by the peaks of smaller batches")
        }
        Ok(Some(_)) => {
            "not even one would fit: choose a narrower network or smaller images".to_owned()
        }
        Ok(None) | Err(_) => "try half as many".to_owned(),
    };
    Error::Config {
        key: format!("loader.batch={batch}"),
        problem: format!("{found}; {advice} (optimizer.accumulate makes up for a smaller one)"),
    }
}

/// The largest batch that would fit, from what an eighth and a quarter of the batch need; none where the
/// batch cannot be divided so.
fn largest(
    config: &PretrainConfig,
    splits: &Splits,
    compute: &Compute,
    device: &Device,
) -> Result<Option<usize>> {
    let batch = config.loader.batch;
    let (small, large) = (batch / 8, batch / 4);
    if small < 2 || !batch.is_multiple_of(8) {
        return Ok(None);
    }
    let peak = |batch: usize| -> Result<usize> {
        let mut trial = config.clone();
        trial.loader.batch = batch;
        trial.optimizer.accumulate = 1;
        // Two steps: generated pairs come with the second, once the bank holds a batch.
        trial.optimizer.steps = Some(2);
        trial.begin_pairs_at_once()?;
        let images = splits.train.len();
        let teacher = stand_in(&trial, images)?;
        let mut trainer = Trainer::taught(&trial, images, teacher.as_ref(), compute)?;
        let mut loader = loader(&trial, splits, None, 0)?;
        device.reset_peak();
        for _ in 0..2 {
            trainer.step(&[loader.next()?], false)?;
        }
        // In a run, two views of the batch that comes next are there too, as f32.
        let ahead = match trainer.step_device().is_some() {
            true => 2 * batch * 3 * trial.data.size.pow(2) * size_of::<f32>(),
            false => 0,
        };
        Ok(device.memory()?.peak + ahead)
    };
    let (of_small, of_large) = (peak(small)?, peak(large)?);
    let each = (of_large as f64 - of_small as f64) / (large - small) as f64;
    if each <= 0. {
        return Ok(None);
    }
    let fixed = of_small as f64 - each * small as f64;
    let fits = (USABLE * device.memory()?.total as f64 - fixed) / each;
    // A float beyond the range becomes its end; no batch is larger than the one that did not fit.
    Ok(Some((fits as usize).min(batch - 1)))
}
