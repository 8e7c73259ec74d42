//! Steps that stay on a device: heads, losses and pairs there too, and nothing comes back before the step's numbers.
//!
//! A base and add-ons that have such a form take it where their networks live on a device; all others run their heads
//! and losses on the CPU, as without one, and what their trunks say crosses over.

mod compare;
mod contrast;
mod masked;
mod pair;
mod step;

use candle_core::{Result, bail};
use fgvr_nn::cuda::ops::layout;
use fgvr_nn::cuda::{Array, DType};
use fgvr_nn::{Device, FeatureMaps, Map, ParameterGradients, Tape};

pub use self::compare::Comparison;
pub(crate) use self::compare::compare;
pub(crate) use self::contrast::{Contrasted, Held, contrast};
pub(crate) use self::masked::BankThere;
pub(crate) use self::pair::{PairOnDevice, has_form};
pub(crate) use self::step::step;
use crate::step::{Report, StepInput};

/// A base whose step stays on a device.
pub trait BaseOnDevice {
    /// Where.
    ///
    /// # Errors
    /// Networks that are on the CPU.
    fn device(&self) -> Result<Device>;

    /// Query branches of a pass: 2 for a base that is symmetric in the views. Add-ons have a form for one.
    fn branches(&self) -> usize {
        1
    }

    /// As [`Base::real`](crate::Base::real), through the head and back to the features: the head's gradients join
    /// `gradients`.
    ///
    /// # Errors
    /// Shapes that do not fit; what the device says.
    fn real_there(
        &mut self,
        views: [&Map; 2],
        images: &[u32],
        gradients: &mut ParameterGradients,
    ) -> Result<PassOnDevice>;

    /// As [`Base::generated`](crate::Base::generated), of `weight` times the loss; of a base with one query branch.
    ///
    /// # Errors
    /// As [`BaseOnDevice::real_there`], and a base that has no form for it.
    fn generated_there(
        &mut self,
        _pair: [&Map; 2],
        _weight: f64,
        _images: &[u32],
        _gradients: &mut ParameterGradients,
    ) -> Result<PassOnDevice> {
        bail!("on a device: this base sends no generated pairs there")
    }
}

/// A query pass of the trunk, whose loss has been carried back to its features.
pub struct BranchOnDevice {
    pub(crate) tape: Tape,
    pub(crate) features: FeatureMaps,
    /// The gradient at its pooled features, as a map like them.
    pub(crate) at_pooled: Map,
}

/// A pass whose loss has been carried back to the features, and no further.
pub struct PassOnDevice {
    /// That of the first view.
    pub(crate) first: BranchOnDevice,
    /// That of the second one, where it is a query too.
    pub(crate) second: Option<BranchOnDevice>,
    pub(crate) found: Contrasted,
    /// The key encoder's pooled features of the other view, as a map.
    pub(crate) key_pooled: Map,
}

impl PassOnDevice {
    /// Runs the trunk's tapes, with `more` added to the gradient at the first one's pooled features.
    pub(crate) fn backward(
        self,
        more: Option<&Map>,
        gradients: &mut ParameterGradients,
    ) -> Result<()> {
        self.first.backward(more, gradients)?;
        match self.second {
            Some(second) => second.backward(None, gradients),
            None => Ok(()),
        }
    }
}

impl BranchOnDevice {
    fn backward(self, more: Option<&Map>, gradients: &mut ParameterGradients) -> Result<()> {
        let pooled = &self.features.pooled;
        let mut arrived = vec![(pooled, &self.at_pooled)];
        arrived.extend(more.map(|more| (pooled, more)));
        self.tape.backward_from(&arrived, gradients)?;
        Ok(())
    }
}

/// An add-on that takes part in a step that stays on a device.
pub trait AddonOnDevice {
    /// As [`Addon::at_features`](crate::Addon::at_features): what joins the gradient at the pooled features.
    ///
    /// # Errors
    /// Shapes that do not fit; what the device says.
    fn at_features(&mut self, step: &mut AtFeaturesOnDevice<'_>) -> Result<Option<Map>>;

    /// As [`Addon::further_passes`](crate::Addon::further_passes).
    ///
    /// # Errors
    /// As [`AddonOnDevice::at_features`].
    fn further_passes(&mut self, step: &mut FurtherOnDevice<'_>) -> Result<()>;

    /// Puts its numbers into the report, now that everything has been started. `finite` says whether the loss, its
    /// gradient at the features and the key features are: only then is anything remembered.
    ///
    /// # Errors
    /// What the device says.
    fn report(&mut self, report: &mut Report, finite: bool) -> Result<()>;
}

/// A real pass that has been carried back to its features.
pub struct AtFeaturesOnDevice<'a> {
    /// Where.
    pub device: &'a Device,
    /// The batch.
    pub input: &'a StepInput<'a>,
    /// Its images, u32 (N).
    pub images: &'a Array,
    /// The images that the queries were made of (N, H, W, 3).
    pub seen: &'a Map,
    /// The pass.
    pub pass: &'a PassOnDevice,
    /// The pooled features h and ∂L_C/∂h, (N, C) of f32 each.
    pub h: [&'a Array; 2],
}

/// A step whose real pass is through.
pub struct FurtherOnDevice<'a> {
    /// Where.
    pub device: &'a Device,
    /// The base.
    pub base: &'a mut dyn BaseOnDevice,
    /// The batch.
    pub input: &'a StepInput<'a>,
    /// The images that the real pass's queries were made of (N, H, W, 3).
    pub seen: &'a Map,
    /// The step's gradients so far.
    pub gradients: &'a mut ParameterGradients,
}

/// The values of a map as f32.
pub(crate) fn wide(device: &Device, map: &Map) -> Result<Array> {
    let array = map.array()?;
    match array.dtype() {
        DType::F32 => Ok(array.clone()),
        _ => device.run(|m| layout::cast(m, array, DType::F32)),
    }
}

/// Rows of f32 (N, C) as a map (N, 1, 1, C) in the device's type.
pub(crate) fn narrow(device: &Device, rows: &Array, [n, c]: [usize; 2]) -> Result<Map> {
    let dtype = device.real().into();
    let array = match dtype {
        DType::F32 => rows.clone(),
        _ => device.run(|m| layout::cast(m, rows, dtype))?,
    };
    Map::new(device, [n, 1, 1, c], array)
}

/// Rows and channels of a map of one place.
pub(crate) fn vectors(map: &Map) -> Result<[usize; 2]> {
    match map.shape() {
        [n, 1, 1, c] => Ok([n, c]),
        shape => bail!("expected pooled features (N, 1, 1, C), found {shape:?}"),
    }
}
