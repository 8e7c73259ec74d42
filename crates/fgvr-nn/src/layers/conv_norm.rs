//! A convolution and the norm after it, worked on a few images at a time: what one kernel writes is
//! still in the third-level cache when the next one reads it.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;

use super::normalisation::Normalisation;
use super::normed::{ConvInput, HostNormed, Normed, NormedStorage};
use super::on_device;
use super::{BatchNorm, BatchNormConfig, Conv2d, ConvConfig, DeviceConv, FrozenConv};
use crate::kernels::activation::ActivationFunction;
use crate::kernels::conv::{ConvShape, Packed, WeightGradient};
use crate::kernels::norm::{self, GradSums, MomentSums};
use crate::kernels::rows;
use crate::tape::{Gradients, NormedGradient, with_values};
use crate::{Buffer, Device, NormMode, Tape};

/// Floats of input and output that are worked on at once: 6 MiB of a third-level cache, beside
/// weights and scratch.
const AT_ONCE: usize = 3 << 19;

/// A convolution without bias, then a batch norm whose values its only reader makes: see [`Normed`].
///
/// The same values and gradients as [`Conv2d`] and [`BatchNorm`] one after the other, in fewer trips
/// to memory.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    /// A convolution with its variables under `conv_vb`, and a norm with its variables under
    /// `norm_vb`.
    ///
    /// # Errors
    /// Sizes of zero or that do not fit together, a variable that a builder cannot give; a convolution with a bias, which the
    /// norm would take away again.
    pub fn new(
        [c_in, c_out]: [usize; 2],
        kernel: usize,
        conv: &ConvConfig,
        conv_vb: VarBuilder,
        norm: &BatchNormConfig,
        norm_vb: VarBuilder,
    ) -> Result<Self> {
        if conv.bias {
            bail!("conv_norm: expected a convolution without bias: the norm subtracts the mean");
        }
        Ok(Self {
            conv: Conv2d::new(c_in, c_out, kernel, conv, conv_vb)?,
            norm: BatchNorm::with_config(c_out, norm, norm_vb)?,
        })
    }

    /// The convolution.
    #[must_use]
    pub fn conv(&self) -> &Conv2d {
        &self.conv
    }

    /// The norm.
    #[must_use]
    pub fn norm(&self) -> &BatchNorm {
        &self.norm
    }

    /// What is trained of both: weight of the convolution, weight and bias of the norm.
    #[must_use]
    pub fn variables(&self) -> Vec<Tensor> {
        let of_norm = self.norm.parameters().map(|(weight, bias)| [weight, bias]);
        let of_norm = of_norm.into_iter().flatten();
        std::iter::once(self.conv.weight().clone())
            .chain(of_norm)
            .collect()
    }

    /// Both as one convolution with a bias, by the running statistics, for inference.
    ///
    /// # Errors
    /// Variables that are not f32 on the CPU.
    pub fn freeze(&self) -> Result<FrozenConv> {
        FrozenConv::new(&self.conv, &self.norm)
    }

    /// Both as one convolution with a bias on `device`, by the running statistics, for inference.
    ///
    /// # Errors
    /// Variables that are not f32 on the CPU; what a GPU says.
    pub fn freeze_on(&self, device: &Device) -> Result<DeviceConv> {
        DeviceConv::new(device, &self.conv, &self.norm)
    }

    /// Both on the tape, (N, H, W, I) to (N, H', W', O).
    ///
    /// # Errors
    /// Another number of channels, an input smaller than the kernel, or a batch that `mode` cannot normalise.
    pub fn apply<'a>(
        &self,
        tape: &mut Tape,
        input: impl Into<ConvInput<'a>>,
        mode: NormMode,
    ) -> Result<Normed> {
        let input = input.into();
        if let Some(device) = tape.device().cloned() {
            return on_device::conv_norm(&device, tape, (&self.conv, &self.norm), input, mode);
        }
        let input = Input::new(tape, input)?;
        let shape = self.conv.shape(input.shape)?;
        let out = [shape.n, shape.out_h(), shape.out_w(), shape.c_out];
        let statistics = self.norm.statistics(out, mode)?;
        let groups = statistics
            .as_ref()
            .map_or(1, |statistics| statistics.groups);

        let mut y = Buffer::scratch(out.iter().product());
        let packed = with_values(self.conv.weight(), |weight| Packed::forward(&shape, weight))?;
        let mut moments = Vec::with_capacity(groups);
        let parts = BatchParts::new(&shape);
        let mut scratch = input.scratch(&parts);
        for group in 0..groups {
            let mut sums = MomentSums::new(shape.c_out);
            for images in parts.of_group(group, groups) {
                let x = input.values(parts.input(&images), &mut scratch);
                let y = &mut y[parts.output(&images)];
                packed.run(x, y);
                if statistics.is_some() {
                    sums.add(y);
                }
            }
            moments.push(sums);
        }
        let norm = match &statistics {
            None => self.norm.eval()?,
            Some(statistics) => {
                let moments: Vec<_> = moments.into_iter().map(MomentSums::finish).collect();
                self.norm.with_statistics(statistics, &moments)?
            }
        };

        let normed = HostNormed {
            id: tape.id(),
            shape: out,
            values: Arc::new(y),
            norm: Arc::new(norm),
        };
        let backward = Backward {
            shape,
            input,
            output: Arc::clone(&normed.values),
            norm: Arc::clone(&normed.norm),
            weight: self.conv.weight().clone(),
            of_norm: self.norm.parameters(),
        };
        tape.push_normed(normed.id, move |gradient, gradients| {
            backward.run(gradient, gradients)
        });
        Ok(Normed(NormedStorage::Host(normed)))
    }
}

/// What a convolution read: a map, or a norm and an activation over another convolution's values.
struct Input {
    id: usize,
    shape: [usize; 4],
    values: Arc<Buffer>,
    norm: Option<(Arc<Normalisation>, ActivationFunction)>,
    wants_gradient: bool,
}

impl Input {
    fn new(tape: &Tape, input: ConvInput<'_>) -> Result<Self> {
        let (normed, activation) = match input {
            ConvInput::Map(map) => {
                return Ok(Self {
                    id: map.id,
                    shape: map.shape,
                    values: Arc::clone(map.host()?),
                    norm: None,
                    wants_gradient: tape.needs_gradient(map),
                });
            }
            ConvInput::Relu(normed) => (normed.on_host()?, ActivationFunction::Relu),
            ConvInput::Relu6(normed) => (normed.on_host()?, ActivationFunction::Relu6),
        };
        Ok(Self {
            id: normed.id,
            shape: normed.shape,
            values: normed.values,
            norm: Some((normed.norm, activation)),
            wants_gradient: true,
        })
    }

    /// Room for the values of a part, where they have to be made.
    fn scratch(&self, parts: &BatchParts) -> Buffer {
        let images = if self.norm.is_some() { parts.images } else { 0 };
        Buffer::scratch(images * parts.of_input)
    }

    /// The values of some images: as they are, or normalised and activated in `scratch`.
    fn values<'a>(&'a self, range: Range<usize>, scratch: &'a mut Buffer) -> &'a [f32] {
        match &self.norm {
            None => &self.values[range],
            Some((norm, activation)) => {
                let y = &mut scratch[..range.len()];
                norm.each_part(&range, self.values.len(), |group, range, part| {
                    let affine = norm.affine(group);
                    norm::apply(&self.values[range], affine, None, *activation, &mut y[part]);
                });
                y
            }
        }
    }
}

/// A batch in parts that fit the third-level cache.
pub(super) struct BatchParts {
    n: usize,
    /// Images of a part, at most.
    images: usize,
    /// Values of one image.
    of_input: usize,
    of_output: usize,
}

impl BatchParts {
    pub(super) fn new(shape: &ConvShape) -> Self {
        let [of_input, of_output] =
            [shape.input_len(), shape.output_len()].map(|len| len / shape.n);
        Self {
            n: shape.n,
            images: (AT_ONCE / (of_input + of_output)).clamp(1, shape.n),
            of_input,
            of_output,
        }
    }

    /// All parts, of one group of images.
    pub(super) fn all(&self) -> impl Iterator<Item = Range<usize>> {
        self.of_group(0, 1)
    }

    /// The parts of one of `groups` equal groups of images.
    fn of_group(&self, group: usize, groups: usize) -> impl Iterator<Item = Range<usize>> {
        let each = self.n / groups;
        let parts = each.div_ceil(self.images);
        (0..parts).map(move |part| {
            group * each + each * part / parts..group * each + each * (part + 1) / parts
        })
    }

    pub(super) fn input(&self, images: &Range<usize>) -> Range<usize> {
        images.start * self.of_input..images.end * self.of_input
    }

    pub(super) fn output(&self, images: &Range<usize>) -> Range<usize> {
        images.start * self.of_output..images.end * self.of_output
    }
}

/// What the way back needs.
struct Backward {
    shape: ConvShape,
    input: Input,
    output: Arc<Buffer>,
    norm: Arc<Normalisation>,
    weight: Tensor,
    of_norm: Option<(Tensor, Tensor)>,
}

impl Backward {
    fn run(self, gradient: NormedGradient, gradients: &mut Gradients<'_>) -> Result<()> {
        let NormedGradient {
            values,
            activation,
            sums,
        } = gradient;
        if let Some((weight, bias)) = &self.of_norm {
            let of_norm = self.norm.parameter_gradients(&sums);
            gradients.add_parameter(weight, of_norm.weight)?;
            gradients.add_parameter(bias, of_norm.bias)?;
        }
        let groups = self.norm.groups();
        let parts = BatchParts::new(&self.shape);
        let of_part = ConvShape {
            n: parts.images,
            ..self.shape
        };
        let mut of_weight = WeightGradient::new(&of_part);
        let packed = match self.input.wants_gradient {
            true => Some(with_values(&self.weight, |weight| {
                Packed::grad_input(&of_part, weight)
            })?),
            false => None,
        };
        let wants_gradient = self.input.wants_gradient;
        let mut sink = wants_gradient.then(|| Sink::new(&self.input, &parts, gradients));
        let mut scratch = self.input.scratch(&parts);
        let mut dy = Buffer::scratch(parts.images * parts.of_output);
        for (group, sums) in sums.iter().enumerate() {
            let count = self.output.len() / groups / self.shape.c_out;
            let slope = self.norm.slope(group, sums, count);
            for images in parts.of_group(group, groups) {
                let range = parts.output(&images);
                let dy = &mut dy[..range.len()];
                let (g, y) = (&values[range.clone()], &self.output[range]);
                norm::grad_input_into(g, y, self.norm.affine(group), &slope, activation, dy);
                let x = self.input.values(parts.input(&images), &mut scratch);
                of_weight.add(x, dy);
                if let (Some(packed), Some(sink)) = (&packed, &mut sink) {
                    sink.fill(&self.input, parts.input(&images), |dx| packed.run(dy, dx));
                }
            }
        }
        if let Some(sink) = sink {
            sink.hand_over(&self.input, gradients);
        }
        let mut dw = vec![0.; self.weight.elem_count()];
        of_weight.finish(&mut dw);
        gradients.add_parameter(&self.weight, dw)
    }
}

/// Where the gradient of the input goes.
struct Sink {
    values: Buffer,
    /// Room for a part that is added to what `values` holds already.
    added: Option<Buffer>,
    /// What the backward pass of a normed input's norm needs.
    sums: Vec<GradSums>,
}

impl Sink {
    fn new(input: &Input, parts: &BatchParts, gradients: &mut Gradients<'_>) -> Self {
        let so_far = gradients.take(input.id);
        let channels = input.shape[3];
        let groups = input.norm.as_ref().map_or(0, |(norm, _)| norm.groups());
        Self {
            added: so_far
                .is_some()
                .then(|| Buffer::scratch(parts.images * parts.of_input)),
            values: so_far.unwrap_or_else(|| Buffer::scratch(input.values.len())),
            sums: vec![GradSums::zero(channels); groups],
        }
    }

    /// Takes the gradient of some images, which `make` writes.
    fn fill(&mut self, input: &Input, range: Range<usize>, make: impl FnOnce(&mut [f32])) {
        let values = &mut self.values[range.clone()];
        match &mut self.added {
            None => make(values),
            Some(added) => {
                let added = &mut added[..range.len()];
                make(added);
                rows::add(values, added);
            }
        }
        if let Some((norm, activation)) = &input.norm {
            norm.each_part(&range, input.values.len(), |group, range, part| {
                let (x, affine) = (&input.values[range], norm.affine(group));
                self.sums[group].add(&norm::grad_sums(&values[part], x, affine, *activation));
            });
        }
    }

    fn hand_over(self, input: &Input, gradients: &mut Gradients<'_>) {
        match input.norm {
            None => gradients.add(input.id, self.values),
            Some((_, activation)) => gradients.add_normed(
                input.id,
                NormedGradient {
                    values: Arc::new(self.values),
                    activation,
                    sums: self.sums,
                },
            ),
        }
    }
}
