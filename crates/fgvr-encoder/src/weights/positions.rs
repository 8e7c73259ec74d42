//! The position embedding brought to the network's shape: another grid of patches, and class and
//! register tokens with or without positions of their own.
//!
//! timm's DINOv2 with registers has positions for patches alone, Facebook's and transformers' one for
//! the class token too. A position that the network has no place for is added to its token, which
//! gives the same input of the first block; a position that the file lacks is zero, likewise.

use std::collections::BTreeMap;

use candle_core::{Result as CandleResult, Tensor};

use super::report::Reshaped;
use crate::Error;
use crate::vit::resample_position_embedding;

/// The variable.
pub(super) const NAME: &str = "pos_embed";
const CLASS: &str = "cls_token";
const REGISTERS: &str = "reg_token";

/// How a position embedding (1, P, C) is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    /// Tokens before the patches: none, the class token, or it and the registers.
    before: usize,
    /// Patches in each direction.
    side: usize,
}

impl Grid {
    /// The division of `tokens` positions in a network of so many registers.
    fn of(tokens: usize, registers: usize) -> Option<Self> {
        [0, 1, 1 + registers].into_iter().find_map(|before| {
            let places = tokens.checked_sub(before)?;
            let side = places.isqrt();
            (side > 0 && side * side == places).then_some(Self { before, side })
        })
    }

    /// Whether an embedding of shape `found` can be brought to `expected` in the network `wanted`.
    pub(super) fn can_become(
        found: &[usize],
        expected: &[usize],
        wanted: &BTreeMap<String, Vec<usize>>,
    ) -> bool {
        let registers = registers(wanted);
        match (found, expected) {
            (&[1, from, a], &[1, to, b]) => {
                a == b
                    && Self::of(from, registers).is_some()
                    && Self::of(to, registers).is_some()
                    && wanted.contains_key(CLASS)
            }
            _ => false,
        }
    }
}

fn registers(wanted: &BTreeMap<String, Vec<usize>>) -> usize {
    match wanted.get(REGISTERS).map(Vec::as_slice) {
        Some(&[_, registers, _]) => registers,
        _ => 0,
    }
}

/// Brings the position embedding in `values` to the shape `expected` in the network `wanted`, with
/// its tokens, and says what was done; `None` if it has that shape.
pub(super) fn fit(
    expected: &[usize],
    wanted: &BTreeMap<String, Vec<usize>>,
    values: &mut BTreeMap<String, Tensor>,
) -> Result<Option<Reshaped>, Error> {
    let Some(stored) = values.get(NAME).filter(|stored| stored.dims() != expected) else {
        return Ok(None);
    };
    let from = stored.dims().to_vec();
    let registers = registers(wanted);
    let (Some(old), Some(new)) = (
        Grid::of(from[1], registers),
        Grid::of(expected[1], registers),
    ) else {
        return Ok(None);
    };
    let how = bring(old, new, values).map_err(|source| Error::Tensor {
        name: NAME.to_owned(),
        source,
    })?;
    Ok(Some(Reshaped {
        name: NAME.to_owned(),
        from,
        to: expected.to_vec(),
        how: how.join("; "),
    }))
}

fn bring(old: Grid, new: Grid, values: &mut BTreeMap<String, Tensor>) -> CandleResult<Vec<String>> {
    let stored = values[NAME].clone();
    let mut how = Vec::new();
    // Positions without a place in the network: of the tokens `new.before..old.before`.
    if old.before > new.before {
        let mut add = |name: &str, first: usize, count: usize| {
            // (1, P, C) -> (1, count, C)
            let position = stored.narrow(1, first, count)?;
            match values.get_mut(name) {
                Some(token) => *token = (&*token + position)?,
                None => candle_core::bail!("{name}: not among the weights, to add its position to"),
            }
            CandleResult::Ok(())
        };
        if new.before == 0 {
            add(CLASS, 0, 1)?;
            how.push("the class token's position added to the class token".to_owned());
        }
        let first = new.before.max(1);
        if old.before > first {
            add(REGISTERS, first, old.before - first)?;
            how.push("the registers' positions added to the registers".to_owned());
        }
    }
    let (_, _, channels) = stored.dims3()?;
    let kept = stored.narrow(1, 0, old.before.min(new.before))?;
    let added = new.before.saturating_sub(old.before);
    let zeros = Tensor::zeros((1, added, channels), stored.dtype(), stored.device())?;
    if added > 0 {
        how.push(format!(
            "positions of zero for {added} tokens before the patches"
        ));
    }
    let patches = stored.narrow(1, old.before, old.side * old.side)?;
    // (1, g*g, C) -> (1, P + g*g, C)
    let mut positions = Tensor::cat(&[&kept, &zeros, &patches], 1)?;
    if old.side != new.side {
        how.push(format!(
            "grid of {0}x{0} resized to {1}x{1}, bicubic",
            old.side, new.side
        ));
        positions = resample_position_embedding(&positions, new.before, [new.side; 2])?;
    }
    values.insert(NAME.to_owned(), positions);
    Ok(how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_what_is_left_of_the_tokens_before_it() {
        let grid = |before, side| Some(Grid { before, side });
        assert_eq!(Grid::of(196, 0), grid(0, 14));
        assert_eq!(Grid::of(197, 0), grid(1, 14));
        assert_eq!(Grid::of(1369 + 5, 4), grid(5, 37));
        assert_eq!(Grid::of(1370, 4), grid(1, 37));
        assert_eq!(Grid::of(1369, 4), grid(0, 37));
        assert_eq!(Grid::of(7, 0), None);
        assert_eq!(Grid::of(0, 0), None);
    }
}
