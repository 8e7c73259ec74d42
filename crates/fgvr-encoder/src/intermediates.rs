//! What a network computes on its way, by name.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, bail};
use fgvr_nn::{Activation, Device, FeatureMaps, Tape, images};

/// Collects the tensors that were asked for, and makes no other.
pub(crate) struct Intermediates<'a> {
    wanted: &'a [&'a str],
    found: BTreeMap<String, Tensor>,
}

impl<'a> Intermediates<'a> {
    /// Nothing is asked for: a plain pass.
    pub(crate) fn none() -> Self {
        Self {
            wanted: &[],
            found: BTreeMap::new(),
        }
    }

    /// `wanted` among the network's `names`.
    fn new(wanted: &'a [&'a str], names: &[String]) -> Result<Self> {
        for name in wanted {
            if !names.iter().any(|known| known == name) {
                bail!("intermediates: `{name}` is not among {}", names.join(", "));
            }
        }
        Ok(Self {
            wanted,
            found: BTreeMap::new(),
        })
    }

    /// Whether the pass is to keep what has this name.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wanted.contains(&name)
    }

    /// Keeps `tensor()` under `name` if it was asked for.
    pub(crate) fn see(
        &mut self,
        name: &str,
        tensor: impl FnOnce() -> Result<Tensor>,
    ) -> Result<()> {
        if self.wants(name) {
            self.found.insert(name.to_owned(), tensor()?);
        }
        Ok(())
    }
}

/// A pass for inference over `images` (N, 3, H, W), by `forward` on `device`: what it says, and the tensors that `wanted`
/// names among the network's `names`.
pub(crate) fn collect<'a>(
    wanted: &'a [&'a str],
    names: &[String],
    device: Option<&Device>,
    images: &Tensor,
    forward: impl FnOnce(&mut Tape, &Activation, &mut Intermediates<'a>) -> Result<FeatureMaps>,
) -> Result<(FeatureMaps, BTreeMap<String, Tensor>)> {
    let mut intermediates = Intermediates::new(wanted, names)?;
    let mut tape = Tape::inference().on(device);
    let images = images::input(&mut tape, images, false)?;
    let maps = forward(&mut tape, &images, &mut intermediates)?;
    Ok((maps, intermediates.found))
}
