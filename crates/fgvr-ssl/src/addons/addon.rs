//! What stands on a base: it sees every real pass before the trunk's tape runs, adds loss terms there, and
//! may run passes of its own afterwards.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, Var, bail};
use fgvr_nn::optim::AdamConfig;
use fgvr_nn::{Decoder, ParameterGradients, Parameters};
use fgvr_perturb::FeatureBank;

use crate::losses::found::Found;
use crate::losses::info_nce::scalar;
use crate::step::state::{check, of_stores, trainable, under};
use crate::step::{Finite, Report, StepInput, Term};
use crate::{AddonKind, Base, FeatureGradients, PairGate, Pass, Rows, Screening};

/// Under what an add-on's own variables are saved.
pub(crate) const OWN: &str = "addon";

/// Variables of an add-on that an optimiser of their own steps, apart from that of encoder and head.
pub struct OwnOptimizer<'a> {
    /// The variables. Their gradients are among those of the step.
    pub parameters: &'a Parameters,
    /// Whether steps give them gradients; otherwise they stay as they are.
    pub is_trained: bool,
    /// Which optimiser.
    pub adam: AdamConfig,
    /// Its learning rate, the same at every step.
    pub learning_rate: f64,
    /// Names of the variables and of the optimiser's moments where they are saved; the first also in records.
    pub files: [&'static str; 2],
}

/// An add-on. [`crate::step`] runs any number of them on one base.
pub trait Addon {
    /// Which one this is.
    fn kind(&self) -> AddonKind;

    /// Whether it has anything to add: one whose weights are all zero stands on any base.
    fn is_active(&self) -> bool {
        true
    }

    /// Whether its own losses run on the host, wherever those of the base do: the features that they read come over,
    /// and their gradients go back.
    fn runs_on_host(&self) -> bool {
        true
    }

    /// Its part while the trunk's tapes are still to run: losses of the real pass's features, by
    /// [`AtFeatures::add_loss`].
    ///
    /// # Errors
    /// Shapes that do not fit, and a base that it does not stand on.
    fn at_features(&mut self, step: &mut AtFeatures<'_>) -> Result<()>;

    /// Its part once they have run: passes of its own, by [`Further::add_pass`] for those of the base.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn further_passes(&mut self, _step: &mut Further<'_>) -> Result<()> {
        Ok(())
    }

    /// Puts into the report what may have had to wait for a device, now that all of the step has been started.
    ///
    /// # Errors
    /// What the device says.
    fn report(&mut self, _report: &mut Report) -> Result<()> {
        Ok(())
    }

    /// What follows the optimiser's step. Not called for a step that the caller drops.
    ///
    /// # Errors
    /// None in practice.
    fn after_step(&mut self) -> Result<()> {
        Ok(())
    }

    /// Its own variables, by the names it gave them, of an add-on that has any: they are trained while it is
    /// active, and are its state.
    fn parameters(&self) -> Option<&Parameters> {
        None
    }

    /// What the optimiser of encoder and head steps too: its own variables, under `addon.`. None while it is
    /// not active: they would get no gradient, which an optimiser would refuse.
    fn trainable(&self) -> BTreeMap<String, Var> {
        match self.parameters() {
            Some(own) if self.is_active() => trainable(&[(OWN, own)]),
            _ => BTreeMap::new(),
        }
    }

    /// Its variables that an optimiser of their own steps, of an add-on that has such. They are no part of
    /// [`Addon::trainable`] and [`Addon::state`].
    fn own_optimizer(&self) -> Option<OwnOptimizer<'_>> {
        None
    }

    /// A gate in front of a part of it, while that is shut: whoever trains then measures, every so many steps, how well
    /// [decoded](Addon::decoder) images of held-out features do what the images themselves do, and says so by
    /// [`Addon::measured`].
    fn gate(&self) -> Option<PairGate> {
        None
    }

    /// What was measured for [`Addon::gate`] after `steps` steps: kNN of decoded images over kNN of real ones, or the share
    /// of decoded images that find their original first. Whether that opens the gate, for good.
    fn measured(&mut self, _share: f64, _steps: u64) -> bool {
        false
    }

    /// Names of terms and figures that a record of a step has in any case, with nothing beside them where the step had none.
    fn records(&self) -> &'static [&'static str] {
        &[]
    }

    /// The decoder that makes images of features, of an add-on that uses one.
    fn decoder(&self) -> Option<&dyn Decoder> {
        None
    }

    /// A copy of its bank of past features, of an add-on that keeps one.
    ///
    /// # Errors
    /// What a device says that it is on.
    fn bank(&self) -> Result<Option<FeatureBank>> {
        Ok(None)
    }

    /// Where it looks in `images` (N, 3, H, W), as values of at least 0 at each place (N, h, w), with
    /// running statistics and without changing anything; `others` are other views of the same images.
    /// `None` for an add-on that looks at no places.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn map(
        &self,
        _base: &dyn Base,
        _images: &Tensor,
        _others: &Tensor,
        _indices: &[u32],
    ) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// The branch whose map weighs places at inference, of an add-on that has one.
    fn screening(&self) -> Option<&Screening> {
        None
    }

    /// What a resumed run needs, by name: its own variables, under `addon.`, whether it is active or not.
    ///
    /// # Errors
    /// None in practice.
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        match self.parameters() {
            Some(own) => of_stores(&[(OWN, own)], []),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Takes over what [`Addon::state`] gave.
    ///
    /// # Errors
    /// Names or shapes that are not those of [`Addon::state`]; nothing is changed then.
    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        match (self.parameters(), state.keys().next()) {
            (Some(own), _) => load_own(own, &self.state()?, state),
            (None, Some(name)) => bail!("{}: {name}: there is no state to load", self.kind()),
            (None, None) => Ok(()),
        }
    }
}

/// Sets an add-on's `own` variables from `state`, if that has the names and shapes of `expected`.
pub(crate) fn load_own(
    own: &Parameters,
    expected: &BTreeMap<String, Tensor>,
    state: &HashMap<String, Tensor>,
) -> Result<()> {
    check(expected, state)?;
    own.set_all(&under(state, OWN))
}

/// A real pass whose loss has been differentiated down to the trunk's outputs, and no further.
pub struct AtFeatures<'a> {
    /// The base.
    pub base: &'a dyn Base,
    /// The batch.
    pub input: &'a StepInput<'a>,
    /// Its real pass. Features are leaves.
    pub pass: &'a Pass,
    /// h, as [`Pass::pooled`].
    pub pooled: &'a [Rows],
    /// ∂L_C/∂h of the base's own loss, whatever add-ons have added by now.
    pub gradient: &'a [Rows],
    pub(crate) finite: &'a Finite,
    /// Gradients at the features, and of the heads' and the add-ons' own variables so far.
    pub gradients: &'a mut FeatureGradients,
    /// What the step says of itself.
    pub report: &'a mut Report,
}

impl AtFeatures<'_> {
    /// Whether L_C, its gradient and the features are finite: otherwise there is nothing to rank or to remember. A step
    /// on a device is waited for.
    ///
    /// # Errors
    /// What the device says.
    pub fn is_finite(&self) -> Result<bool> {
        self.finite.get()
    }

    /// Adds `weight` times `loss`, a scalar on the graph of the pass's leaves: its gradients join the others, and
    /// its value the report.
    ///
    /// # Errors
    /// A loss that is no scalar.
    pub fn add_loss(&mut self, name: &'static str, weight: f64, loss: &Tensor) -> Result<()> {
        self.gradients.leaves.extend((loss * weight)?.backward()?)?;
        self.report.add(Term::new(name, weight, scalar(loss)?));
        Ok(())
    }

    /// As [`AtFeatures::add_loss`], of a loss of the base's.
    ///
    /// # Errors
    /// What a device says.
    pub fn add_found(&mut self, name: &'static str, weight: f64, mut found: Found) -> Result<()> {
        found.backward(weight, self.gradients)?;
        self.report
            .add(Term::new(name, weight, found.numbers()?.loss));
        Ok(())
    }
}

/// A step whose real pass is through.
pub struct Further<'a> {
    /// The base.
    pub base: &'a mut dyn Base,
    /// The batch.
    pub input: &'a StepInput<'a>,
    /// All that is trained: the base's variables and the add-ons' own.
    pub trainable: &'a BTreeMap<String, Var>,
    /// The step's gradients so far.
    pub gradients: &'a mut ParameterGradients,
    /// What the step says of itself.
    pub report: &'a mut Report,
}

impl Further<'_> {
    /// Adds the gradients of `weight` times the loss of a pass of the base's.
    ///
    /// # Errors
    /// A branch that received no gradient.
    pub fn add_pass(&mut self, weight: f64, mut pass: Pass) -> Result<()> {
        let mut gradients = FeatureGradients::default();
        pass.found.backward(weight, &mut gradients)?;
        pass.backward(gradients, self.trainable, self.gradients)
    }
}
