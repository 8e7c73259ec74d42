//! One training step that stays on a device, up to the gradients.

use candle_core::{Result, Tensor};
use fgvr_nn::cuda::Array;
use fgvr_nn::cuda::ops::finite::all_finite;
use fgvr_nn::{Map, ParameterGradients};

use super::{AtFeaturesOnDevice, FurtherOnDevice, vectors, wide};
use crate::diagnostics::{Diagnostics, FeatureStatistics};
use crate::step::{Losses, Pictures, Report, StepInput, StepOutput};
use crate::{Addon, BaseOnDevice};

/// [`crate::step()`] of a base and add-ons that have such a form. Everything is started before anything is waited for:
/// the step's numbers, at its end.
pub(crate) fn step(
    base: &mut dyn BaseOnDevice,
    addons: &mut [&mut dyn Addon],
    input: StepInput<'_>,
) -> Result<StepOutput> {
    let device = base.device()?;
    let mut gradients = ParameterGradients::default();
    let [seen, other] = match input.views_there {
        Some(views) => views.clone(),
        None => {
            let [seen, other] = input.views.only_global("on a device")?;
            [device.send(seen)?, device.send(other)?]
        }
    };
    let pass = base.real_there([&seen, &other], input.images, &mut gradients)?;
    let h = wide(&device, &pass.first.features.pooled)?;
    let dh = wide(&device, &pass.first.at_pooled)?;
    let images = device.run(|m| Array::from_u32(m, input.images))?;
    let flag = {
        let key_h = wide(&device, &pass.key_pooled)?;
        let of_second = pass.second.as_ref().map(|second| &second.at_pooled);
        let of_second = of_second.map(|at| wide(&device, at)).transpose()?;
        let mut found = vec![&h, &dh, &key_h, &pass.found.queries, &pass.found.keys];
        found.extend(&of_second);
        device.run(|m| all_finite(m, &found))?
    };

    let mut more: Option<Map> = None;
    for addon in addons.iter_mut() {
        let Some(addon) = addon.on_device() else {
            continue;
        };
        let arrived = addon.at_features(&mut AtFeaturesOnDevice {
            device: &device,
            input: &input,
            images: &images,
            seen: &seen,
            pass: &pass,
            h: [&h, &dh],
        })?;
        more = match (more, arrived) {
            (Some(sum), Some(arrived)) => {
                let (into, from) = (sum.array()?, arrived.array()?);
                device.run(|m| fgvr_nn::cuda::ops::elementwise::add_to(m, into, from))?;
                Some(sum)
            }
            (sum, arrived) => sum.or(arrived),
        };
    }
    let kept = Kept {
        pooled: pass.first.features.pooled.clone(),
        map: (input.pictures).then(|| pass.first.features.map.clone()),
        gradient: pass.first.at_pooled.clone(),
        found: pass.found.clone(),
    };
    pass.backward(more.as_ref(), &mut gradients)?;
    for addon in addons.iter_mut() {
        let Some(addon) = addon.on_device() else {
            continue;
        };
        addon.further_passes(&mut FurtherOnDevice {
            device: &device,
            base: &mut *base,
            input: &input,
            seen: &seen,
            gradients: &mut gradients,
        })?;
    }

    // From here on the device is waited for.
    let found = kept.found.numbers(&device)?;
    let finite = found.loss.is_finite() && device.run(|m| flag.to_u32(m))?.iter().all(|f| *f == 1);
    let pooled = vector(&kept.pooled)?;
    let mut report = Report {
        losses: Losses {
            contrastive: found.loss,
            reconstruction: None,
            pair: None,
            terms: Vec::new(),
            total: found.loss,
        },
        diagnostics: Diagnostics {
            top1: found.top1,
            positive: found.positive,
            negative: found.negative,
            features: FeatureStatistics::of(&pooled)?,
            dead_fraction: None,
            pair_weight: 0.,
            pair: None,
        },
        figures: Vec::new(),
        pictures: match &kept.map {
            None => None,
            Some(map) => Some(Pictures {
                x: seen.to_tensor()?,
                reconstruction: None,
                perturbed: None,
                pair: None,
                map: map.to_tensor()?,
                gradient: vector(&kept.gradient)?,
                mask: None,
                maps: Vec::new(),
            }),
        },
        decoder_gradients: None,
    };
    for addon in addons.iter_mut() {
        if let Some(addon) = addon.on_device() {
            addon.report(&mut report, finite)?;
        }
    }
    let queries = device.values(&kept.found.queries)?;
    let n = input.images.len();
    let shape = (n, queries.len() / n.max(1));
    Ok(StepOutput {
        gradients,
        decoder_gradients: report.decoder_gradients,
        losses: report.losses,
        query: Tensor::from_vec(queries, shape, &candle_core::Device::Cpu)?,
        diagnostics: report.diagnostics,
        figures: report.figures,
        pictures: report.pictures,
    })
}

/// What the report reads of a pass whose tapes have run: of the first view, where both are queries.
struct Kept {
    pooled: Map,
    /// Only for pictures: it is large.
    map: Option<Map>,
    gradient: Map,
    found: super::Contrasted,
}

/// Pooled features as a tensor (N, C).
fn vector(map: &Map) -> Result<Tensor> {
    let [n, c] = vectors(map)?;
    // (N, C, 1, 1) -> (N, C)
    map.to_tensor()?.reshape((n, c))
}
