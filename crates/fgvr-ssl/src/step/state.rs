//! Saving and loading by name: what bases and add-ons make of their variables and counters.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use fgvr_nn::Parameters;

/// The tensor called `name`, of shape `dims`.
///
/// # Errors
/// No such tensor, and one of another shape.
pub fn take<'a>(
    state: &'a HashMap<String, Tensor>,
    name: &str,
    dims: &[usize],
) -> Result<&'a Tensor> {
    match state.get(name) {
        None => bail!("{name}: not among the {} tensors given", state.len()),
        Some(tensor) if tensor.dims() != dims => {
            bail!("{name}: expected shape {dims:?}, found {:?}", tensor.dims())
        }
        Some(tensor) => Ok(tensor),
    }
}

/// Counters as an i64 tensor, which safetensors can hold.
///
/// # Errors
/// A counter beyond `i64::MAX`.
pub fn words(values: &[u64]) -> Result<Tensor> {
    let values = values
        .iter()
        .map(|v| i64::try_from(*v).map_err(candle_core::Error::wrap))
        .collect::<Result<Vec<_>>>()?;
    let len = values.len();
    Tensor::from_vec(values, len, &Device::Cpu)
}

/// The counters that [`words`] wrote.
///
/// # Errors
/// A tensor that is not one of counters.
pub fn counters(tensor: &Tensor) -> Result<Vec<u64>> {
    tensor
        .to_dtype(DType::I64)?
        .to_vec1::<i64>()?
        .into_iter()
        .map(|v| u64::try_from(v).map_err(candle_core::Error::wrap))
        .collect()
}

/// `parts` in one map, each name under its prefix.
pub(crate) fn prefixed(
    parts: impl IntoIterator<Item = (&'static str, BTreeMap<String, Tensor>)>,
) -> BTreeMap<String, Tensor> {
    parts
        .into_iter()
        .flat_map(|(prefix, part)| {
            part.into_iter()
                .map(move |(name, tensor)| (format!("{prefix}.{name}"), tensor))
        })
        .collect()
}

/// The tensors under `prefix`, without it.
#[must_use]
pub fn under(state: &HashMap<String, Tensor>, prefix: &str) -> HashMap<String, Tensor> {
    state
        .iter()
        .filter_map(|(name, tensor)| {
            let name = name.strip_prefix(prefix)?.strip_prefix('.')?;
            Some((name.to_owned(), tensor.clone()))
        })
        .collect()
}

/// A copy of every variable of `stores`, each name under its prefix, and `extra`.
///
/// # Errors
/// What a device says that variables are on.
pub fn of_stores(
    stores: &[(&'static str, &Parameters)],
    extra: impl IntoIterator<Item = (&'static str, Tensor)>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut state = BTreeMap::new();
    for (prefix, store) in stores {
        store.to_host()?;
        for (name, var) in store.all() {
            state.insert(format!("{prefix}.{name}"), var.as_tensor().copy()?);
        }
    }
    let extra = extra.into_iter();
    state.extend(extra.map(|(name, tensor)| (name.to_owned(), tensor)));
    Ok(state)
}

/// Checks that `given` has exactly the names and shapes of `own`.
///
/// # Errors
/// The first that is missing, of another shape, or too many.
pub fn check(own: &BTreeMap<String, Tensor>, given: &HashMap<String, Tensor>) -> Result<()> {
    for (name, tensor) in own {
        take(given, name, tensor.dims())?;
    }
    match given.keys().find(|name| !own.contains_key(*name)) {
        Some(name) => bail!("{name}: no tensor of this network"),
        None => Ok(()),
    }
}

/// The trainable variables of `stores`, each name under its prefix.
#[must_use]
pub fn trainable(stores: &[(&'static str, &Parameters)]) -> BTreeMap<String, Var> {
    let stores = stores.iter();
    stores
        .flat_map(|(prefix, store)| {
            let vars = store.trainable().into_iter();
            vars.map(move |(name, var)| (format!("{prefix}.{name}"), var))
        })
        .collect()
}
