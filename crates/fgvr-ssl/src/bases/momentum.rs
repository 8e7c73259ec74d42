//! The exponential moving average that makes a key encoder.

use std::collections::BTreeMap;

use candle_core::{Result, Var, bail};
use fgvr_nn::Parameters;
use fgvr_nn::optim::{Following, follow};

/// What becomes of a key encoder's running statistics of batch norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum RunningStatistics {
    /// Its own, of the images it saw, as in MoCo's released code.
    #[default]
    Own,
    /// Copied from the online encoder after each step.
    Copied,
}

/// How m of the moving average goes over the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum MomentumSchedule {
    /// 1 - (1 - m) (cos(π t/T) + 1)/2: from m at the first step t = 0 towards 1 at the last (BYOL,
    /// arXiv:2006.07733, section 3.2).
    #[default]
    Cosine,
    /// m throughout.
    Constant,
}

impl MomentumSchedule {
    /// m after `step` (from 0) of `steps`, starting at `momentum`. Beyond the last step it is 1.
    #[must_use]
    pub fn at(self, momentum: f64, step: u64, steps: u64) -> f64 {
        match self {
            Self::Constant => momentum,
            Self::Cosine => {
                let done = (step as f64 / steps as f64).min(1.);
                1. - (1. - momentum) * ((std::f64::consts::PI * done).cos() + 1.) / 2.
            }
        }
    }
}

/// Refuses an m of 1 or more, with which the target would stay as it was initialised.
pub(crate) fn check_momentum(base: &str, momentum: f64) -> Result<()> {
    if !(0. ..1.).contains(&momentum) {
        bail!(
            "{base}: momentum is {momentum}, expected 0 or more and less than 1; at 1 the target network would never learn, try 0.99"
        );
    }
    Ok(())
}

/// Refuses a temperature that nothing can be divided by.
pub(crate) fn check_temperature(base: &str, name: &str, temperature: f64) -> Result<()> {
    if !(temperature > 0. && temperature.is_finite()) {
        bail!("{base}: {name} is {temperature}, expected a positive number; try 0.2");
    }
    Ok(())
}

/// target <- m * target + (1 - m) * online for every trainable variable (Eq. 2 of MoCo,
/// arXiv:1911.05722), paired by name; running statistics as `statistics` says.
///
/// # Errors
/// Names or shapes that differ between the two, or m outside [0, 1]; nothing is changed then.
pub fn momentum_update(
    online: &Parameters,
    target: &Parameters,
    momentum: f64,
    statistics: RunningStatistics,
) -> Result<()> {
    if !(0. ..=1.).contains(&momentum) {
        bail!("momentum update: momentum is {momentum}, expected a number in [0, 1]");
    }
    let parameters = pairs(online.trainable(), target.trainable())?;
    let buffers = pairs(online.buffers(), target.buffers())?;
    let device = match (online.device(), target.device()) {
        (None, None) => None,
        (Some(here), Some(there)) if here.is(&there) => Some(here),
        (here, there) => {
            bail!(
                "momentum update: the networks live on {here:?} and {there:?}, expected one place"
            )
        }
    };
    if let Some(device) = device {
        let kept = if statistics == RunningStatistics::Copied {
            buffers
        } else {
            Vec::new()
        };
        let following = |copied| {
            move |(online, target): (Var, Var)| Following {
                online,
                target,
                copied,
            }
        };
        let all = parameters.into_iter().map(following(false));
        let all: Vec<_> = all.chain(kept.into_iter().map(following(true))).collect();
        return follow(&device, &all, momentum);
    }
    for (from, to) in parameters {
        let kept = (to.as_tensor() * momentum)?;
        to.set(&(kept + (from.as_tensor() * (1. - momentum))?)?)?;
    }
    if statistics == RunningStatistics::Copied {
        for (from, to) in buffers {
            to.set(&from.as_tensor().copy()?)?;
        }
    }
    Ok(())
}

/// Variables of the same name and shape.
fn pairs(
    online: BTreeMap<String, Var>,
    mut target: BTreeMap<String, Var>,
) -> Result<Vec<(Var, Var)>> {
    let mut pairs = Vec::with_capacity(online.len());
    for (name, from) in online {
        let Some(to) = target.remove(&name) else {
            bail!("momentum update: {name} is not a variable of the key network");
        };
        if from.dims() != to.dims() {
            bail!(
                "momentum update: {name} is {:?} in the key network, expected {:?}",
                to.dims(),
                from.dims()
            );
        }
        pairs.push((from, to));
    }
    match target.into_keys().next() {
        Some(name) => bail!("momentum update: {name} is not a variable of the online network"),
        None => Ok(pairs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::Init;

    /// Variables of one value each, created in the order given.
    fn network(values: &[(&str, f64)]) -> Parameters {
        let parameters = Parameters::new(0);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        for (name, value) in values {
            vb.get_with_hints(2, name, Init::Const(*value)).unwrap();
        }
        parameters
    }

    fn value(parameters: &Parameters, name: &str) -> f32 {
        parameters.all()[name].to_vec1::<f32>().unwrap()[0]
    }

    #[test]
    fn the_momentum_rises_from_its_start_to_one() {
        let cosine = |step| MomentumSchedule::Cosine.at(0.9, step, 100);
        assert!((cosine(0) - 0.9).abs() < 1e-12 && (cosine(50) - 0.95).abs() < 1e-12);
        assert_eq!([cosine(100), cosine(200)], [1., 1.]);
        assert_eq!(MomentumSchedule::Constant.at(0.9, 70, 100), 0.9);
    }

    #[test]
    fn variables_are_paired_by_name_whatever_their_order() {
        let online = network(&[("a", 1.), ("b", 2.), ("n.running_var", 9.)]);
        let target = network(&[("n.running_var", 5.), ("b", 20.), ("a", 10.)]);
        momentum_update(&online, &target, 0.75, RunningStatistics::Own).unwrap();
        assert_eq!((value(&target, "a"), value(&target, "b")), (7.75, 15.5));
        assert_eq!(value(&target, "n.running_var"), 5.);
        momentum_update(&online, &target, 1., RunningStatistics::Copied).unwrap();
        assert_eq!(
            (value(&target, "a"), value(&target, "n.running_var")),
            (7.75, 9.)
        );
        assert_eq!(value(&online, "a"), 1.);
    }

    #[test]
    fn a_name_without_partner_is_an_error_and_changes_nothing() {
        let online = network(&[("a", 1.), ("b", 2.)]);
        for names in [
            [("a", 0.), ("c", 0.)].as_slice(),
            &[("a", 0.)],
            &[("a", 0.), ("b", 0.), ("c", 0.)],
        ] {
            let target = network(names);
            let error = momentum_update(&online, &target, 0.5, RunningStatistics::Own).unwrap_err();
            assert!(
                error.to_string().contains("is not a variable of"),
                "{error}"
            );
            assert_eq!(value(&target, "a"), 0.);
        }
        assert!(momentum_update(&online, &online, 1.5, RunningStatistics::Own).is_err());
    }
}
