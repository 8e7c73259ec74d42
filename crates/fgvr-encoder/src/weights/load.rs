//! Values from opened weights into variables.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Result as CandleResult, Tensor};
use fgvr_nn::Parameters;

use super::allowed::Allowed;
use super::aside::aside;
use super::find::{self, Piece, Trunk};
use super::fit::Fit;
use super::found::FoundArchitecture;
use super::layout::Layout;
use super::positions::{self, Grid};
use super::report::{Ignored, LoadReport};
use super::{FileInfo, Weights};
use crate::{EncoderConfig, Error};

/// What [`load`] accepts.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct LoadOptions {
    /// Variables that may be missing or of another shape and then keep their values: whole names,
    /// or `layer4.*` for all that begin with `layer4.`.
    pub allow_missing: Vec<String>,
    /// What may say that the weights are of another network, and is then passed over: keys of
    /// `config.json` such as `architecture` or `model_args.act_layer`, and tensors of the trunk that have no
    /// place in the network, by whole names or `layer1.*` for all that begin with `layer1.`.
    pub allow_mismatch: Vec<String>,
    /// What the network was built from. Shapes do not show all of it: without this a transformer is taken to
    /// have 64 channels a head and norms of epsilon 1e-6.
    pub encoder: Option<EncoderConfig>,
}

/// Sets the variables of `parameters` from `weights`, whatever program named the tensors.
///
/// f32, f16, bf16 and f64 tensors are accepted. A position embedding of another grid is resized.
/// Nothing is set unless everything fits.
///
/// # Errors
/// [`Error::Architecture`], [`Error::NothingLoaded`], [`Error::Missing`] and [`Error::Shape`] for
/// weights of something else, [`Error::Unsupported`] for those that fit in all shapes and yet are of another
/// network; [`Error::DataType`], [`Error::NotFinite`]; what [`Weights::read`] gives.
pub fn load(
    parameters: &Parameters,
    weights: &Weights,
    options: &LoadOptions,
) -> Result<LoadReport, Error> {
    let vars = parameters.all();
    let wanted: BTreeMap<String, Vec<usize>> = vars
        .iter()
        .map(|(name, var)| (name.clone(), var.dims().to_vec()))
        .collect();
    let allowed = Allowed::new(&options.allow_missing);
    if let Some(pattern) = allowed.idle(wanted.keys().map(String::as_str)) {
        return Err(Error::AllowMissing {
            pattern: pattern.to_owned(),
            example: wanted.keys().next().cloned().unwrap_or_default(),
        });
    }
    let trunk = find::find(&weights.tensors, Some(&wanted));
    // A few names may fit by chance; a network does not.
    let needed = wanted.keys().filter(|name| !allowed.covers(name));
    let (needed, named) = needed.fold((0, 0), |(needed, named), name| {
        let has = trunk
            .as_ref()
            .is_some_and(|trunk| trunk.pieces.contains_key(name));
        (needed + 1, named + usize::from(has))
    });
    let Some(trunk) = trunk.filter(|_| named * 4 >= needed) else {
        return Err(nothing(weights, &wanted));
    };
    let plan = Plan::new(weights, &trunk, &wanted, &allowed)?;
    let fit = match FoundArchitecture::of(&wanted) {
        Some(found) => {
            let unused = unused(&plan.unexpected, &options.allow_mismatch, &trunk);
            let built = (&found, &wanted);
            let fit = Fit::new(weights, &trunk, built, options.encoder.as_ref(), &unused)?;
            fit.allowing(&options.allow_mismatch, weights, &trunk)?
        }
        // Variables of no network that has a name: nothing is known of what they compute.
        None => Fit::default(),
    };
    if !fit.mismatches.is_empty() {
        return Err(Error::Unsupported {
            from: weights.origin.clone(),
            mismatches: fit.mismatches,
        });
    }
    let mut notes = fit.notes;
    if weights.marks_adaptation() {
        notes.push(
            "its classifier layer is an adaptation of the features, no head over classes: no part of the trunk"
                .to_owned(),
        );
    }
    if !trunk.others.is_empty() {
        notes.push(format!(
            "the same network also lies under {}; taken was {:?}",
            quoted(&trunk.others),
            trunk.prefix
        ));
    }
    let mut report = LoadReport {
        from: weights.origin.clone(),
        files: weights.files().cloned().collect::<Vec<FileInfo>>(),
        layout: trunk.to_string(),
        prefix: trunk.prefix.clone(),
        architecture: weights.architecture.as_ref().map(ToString::to_string),
        loaded: Vec::new(),
        missing: plan.missing,
        unexpected: plan.unexpected,
        ignored: plan.ignored,
        reshaped: Vec::new(),
        preprocessing: weights.preprocessing.clone(),
        preprocessing_from: weights.preprocessing_from.clone(),
        metadata: weights.metadata.clone(),
        not_looked_at: fit.not_looked_at,
        notes,
    };
    let mut values = BTreeMap::new();
    for name in plan.fitting {
        let value = value(weights, &trunk.pieces[&name], vars[&name].dtype())?;
        values.insert(name, value);
    }
    if let Some(expected) = wanted.get(positions::NAME)
        && let Some(reshaped) = positions::fit(expected, &wanted, &mut values)?
    {
        let resized = reshaped.how.contains("resized");
        if resized && matches!(trunk.layout, Layout::Dino | Layout::TransformersVit) {
            report.notes.push(format!(
                "positions are resized with antialiasing, as timm does; {} goes without",
                match trunk.layout {
                    Layout::Dino => "DINOv2's own code",
                    _ => "transformers",
                }
            ));
        }
        report.reshaped.push(reshaped);
    }
    // Everything fits: from here on only a failure of candle's could stop us.
    for (name, value) in values {
        vars[&name].set(&value).map_err(|source| Error::Tensor {
            name: name.clone(),
            source,
        })?;
        report.loaded.push(name);
    }
    if let Some(device) = parameters.device() {
        let sent = parameters.to_device(&device);
        sent.map_err(|source| Error::Tensor {
            name: "the variables".to_owned(),
            source,
        })?;
    }
    Ok(report)
}

/// Which variables get a tensor, and what becomes of the rest, on both sides.
#[derive(Default)]
struct Plan {
    fitting: Vec<String>,
    missing: Vec<String>,
    unexpected: Vec<String>,
    ignored: Vec<Ignored>,
}

impl Plan {
    fn new(
        weights: &Weights,
        trunk: &Trunk,
        wanted: &BTreeMap<String, Vec<usize>>,
        allowed: &Allowed<'_>,
    ) -> Result<Self, Error> {
        let mut plan = Self::default();
        let mut set_aside = BTreeMap::new();
        let mut used = BTreeSet::new();
        let mut wrong_shape = None;
        let mut refused = Vec::new();
        for (name, expected) in wanted {
            let pieces = trunk
                .pieces
                .get(name)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let found = find::shape_of(pieces, &weights.tensors);
            let resizable = |found: &[usize]| {
                name == positions::NAME && Grid::can_become(found, expected, wanted)
            };
            if let Some(found) = &found
                && (found == expected || resizable(found))
            {
                plan.fitting.push(name.clone());
                used.extend(pieces.iter().map(|piece| piece.name.as_str()));
                continue;
            }
            let may_miss = allowed.covers(name);
            if let (Some(found), Some(first)) = (found, pieces.first()) {
                if may_miss {
                    let reason = format!("shape {found:?}, the variable's is {expected:?}");
                    set_aside.extend(pieces.iter().map(|piece| (&piece.name, reason.clone())));
                } else if wrong_shape.is_none() {
                    wrong_shape = Some(Error::Shape {
                        file: weights.file_of(&first.name),
                        name: first.name.clone(),
                        expected: expected.clone(),
                        found,
                    });
                }
            } else if !may_miss {
                refused.push(name.clone());
            }
            plan.missing.push(name.clone());
        }
        for name in weights.tensors.keys() {
            if used.contains(name.as_str()) {
                continue;
            }
            if let Some(reason) = set_aside.remove(name) {
                plan.ignore(name, reason);
                continue;
            }
            match aside(name, trunk) {
                Some(reason) => plan.ignore(name, reason),
                None => plan.unexpected.push(name.clone()),
            }
        }
        let whole = wrong_shape.is_none() && refused.is_empty();
        // More of a trunk than there are variables is another network, even if all of them fit.
        if whole && trunk.pieces.keys().all(|name| wanted.contains_key(name)) {
            return Ok(plan);
        }
        let found = FoundArchitecture::of(&trunk.shapes(&weights.tensors));
        match (found, FoundArchitecture::of(wanted)) {
            (Some(found), Some(expected)) if found != expected => Err(Error::Architecture {
                from: weights.origin.clone(),
                expected: expected.to_string(),
                found: found.to_string(),
            }),
            _ if whole => Ok(plan),
            _ => Err(wrong_shape.unwrap_or_else(|| Error::Missing {
                from: weights.origin.clone(),
                layout: trunk.to_string(),
                missing: refused,
                unexpected: plan.unexpected,
            })),
        }
    }

    fn ignore(&mut self, name: &str, reason: String) {
        self.ignored.push(Ignored {
            name: name.to_owned(),
            reason,
        });
    }
}

/// Those of the trunk's tensors `unexpected` that are not allowed to be left over.
pub(super) fn unused(unexpected: &[String], patterns: &[String], trunk: &Trunk) -> Vec<String> {
    let allowed = Allowed::new(patterns);
    let left = |name: &&String| {
        let short = name.strip_prefix(trunk.prefix.as_str()).unwrap_or(name);
        !allowed.covers(name) && !allowed.covers(short)
    };
    unexpected.iter().filter(left).cloned().collect()
}

/// The tensor that `pieces` make, in `dtype`, with every value finite.
fn value(weights: &Weights, pieces: &[Piece], dtype: DType) -> Result<Tensor, Error> {
    let mut parts = Vec::with_capacity(pieces.len());
    for Piece { name, .. } in pieces {
        let stored = weights.read(name)?;
        let read = || -> CandleResult<_> {
            let tensor = stored.to_dtype(dtype)?;
            let values = tensor
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            Ok((tensor, values.iter().all(|value| value.is_finite())))
        };
        match read() {
            Ok((tensor, true)) => parts.push(tensor),
            Ok((_, false)) => {
                return Err(Error::NotFinite {
                    file: weights.file_of(name),
                    name: name.clone(),
                });
            }
            Err(source) => {
                return Err(Error::Tensor {
                    name: name.clone(),
                    source,
                });
            }
        }
    }
    match parts.as_slice() {
        [one] => Ok(one.clone()),
        // Query, key and value, each (C, C) or (C): -> (3*C, C) or (3*C).
        several => Tensor::cat(several, 0).map_err(|source| Error::Tensor {
            name: pieces
                .first()
                .map(|piece| piece.name.clone())
                .unwrap_or_default(),
            source,
        }),
    }
}

fn nothing(weights: &Weights, wanted: &BTreeMap<String, Vec<usize>>) -> Error {
    let expected = FoundArchitecture::of(wanted);
    match (&weights.architecture, expected) {
        (Some(found), Some(expected)) if *found != expected => Error::Architecture {
            from: weights.origin.clone(),
            expected: expected.to_string(),
            found: found.to_string(),
        },
        _ => Error::NothingLoaded {
            from: weights.origin.clone(),
            found: weights.tensors.len(),
            expected: wanted.keys().next().cloned().unwrap_or_default(),
            example: weights.tensors.keys().next().cloned().unwrap_or_default(),
        },
    }
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    names.join(", ")
}
