//! Variables that are drawn toward what they were.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, Var, bail};

use super::low_rank::starts;
use crate::Device;

/// Variables that are drawn toward what they were at the start: after each step of an optimiser with the rate lr
/// p = p - lr s (p - p0), as weight decay draws toward zero (L2-SP, arXiv:1802.01483, decoupled from the gradient as in AdamW).
pub struct Anchor {
    strength: f64,
    held: BTreeMap<String, (Var, Tensor)>,
}

impl Anchor {
    /// Draws `vars` to what they are now.
    ///
    /// # Errors
    /// A strength below 0.
    pub fn new(vars: BTreeMap<String, Var>, strength: f64) -> Result<Self> {
        if !(strength.is_finite() && strength >= 0.) {
            bail!("anchor: strength {strength}, expected 0 or more");
        }
        let held = vars.into_iter().map(|(name, var)| {
            let start = var.as_tensor().copy()?;
            Ok((name, (var, start)))
        });
        Ok(Self {
            strength,
            held: held.collect::<Result<_>>()?,
        })
    }

    /// Draws the variables back after a step at the rate `lr`, also where they are resident on `device`.
    ///
    /// # Errors
    /// What the device says.
    pub fn draw(&self, lr: f64, device: Option<&Device>) -> Result<()> {
        let share = lr * self.strength;
        if share == 0. {
            return Ok(());
        }
        for (var, start) in self.held.values() {
            if let Some(device) = device {
                device.download(var)?;
            }
            let back = ((var.as_tensor() - start)? * share)?;
            var.set(&(var.as_tensor() - back)?)?;
            if let Some(device) = device {
                device.upload(var)?;
            }
        }
        Ok(())
    }

    /// What a resumed run needs: `NAME.start` of each variable.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let start = |(name, (_, start)): (&String, &(Var, Tensor))| {
            (format!("{name}.start"), start.clone())
        };
        self.held.iter().map(start).collect()
    }

    /// Takes over what [`Anchor::state`] gave.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape; nothing is changed then.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let starts = starts(self.held.iter().map(|(name, (var, _))| (name, var)), state)?;
        for ((_, held), start) in self.held.values_mut().zip(starts) {
            *held = start;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device as Cpu;

    #[test]
    fn an_anchor_draws_back_by_rate_and_strength() {
        let var = Var::new(&[1f32, 2.], &Cpu::Cpu).unwrap();
        let anchor = Anchor::new(BTreeMap::from([("p".to_owned(), var.clone())]), 5.).unwrap();
        var.set(&Tensor::new(&[3f32, 2.], &Cpu::Cpu).unwrap())
            .unwrap();
        anchor.draw(0.1, None).unwrap();
        assert_eq!(var.to_vec1::<f32>().unwrap(), [2., 2.]);
        anchor.draw(0., None).unwrap();
        assert_eq!(var.to_vec1::<f32>().unwrap(), [2., 2.]);
        assert!(Anchor::new(BTreeMap::new(), -1.).is_err());
    }
}
