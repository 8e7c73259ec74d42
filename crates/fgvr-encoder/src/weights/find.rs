//! Which names of a file are the trunk: the layout and the prefix that explain the most.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::layout::{Layout, Target};
use super::tensor::TensorInfo;

/// The longest prefix and the most parts in it; real ones, such as
/// `state_dict.module.base_encoder.`, are much shorter. Bounds the work on a file of nested names.
const MAX_PREFIX: (usize, usize) = (200, 8);

/// A tensor of the file that gives a variable, or a third of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) name: String,
    pub(crate) third: Option<usize>,
}

/// The trunk found in a file.
#[derive(Clone, Debug)]
pub(crate) struct Trunk {
    pub(crate) layout: Layout,
    pub(crate) prefix: String,
    /// timm's names to tensors of the file: one, or query, key and value.
    pub(crate) pieces: BTreeMap<String, Vec<Piece>>,
    /// Other prefixes that the same network lies under, such as a momentum encoder's.
    pub(crate) others: Vec<String>,
}

impl fmt::Display for Trunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.layout.fmt(f)?;
        if self.prefix.is_empty() {
            return Ok(());
        }
        write!(f, " under {:?}", self.prefix)?;
        match method(&self.prefix) {
            Some(method) => write!(f, " ({method})"),
            None => Ok(()),
        }
    }
}

impl Trunk {
    /// Shape of each variable that the trunk gives, by timm's name. Incomplete thirds are left out.
    pub(crate) fn shapes(
        &self,
        tensors: &BTreeMap<String, TensorInfo>,
    ) -> BTreeMap<String, Vec<usize>> {
        let shape = |pieces: &Vec<Piece>| shape_of(pieces, tensors);
        let shapes = self.pieces.iter();
        shapes
            .filter_map(|(name, pieces)| Some((name.clone(), shape(pieces)?)))
            .collect()
    }
}

/// The shape that `pieces` make together; `None` where a third is missing, or several tensors claim
/// the same variable.
pub(crate) fn shape_of(
    pieces: &[Piece],
    tensors: &BTreeMap<String, TensorInfo>,
) -> Option<Vec<usize>> {
    let mut shape = tensors.get(&pieces.first()?.name)?.shape.clone();
    if let [Piece { third: None, .. }] = pieces {
        return Some(shape);
    }
    let thirds = pieces.iter().map(|piece| piece.third);
    let alike = |piece: &Piece| {
        tensors
            .get(&piece.name)
            .is_some_and(|info| info.shape == shape)
    };
    if !thirds.eq([Some(0), Some(1), Some(2)]) || !pieces.iter().all(alike) {
        return None;
    }
    let rows = shape.first_mut()?;
    *rows = rows.checked_mul(3)?;
    Some(shape)
}

/// Finds the trunk in `tensors`: of all layouts and prefixes the one under which the most variables
/// of `wanted` are found in name and shape. Without `wanted` every name of a trunk counts.
pub(crate) fn find(
    tensors: &BTreeMap<String, TensorInfo>,
    wanted: Option<&BTreeMap<String, Vec<usize>>>,
) -> Option<Trunk> {
    let mut best: Option<(Score, Trunk)> = None;
    let mut all: Vec<(usize, usize, String)> = Vec::new();
    for layout in Layout::ALL {
        for prefix in prefixes(layout, tensors, wanted) {
            let pieces = pieces(layout, &prefix, tensors, wanted);
            let fitting = pieces
                .iter()
                .filter(|(name, pieces)| fits(name, pieces, tensors, wanted))
                .count();
            if pieces.is_empty() {
                continue;
            }
            all.push((fitting, pieces.len(), prefix.clone()));
            let score = Score {
                fitting,
                named: pieces.len(),
                rank: std::cmp::Reverse((rank(&prefix), layout, prefix.len(), prefix.clone())),
            };
            if best.as_ref().is_none_or(|(other, _)| score > *other) {
                let trunk = Trunk {
                    layout,
                    prefix,
                    pieces,
                    others: Vec::new(),
                };
                best = Some((score, trunk));
            }
        }
    }
    let (score, mut trunk) = best?;
    let mut others: BTreeSet<String> = BTreeSet::new();
    for (fitting, named, prefix) in all {
        if (fitting, named) == (score.fitting, score.named) && prefix != trunk.prefix {
            others.insert(prefix);
        }
    }
    trunk.others = others.into_iter().collect();
    Some(trunk)
}

/// How well a layout and prefix explain a file; the order of the fields is the order of weight.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    fitting: usize,
    named: usize,
    rank: std::cmp::Reverse<(u8, Layout, usize, String)>,
}

/// What may stand before the trunk's names in this layout.
fn prefixes(
    layout: Layout,
    tensors: &BTreeMap<String, TensorInfo>,
    wanted: Option<&BTreeMap<String, Vec<usize>>>,
) -> BTreeSet<String> {
    let mut anchors: Vec<&str> = layout.anchors().to_vec();
    // A network with other names than the known ones: take its own as anchors.
    if let (Layout::Timm, Some(wanted)) = (layout, wanted) {
        anchors.extend(wanted.keys().take(4).map(String::as_str));
    }
    let mut prefixes = BTreeSet::new();
    for name in tensors.keys() {
        for anchor in &anchors {
            let Some(prefix) = name.strip_suffix(anchor) else {
                continue;
            };
            let (length, parts) = MAX_PREFIX;
            let whole = prefix.is_empty() || prefix.ends_with('.');
            if whole && prefix.len() <= length && prefix.split('.').count() <= parts + 1 {
                prefixes.insert(prefix.to_owned());
            }
        }
    }
    prefixes
}

/// The variables that the tensors under `prefix` give.
fn pieces(
    layout: Layout,
    prefix: &str,
    tensors: &BTreeMap<String, TensorInfo>,
    wanted: Option<&BTreeMap<String, Vec<usize>>>,
) -> BTreeMap<String, Vec<Piece>> {
    let mut found: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
    let under = tensors.range(prefix.to_owned()..).map(|(name, _)| name);
    for name in under.take_while(|name| name.starts_with(prefix)) {
        let short = &name[prefix.len()..];
        let own = wanted.is_some_and(|wanted| wanted.contains_key(short));
        let target = if layout == Layout::Timm && own {
            Some(Target {
                name: short.to_owned(),
                third: None,
            })
        } else {
            layout.translate(short)
        };
        if let Some(Target {
            name: target,
            third,
        }) = target
        {
            let pieces = found.entry(target).or_default();
            pieces.push(Piece {
                name: name.clone(),
                third,
            });
        }
    }
    for pieces in found.values_mut() {
        pieces.sort_by_key(|piece| piece.third);
    }
    found
}

/// Whether a variable is given in name and shape. Position embeddings may be of another grid.
fn fits(
    name: &str,
    pieces: &[Piece],
    tensors: &BTreeMap<String, TensorInfo>,
    wanted: Option<&BTreeMap<String, Vec<usize>>>,
) -> bool {
    let Some(shape) = shape_of(pieces, tensors) else {
        return false;
    };
    match wanted.map(|wanted| wanted.get(name)) {
        None => true,
        Some(None) => false,
        Some(Some(expected)) if name == "pos_embed" => shape.last() == expected.last(),
        Some(Some(expected)) => shape == *expected,
    }
}

/// Which of several encoders in one file is meant; the lowest is preferred.
///
/// The trained encoder comes before its moving average, but for DINO the average, the teacher, is
/// the one its authors evaluate, and a checkpoint of timm's keeps an average for the same reason.
fn rank(prefix: &str) -> u8 {
    let part = |wanted: &[&str]| prefix.split('.').any(|part| wanted.contains(&part));
    if part(&["optimizer", "optimizers", "optimizer_states"]) {
        return 9;
    }
    if part(&["state_dict_ema", "model_ema"]) {
        return 0;
    }
    let copies = [
        "momentum",
        "encoder_k",
        "key_encoder",
        "encoder_key",
        "target_",
        "student",
        "_ema",
        "ema_",
    ];
    if copies.iter().any(|copy| prefix.contains(copy)) {
        return 2;
    }
    1
}

/// The method that has such prefixes.
fn method(prefix: &str) -> Option<&'static str> {
    const METHODS: &[(&str, &str)] = &[
        ("module.encoder_q.", "MoCo's query encoder"),
        ("module.encoder_k.", "MoCo's key encoder"),
        ("base_encoder.", "MoCo v3's base encoder"),
        ("momentum_encoder.", "MoCo v3's momentum encoder"),
        ("teacher", "DINO's teacher"),
        ("student", "DINO's student"),
        ("online_network.", "BYOL's online network"),
        ("online_encoder.", "BYOL's online network"),
        ("target_network.", "BYOL's target network"),
        ("target_encoder.", "BYOL's target network"),
        ("_ema.", "a moving average"),
        ("backbone.", "a backbone"),
    ];
    let mut methods = METHODS.iter();
    methods.find_map(|(part, method)| prefix.contains(part).then_some(*method))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::tensor::StoredType;

    fn tensors(names: &[&str]) -> BTreeMap<String, TensorInfo> {
        let info = TensorInfo {
            shape: vec![2, 2],
            dtype: StoredType::F32,
        };
        names
            .iter()
            .map(|name| ((*name).to_owned(), info.clone()))
            .collect()
    }

    #[test]
    fn query_key_and_value_make_one_tensor_and_nothing_else_does() {
        let part = |part| format!("encoder.layer.0.attention.attention.{part}.weight");
        let names = [
            "embeddings.cls_token".to_owned(),
            part("query"),
            part("key"),
            part("value"),
        ];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let shapes = |names: &[&str]| {
            let tensors = tensors(names);
            find(&tensors, None).unwrap().shapes(&tensors)
        };
        assert_eq!(shapes(&names)["blocks.0.attn.qkv.weight"], [6, 2]);
        assert!(!shapes(&names[..3]).contains_key("blocks.0.attn.qkv.weight"));
        // Three tensors that claim one variable are not its thirds.
        let claims = ["blocks.0.1", "blocks.1.1", "blocks.1"].map(|b| format!("{b}.norm1.weight"));
        let claims: Vec<&str> = claims.iter().map(String::as_str).collect();
        let found = shapes(&[&["register_tokens", "cls_token"], &claims[..]].concat());
        assert!(!found.contains_key("blocks.1.norm1.weight"), "{found:?}");
    }

    #[test]
    fn copies_of_a_network_come_after_the_one_that_was_trained() {
        for (better, worse) in [
            ("module.encoder_q.", "module.encoder_k."),
            ("module.base_encoder.", "module.momentum_encoder."),
            ("teacher.backbone.", "student.module.backbone."),
            ("teacher_backbone.", "student_backbone."),
            ("online_network.", "target_network."),
            ("backbone.", "momentum_backbone."),
            ("backbone.", "backbone_momentum."),
            ("state_dict_ema.", "state_dict."),
            ("state_dict.", "optimizer.state."),
        ] {
            let names = [better, worse].map(|prefix| format!("{prefix}conv1.weight"));
            let tensors = tensors(&[&names[0], &names[1]]);
            let trunk = find(&tensors, None).unwrap();
            assert_eq!(trunk.prefix, better);
            assert_eq!(trunk.others, [worse]);
        }
    }
}
