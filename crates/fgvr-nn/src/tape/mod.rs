//! A reverse tape over channels-last maps.
//!
//! Forward pushes, for each operation, a closure with what its backward needs. Backward walks them
//! in reverse, hands each the gradient of its output, and lets it add to the gradients of its
//! inputs: the first arrival is moved in, a second is added, so nothing is filled with zeros.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Device::Cpu;
use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var, bail};
use fgvr_cuda::Array;

use self::activation::Values;
use crate::{Buffer, Device, ParameterGradients};

mod activation;
mod gradients;
mod layout;
mod part;
mod staged;

pub use self::activation::Activation;
pub use self::gradients::Gradients;
pub(crate) use self::gradients::{NormedArray, NormedGradient};
pub(crate) use self::layout::{to_channels_first, to_channels_last, with_values};
pub use self::part::FrozenVariables;
pub use self::staged::Staged;

type Backward = Box<dyn FnOnce(Buffer, &mut Gradients<'_>) -> Result<()> + Send>;
type OnDevice = Box<dyn FnOnce(Array, &mut Gradients<'_>) -> Result<()> + Send>;
type NormedOnDevice = Box<dyn FnOnce(NormedArray, &mut Gradients<'_>) -> Result<()> + Send>;
type NormedBackward = Box<dyn FnOnce(NormedGradient, &mut Gradients<'_>) -> Result<()> + Send>;

struct Node {
    output: usize,
    step: Step,
}

enum Step {
    Map(Backward),
    /// The output is a map whose norm is applied by whoever reads it.
    Normed(NormedBackward),
    /// The output is a map on a device.
    OnDevice(OnDevice),
    /// Both.
    NormedOnDevice(NormedOnDevice),
}

/// A leaf variable that left the tape, and the map whose values it has.
struct Leaf {
    var: Var,
    map: usize,
    shape: [usize; 4],
}

/// The record of one pass of a network. See the module's documentation.
#[derive(Default)]
pub struct Tape {
    recording: bool,
    device: Option<Device>,
    maps: usize,
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
    /// Inputs, and what was made of them alone, whose gradient nobody asked for.
    constants: Vec<usize>,
    /// Variables whose gradients nobody reads.
    frozen: FrozenVariables,
    /// The input whose gradient `backward` returns, and the dims it came with.
    input: Option<(usize, [usize; 4], Vec<usize>)>,
}

impl Tape {
    /// A tape that records the way back.
    #[must_use]
    pub fn recording() -> Self {
        Self {
            recording: true,
            ..Self::default()
        }
    }

    /// A tape for inference: operations run, nothing is kept.
    #[must_use]
    pub fn inference() -> Self {
        Self::default()
    }

    /// This tape, with its maps on `device`; on the CPU if there is none.
    #[must_use]
    pub fn on(mut self, device: Option<&Device>) -> Self {
        self.device = device.cloned();
        self
    }

    /// Where maps are, if not on the CPU.
    #[must_use]
    pub fn device(&self) -> Option<&Device> {
        self.device.as_ref()
    }

    /// Whether operations must keep what their backward needs.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.recording
    }

    /// Puts images (N, C, H, W), or vectors (N, C) as a map of one place, on the tape.
    /// With `wants_gradient`, [`Tape::backward`] returns the gradient of this input.
    ///
    /// # Errors
    /// A tensor that is not f32 on the CPU with two or four dimensions.
    pub fn input(&mut self, tensor: &Tensor, wants_gradient: bool) -> Result<Activation> {
        let dims = tensor.dims().to_vec();
        let (n, c, h, w) = match *dims {
            [n, c, h, w] => (n, c, h, w),
            [n, c] => (n, c, 1, 1),
            _ => bail!("tape input: expected (N, C, H, W) or (N, C), found {dims:?}"),
        };
        let shape = [n, h, w, c];
        let map = match self.device.clone() {
            None => {
                let data = with_values(tensor, |values| to_channels_last(values, shape))?;
                self.map(shape, data)
            }
            Some(device) => {
                let array = with_values(tensor, |values| device.upload_map(values, shape))??;
                self.map_on(&device, shape, array)
            }
        };
        if wants_gradient {
            self.input = Some((map.id, shape, dims));
        } else {
            self.constants.push(map.id);
        }
        Ok(map)
    }

    /// Whether a gradient of `map` has a use: false for an input put on the tape without asking for
    /// one, so that the first layer can leave out the work.
    #[must_use]
    pub fn needs_gradient(&self, map: &Activation) -> bool {
        self.recording && !self.constants.contains(&map.id)
    }

    /// Says that nobody asked for the gradient of `map`, which was made of a constant alone.
    pub(crate) fn make_constant(&mut self, map: &Activation) {
        self.constants.push(map.id);
    }

    /// A new map on this tape.
    pub fn map(&mut self, shape: [usize; 4], data: Buffer) -> Activation {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Activation {
            id: self.id(),
            shape,
            values: Values::Host(Arc::new(data)),
        }
    }

    /// A new map on this tape, on a device.
    pub(crate) fn map_on(
        &mut self,
        device: &Device,
        shape: [usize; 4],
        array: Array,
    ) -> Activation {
        debug_assert_eq!(shape.iter().product::<usize>(), array.len());
        Activation {
            id: self.id(),
            shape,
            values: Values::On(device.clone(), array),
        }
    }

    /// As [`Tape::push`], for a map on a device.
    pub(crate) fn push_on(
        &mut self,
        output: &Activation,
        backward: impl FnOnce(Array, &mut Gradients<'_>) -> Result<()> + Send + 'static,
    ) {
        if self.recording {
            self.nodes.push(Node {
                output: output.id,
                step: Step::OnDevice(Box::new(backward)),
            });
        }
    }

    /// As [`Tape::push_normed`], for a map on a device.
    pub(crate) fn push_normed_on(
        &mut self,
        output: usize,
        backward: impl FnOnce(NormedArray, &mut Gradients<'_>) -> Result<()> + Send + 'static,
    ) {
        if self.recording {
            self.nodes.push(Node {
                output,
                step: Step::NormedOnDevice(Box::new(backward)),
            });
        }
    }

    /// Records how the gradient of `output` travels on. A tape for inference drops it.
    pub fn push(
        &mut self,
        output: &Activation,
        backward: impl FnOnce(Buffer, &mut Gradients<'_>) -> Result<()> + Send + 'static,
    ) {
        if self.recording {
            self.nodes.push(Node {
                output: output.id,
                step: Step::Map(Box::new(backward)),
            });
        }
    }

    /// A number for a map that is kept elsewhere.
    pub(crate) fn id(&mut self) -> usize {
        self.maps += 1;
        self.maps
    }

    /// As [`Tape::push`], for a map whose norm is applied by whoever reads it.
    pub(crate) fn push_normed(
        &mut self,
        output: usize,
        backward: impl FnOnce(NormedGradient, &mut Gradients<'_>) -> Result<()> + Send + 'static,
    ) {
        if self.recording {
            self.nodes.push(Node {
                output,
                step: Step::Normed(Box::new(backward)),
            });
        }
    }

    /// `map` as a leaf variable of candle's, (N, C, H, W).
    ///
    /// # Errors
    /// What a GPU says, if the map is on one.
    pub fn output(&mut self, map: &Activation) -> Result<Var> {
        let var = Var::from_tensor(&map.to_tensor()?)?;
        self.leaf(var, map)
    }

    /// A map of one place, (N, 1, 1, C), as a leaf variable (N, C).
    ///
    /// # Errors
    /// A map of more than one place; what a GPU says, if the map is on one.
    pub fn output_vector(&mut self, map: &Activation) -> Result<Var> {
        let [n, h, w, c] = map.shape;
        if (h, w) != (1, 1) {
            bail!("output_vector: expected a map of one place, found {h}x{w}");
        }
        // (N, C, 1, 1) -> (N, C)
        let var = Var::from_tensor(&map.to_tensor()?.reshape((n, c))?)?;
        self.leaf(var, map)
    }

    fn leaf(&mut self, var: Var, map: &Activation) -> Result<Var> {
        self.leaves.push(Leaf {
            var: var.clone(),
            map: map.id,
            shape: map.shape,
        });
        Ok(var)
    }

    /// Carries the gradients of the leaves back: parameter gradients are added to `parameters`, and
    /// the gradient of the input is returned where [`Tape::input`] asked for it (zeros if none
    /// arrived there).
    ///
    /// # Errors
    /// A tape for inference, or one none of whose leaves has a gradient in `leaf_gradients`: the
    /// loss does not depend on this pass.
    pub fn backward(
        mut self,
        leaf_gradients: &GradStore,
        parameters: &mut ParameterGradients,
    ) -> Result<Option<Tensor>> {
        let leaves = std::mem::take(&mut self.leaves);
        let input = self.input.clone();
        let device = self.device.clone();
        let arrived = self.carry_back(parameters, |gradients| {
            let mut found = false;
            for leaf in &leaves {
                let Some(gradient) = leaf_gradients.get(&leaf.var) else {
                    continue;
                };
                found = true;
                match &device {
                    None => {
                        let gradient =
                            with_values(gradient, |values| to_channels_last(values, leaf.shape))?;
                        gradients.add(leaf.map, gradient);
                    }
                    Some(device) => {
                        let gradient =
                            with_values(gradient, |values| device.upload_map(values, leaf.shape))??;
                        gradients.add_array(leaf.map, gradient)?;
                    }
                }
            }
            if !found {
                bail!(
                    "tape backward: none of the {} leaves has a gradient; the loss does not depend on this pass",
                    leaves.len()
                );
            }
            Ok(())
        })?;
        let Some((_, _, dims)) = input else {
            return Ok(None);
        };
        match arrived {
            // (N, C, H, W), and (N, C) if it came so
            Some(gradient) => gradient.to_tensor()?.reshape(dims).map(Some),
            None => Tensor::zeros(dims, DType::F32, &Cpu).map(Some),
        }
    }

    /// Carries gradients of maps of this tape back, each with the map that it is the gradient of, as
    /// [`Tape::backward`] does those of leaves. The gradient of the input comes as a map where its values are; `None`
    /// if nobody asked for it, or none arrived there.
    ///
    /// # Errors
    /// A tape for inference, no gradient, or one of another shape than its map's.
    pub fn backward_from(
        self,
        of_maps: &[(&Activation, &Activation)],
        parameters: &mut ParameterGradients,
    ) -> Result<Option<Activation>> {
        self.carry_back(parameters, |gradients| {
            if of_maps.is_empty() {
                bail!("tape backward: no gradient was given");
            }
            for (map, gradient) in of_maps {
                if map.shape != gradient.shape {
                    bail!(
                        "tape backward: a gradient is {:?}, its map {:?} (N, H, W, C)",
                        gradient.shape,
                        map.shape
                    );
                }
                match &gradient.values {
                    Values::Host(values) => gradients.add_shared(map.id, Arc::clone(values)),
                    Values::On(_, array) => gradients.add_array(map.id, array.clone())?,
                }
            }
            Ok(())
        })
    }

    /// Runs the tape back from the gradients that `seed` puts in. The gradient of the input, if it was asked for and
    /// arrived.
    fn carry_back(
        self,
        parameters: &mut ParameterGradients,
        seed: impl FnOnce(&mut Gradients<'_>) -> Result<()>,
    ) -> Result<Option<Activation>> {
        if !self.recording {
            bail!("tape backward: this tape was made for inference");
        }
        let mut gradients = Gradients {
            maps: HashMap::new(),
            normed: HashMap::new(),
            arrays: HashMap::new(),
            normed_arrays: HashMap::new(),
            parameter_arrays: Vec::new(),
            device: self.device.clone(),
            parameters,
        };
        seed(&mut gradients)?;
        for node in self.nodes.into_iter().rev() {
            match node.step {
                Step::Map(backward) => {
                    if let Some(gradient) = gradients.maps.remove(&node.output) {
                        backward(Arc::unwrap_or_clone(gradient), &mut gradients)?;
                    }
                }
                Step::Normed(backward) => {
                    if let Some(gradient) = gradients.normed.remove(&node.output) {
                        backward(gradient, &mut gradients)?;
                    }
                }
                Step::OnDevice(backward) => {
                    if let Some(gradient) = gradients.arrays.remove(&node.output) {
                        backward(gradient, &mut gradients)?;
                    }
                }
                Step::NormedOnDevice(backward) => {
                    if let Some(gradient) = gradients.normed_arrays.remove(&node.output) {
                        backward(gradient, &mut gradients)?;
                    }
                }
            }
        }
        gradients.fetch_parameters()?;
        let Some((id, shape, _)) = self.input else {
            return Ok(None);
        };
        let on_host = gradients.maps.remove(&id).map(Values::Host);
        let on_device = gradients.arrays.remove(&id).zip(self.device);
        let on_device = on_device.map(|(array, device)| Values::On(device, array));
        Ok(on_host
            .or(on_device)
            .map(|values| Activation { id, shape, values }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(tape: &mut Tape, x: &Activation) -> Activation {
        let y = Buffer::from_slice(&x.data().unwrap().iter().map(|v| 2. * v).collect::<Vec<_>>());
        let y = tape.map(x.shape, y);
        let id = x.id;
        tape.push(&y, move |mut gradient, gradients| {
            gradient.iter_mut().for_each(|g| *g *= 2.);
            gradients.add(id, gradient);
            Ok(())
        });
        y
    }

    #[test]
    fn two_consumers_add_up_and_shapes_survive() {
        let x = Tensor::arange(0f32, 24., &Cpu)
            .unwrap()
            .reshape((2, 3, 2, 2))
            .unwrap();
        let mut tape = Tape::recording();
        let input = tape.input(&x, true).unwrap();
        let once = double(&mut tape, &input);
        let twice = double(&mut tape, &once);
        let (once, twice) = (tape.output(&once).unwrap(), tape.output(&twice).unwrap());
        let loss = ((once.as_tensor() + twice.as_tensor()).unwrap() * &x).unwrap();
        let leaf_gradients = loss.sum_all().unwrap().backward().unwrap();
        let dx = tape
            .backward(&leaf_gradients, &mut ParameterGradients::default())
            .unwrap();
        let expected = (&x * 6.).unwrap(); // x*(2x + 4x) with x in the weight held constant
        let off = (dx.unwrap() - expected)
            .unwrap()
            .abs()
            .unwrap()
            .sum_all()
            .unwrap();
        assert_eq!(off.to_scalar::<f32>().unwrap(), 0.);
    }

    #[test]
    fn leaves_without_gradient_are_an_error() {
        let mut tape = Tape::recording();
        let x = Tensor::zeros((1, 1, 2, 2), DType::F32, &Cpu).unwrap();
        let map = tape.input(&x, false).unwrap();
        tape.output(&map).unwrap();
        let error = tape.backward(&GradStore::default(), &mut ParameterGradients::default());
        assert!(error.unwrap_err().to_string().contains("does not depend"));
    }
}
