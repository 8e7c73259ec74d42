//! Moving averages of variables that are resident on a device.

use candle_core::{Result, Var, bail};
use fgvr_cuda::ops::average::{Averages, Pair};

use crate::Device;

/// A variable that follows another, of the same shape.
#[derive(Clone, Debug)]
pub struct Following {
    /// What is followed.
    pub online: Var,
    /// What follows.
    pub target: Var,
    /// Whether the target takes the values as they are, as running statistics may be.
    pub copied: bool,
}

/// target = momentum target + (1 - momentum) online (Eq. 2 of MoCo, arXiv:1911.05722), or online where it is copied,
/// of variables that are resident on `device`.
///
/// # Errors
/// Variables that live elsewhere, a momentum outside [0, 1]; what the device says.
pub fn follow(device: &Device, variables: &[Following], momentum: f64) -> Result<()> {
    let mut pairs = Vec::with_capacity(variables.len());
    for Following {
        online,
        target,
        copied,
    } in variables
    {
        let (Some(online), Some(target)) = (device.resident(online), device.resident(target))
        else {
            bail!("moving average: a variable is not resident on {device:?}");
        };
        pairs.push(Pair {
            target,
            online,
            copied: *copied,
        });
    }
    device.run(|m| Averages::new(m, &pairs)?.update(m, momentum))?;
    device.values_changed();
    Ok(())
}
