//! Parts of a network, such as a stem or a residual block, and variables in them that are not trained.

use std::collections::HashSet;
use std::sync::Arc;

use candle_core::{Result, Tensor, TensorId};

use super::{Activation, Tape};

/// Variables whose gradients nobody reads. A clone is another handle to the same set.
#[derive(Clone, Debug, Default)]
pub struct FrozenVariables(Arc<HashSet<TensorId>>);

impl FrozenVariables {
    /// Whether `variable`, or a handle to it, is one of them.
    #[must_use]
    pub fn contains(&self, variable: &Tensor) -> bool {
        self.0.contains(&variable.id())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<&'a Tensor> for FrozenVariables {
    fn from_iter<I: IntoIterator<Item = &'a Tensor>>(variables: I) -> Self {
        Self(Arc::new(variables.into_iter().map(Tensor::id).collect()))
    }
}

impl Tape {
    /// Says that nobody reads the gradients of `frozen`, so that [`Tape::part`] may leave parts of a network out of the way
    /// back.
    pub fn freeze(&mut self, frozen: &FrozenVariables) {
        self.frozen = frozen.clone();
    }

    /// A part of a network, with these `variables`, on `x`: what `run` gives.
    ///
    /// Where all of the variables are [frozen](Tape::freeze) and nobody asks for the gradient of `x`, the part is not recorded,
    /// and nobody asks for the gradient of its output either. So the way back ends above the lowest parts of a network that are
    /// all frozen, and what they computed is not kept for it. A frozen part above one that is trained, or of a pass whose
    /// gradient at the images is wanted, is recorded as any other. The values are the same bits in all cases, and running
    /// statistics of batch norm follow as in a part that is recorded.
    ///
    /// # Errors
    /// What `run` says.
    pub fn part(
        &mut self,
        x: &Activation,
        variables: &[Tensor],
        run: impl FnOnce(&mut Self) -> Result<Activation>,
    ) -> Result<Activation> {
        let is_frozen = !self.frozen.is_empty()
            && variables.iter().all(|v| self.frozen.contains(v))
            && self.recording
            && !self.needs_gradient(x);
        if !is_frozen {
            return run(self);
        }
        self.recording = false;
        let made = run(self);
        self.recording = true;
        let made = made?;
        self.make_constant(&made);
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::layers::Linear;
    use crate::{ParameterGradients, Parameters};

    /// Three layers one after the other, of which `frozen` are.
    struct Chain {
        layers: Vec<Linear>,
        tape: Tape,
    }

    impl Chain {
        fn new(frozen: &[usize]) -> Self {
            let vb = Parameters::new(3).builder(DType::F32, &Device::Cpu);
            let layer = |i: usize| Linear::new(4, 4, true, vb.pp(i.to_string())).unwrap();
            let layers: Vec<_> = (0..3).map(layer).collect();
            let mut tape = Tape::recording();
            let frozen: Vec<_> = frozen.iter().flat_map(|i| layers[*i].variables()).collect();
            tape.freeze(&frozen.iter().collect());
            Self { layers, tape }
        }

        /// Output, gradients of the weights and at the input, and how many steps the tape has.
        fn run(mut self, at_input: bool) -> (Vec<f32>, Vec<Option<Tensor>>, Option<Tensor>, usize) {
            let x = Tensor::arange(0f32, 8., &Device::Cpu).unwrap();
            let tape = &mut self.tape;
            let mut x = tape.input(&x.reshape((2, 4)).unwrap(), at_input).unwrap();
            for layer in &self.layers {
                let made = tape.part(&x, &layer.variables(), |tape| layer.apply(tape, &x));
                x = made.unwrap();
            }
            let steps = tape.nodes.len();
            let y = tape.output_vector(&x).unwrap();
            let leaves = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let mut found = ParameterGradients::default();
            let at_input = self.tape.backward(&leaves, &mut found).unwrap();
            let of = |layer: &Linear| found.get(layer.weight()).cloned();
            let of_weights = self.layers.iter().map(of).collect();
            let values = y.flatten_all().unwrap().to_vec1().unwrap();
            (values, of_weights, at_input, steps)
        }
    }

    fn same(a: &Tensor, b: &Tensor) -> bool {
        let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        bits(a) == bits(b)
    }

    #[test]
    fn frozen_parts_below_all_trained_ones_are_not_recorded_and_others_are() {
        let (values, gradients, _, steps) = Chain::new(&[]).run(false);
        assert_eq!(steps, 3);
        for (frozen, recorded) in [
            (&[0][..], 2),
            (&[0, 1], 1),
            (&[0, 2], 2),
            (&[1], 3),
            (&[0, 1, 2], 0),
        ] {
            let found = Chain::new(frozen).run(false);
            assert_eq!((&found.0, found.3), (&values, recorded), "{frozen:?}");
            for (i, (a, b)) in found.1.iter().zip(&gradients).enumerate() {
                match a {
                    Some(a) => assert!(same(a, b.as_ref().unwrap()), "{frozen:?}: {i}"),
                    None => assert!(i < 3 - recorded, "{frozen:?}: {i}"),
                }
            }
        }
    }

    #[test]
    fn where_the_gradient_at_the_input_is_wanted_all_is_recorded() {
        let (_, _, all, _) = Chain::new(&[]).run(true);
        let (_, _, found, steps) = Chain::new(&[0, 1]).run(true);
        assert_eq!(steps, 3);
        assert!(same(&found.unwrap(), &all.unwrap()));
    }

    #[test]
    fn what_a_part_says_ends_no_recording() {
        let mut tape = Chain::new(&[0]).tape;
        let x = tape.input(
            &Tensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap(),
            false,
        );
        let refused = tape.part(&x.unwrap(), &[], |_| candle_core::bail!("no"));
        assert!(refused.is_err() && tape.is_recording());
    }
}
