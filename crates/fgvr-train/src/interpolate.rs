//! Weights between those of a start and those of what was trained from it.

use std::collections::HashMap;

use candle_core::Tensor;
use fgvr_nn::Parameters;

use crate::{Error, Result};

/// Every variable as (1 - `share`) of that of `start` and `share` of that of `trained`, by name, computed in f64 and rounded once.
/// At 0 and 1 they are those of the one and of the other, bit for bit (WiSE-FT, arXiv:2109.01903).
///
/// # Design choice
/// Running statistics of batch norm are variables like others here, means as well as variances. The variance of a mixture of two
/// networks' activations is not between the two in general; with `optimizer.trunk_norm = "running"` both are the start's, and
/// nothing is to choose.
///
/// # Errors
/// A variable that one of the two lacks or has in another shape: these are no two states of one network.
pub(crate) fn interpolated(
    [start, trained]: [&Parameters; 2],
    share: f64,
) -> Result<HashMap<String, Tensor>> {
    let of_start = start.all();
    let mut made = HashMap::new();
    for (name, trained) in trained.all() {
        let start = match of_start.get(&name) {
            Some(start) if start.dims() == trained.dims() => start,
            found => {
                let found = found.map_or("nothing of this name".to_owned(), |found| {
                    format!("one of {:?}", found.dims())
                });
                return Err(Error::config(
                    "interpolation",
                    format!(
                        "{name} is of {:?} in the trained network, and the start has {found}; weights lie between two states of one network",
                        trained.dims()
                    ),
                ));
            }
        };
        let [a, b] = [start.as_tensor(), trained.as_tensor()].map(|tensor| {
            let flat = tensor.flatten_all()?;
            flat.to_vec1::<f32>()
        });
        let between = a?.into_iter().zip(b?).map(|(a, b)| {
            let (a, b) = (f64::from(a), f64::from(b));
            ((1. - share) * a + share * b) as f32
        });
        let values = Vec::from_iter(between);
        let tensor = Tensor::from_vec(values, trained.dims(), trained.device())?;
        made.insert(name, tensor);
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn network(shape: &[usize], seed: u64) -> Parameters {
        let parameters = Parameters::new(seed);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let init = candle_nn::init::DEFAULT_KAIMING_NORMAL;
        vb.get_with_hints(shape, "conv.weight", init).unwrap();
        let one = candle_nn::Init::Const(seed as f64);
        vb.get_with_hints(3, "norm.running_var", one).unwrap();
        parameters
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn both_ends_are_the_networks_themselves_and_the_middle_is_their_mean() {
        let [start, trained] = [1, 4].map(|seed| network(&[3, 5], seed));
        for (share, same) in [(0., &start), (1., &trained)] {
            let found = interpolated([&start, &trained], share).unwrap();
            for (name, var) in same.all() {
                assert_eq!(values(&found[&name]), values(&var), "{name} {share}");
            }
        }
        let found = interpolated([&start, &trained], 0.5).unwrap();
        assert_eq!(values(&found["norm.running_var"]), [2.5; 3]);
        let [a, b] = [&start, &trained].map(|p| values(&p.all()["conv.weight"]));
        for ((found, a), b) in values(&found["conv.weight"]).iter().zip(a).zip(b) {
            assert!((found - (a + b) / 2.).abs() < 1e-6);
        }
    }

    #[test]
    fn two_networks_are_refused_with_the_variable_that_differs() {
        let both = [network(&[3, 5], 1), network(&[3, 4], 2)];
        let error = interpolated([&both[0], &both[1]], 0.5)
            .unwrap_err()
            .to_string();
        for words in ["conv.weight", "[3, 4]", "[3, 5]"] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}
