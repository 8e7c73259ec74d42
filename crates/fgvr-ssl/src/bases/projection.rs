//! Features on their way through heads: on candle's autograd on the host, on a tape of their own on a device.

use candle_core::{Result, Tensor};
use fgvr_nn::{Activation, Tape};

use crate::{Branch, Rows, Values};

/// Vectors on their way through heads.
pub(crate) struct Projection {
    pub(crate) values: Values,
    /// On a device.
    pub(crate) tape: Option<Tape>,
    /// Whose features they were: the branch's view.
    pub(crate) view: usize,
}

impl Projection {
    /// The pooled features of a query pass.
    pub(crate) fn of(branch: &Branch) -> Result<Self> {
        Self::from(&branch.pooled(), branch.view)
    }

    /// Features whose gradient is asked for.
    pub(crate) fn from(features: &Values, view: usize) -> Result<Self> {
        Self::on_tape(features, view, Tape::recording())
    }

    /// Features without a way back.
    pub(crate) fn constant(features: &Values) -> Result<Self> {
        Self::on_tape(&features.detach(), 0, Tape::inference())
    }

    fn on_tape(features: &Values, view: usize, tape: Tape) -> Result<Self> {
        let (values, tape) = match features {
            Values::Host(tensor) => (Values::Host(tensor.clone()), None),
            Values::Device(map) => {
                let mut tape = tape.on(map.device());
                let entered = match tape.is_recording() {
                    true => tape.enter(map)?,
                    false => tape.constant(map)?,
                };
                (Values::Device(entered), Some(tape))
            }
        };
        Ok(Self { values, tape, view })
    }

    /// The output of a head, given in both forms.
    pub(crate) fn through(
        mut self,
        host: impl FnOnce(&Tensor) -> Result<Tensor>,
        on_tape: impl FnOnce(&mut Tape, &Activation) -> Result<Activation>,
    ) -> Result<Self> {
        self.values = match (&self.values, &mut self.tape) {
            (Values::Host(tensor), _) => Values::Host(host(tensor)?),
            (Values::Device(map), Some(tape)) => Values::Device(on_tape(tape, map)?),
            (Values::Device(map), None) => {
                candle_core::bail!("heads: {map:?} is on no tape")
            }
        };
        Ok(self)
    }

    /// Each divided by its length, without a way back.
    pub(crate) fn unit(&self) -> Result<Rows> {
        self.values.unit()
    }
}
