//! Weights in the order in which one pass reads them.

use rayon::prelude::*;

use super::depthwise::{self, DepthwiseTiles};
use super::epilogue::Epilogue;
use super::gather::Gather;
use super::pack::{self, Panel, panels};
use super::tiles::Tiles;
use super::{ConvShape, Level, Method, direct, simd, small, winograd};
use crate::Buffer;
use crate::kernels::rows;

/// The weights of one convolution, packed for its forward pass or its gradient by the input: worth
/// keeping where the pass runs over several batches.
pub struct Packed {
    shape: ConvShape,
    pass: Pass,
    method: Method,
    tiles: &'static Tiles,
    depthwise: &'static DepthwiseTiles,
    panels: Vec<Panel>,
    /// One for the forward pass, one for each parity class of a gradient that reads anything.
    parts: Vec<(Gather, Buffer)>,
    /// Whether some places of the target read nothing, and are zero.
    leaves_zeros: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Forward,
    GradInput,
}

impl Packed {
    /// Packs `weight` (`c_out`, `c_in`/groups, kernel, kernel) for the forward pass.
    ///
    /// # Panics
    /// A shape that does not pass [`ConvShape::check`], or weights of another length.
    #[must_use]
    pub fn forward(shape: &ConvShape, weight: &[f32]) -> Self {
        Self::new(simd::level(), shape, Pass::Forward, weight)
    }

    /// Packs `weight` for the gradient by the input.
    ///
    /// # Panics
    /// As [`Packed::forward`].
    #[must_use]
    pub fn grad_input(shape: &ConvShape, weight: &[f32]) -> Self {
        Self::new(simd::level(), shape, Pass::GradInput, weight)
    }

    #[cfg(test)]
    pub(super) fn forward_at(level: Level, shape: &ConvShape, weight: &[f32]) -> Self {
        Self::new(level, shape, Pass::Forward, weight)
    }

    /// The forward pass by a method of the caller's choice, which must suit the shape.
    #[cfg(test)]
    pub(super) fn forward_by(method: Method, shape: &ConvShape, weight: &[f32]) -> Self {
        let gathers = vec![Gather::forward(shape)];
        Self::by(method, simd::level(), shape, Pass::Forward, gathers, weight)
    }

    #[cfg(test)]
    pub(super) fn grad_input_at(level: Level, shape: &ConvShape, weight: &[f32]) -> Self {
        Self::new(level, shape, Pass::GradInput, weight)
    }

    fn new(level: Level, shape: &ConvShape, pass: Pass, weight: &[f32]) -> Self {
        shape.assert_weight(weight.len());
        let gathers = match pass {
            Pass::Forward => vec![Gather::forward(shape)],
            Pass::GradInput => Gather::grad_input(shape),
        };
        let method = if shape.is_depthwise() {
            Method::Depthwise
        } else if winograd::suits(shape) {
            match gathers.iter().all(winograd::keeps_weights) {
                true => Method::Winograd,
                false => Method::WinogradFew,
            }
        } else if small::suits(shape) {
            Method::Small
        } else {
            Method::Direct
        };
        Self::by(method, level, shape, pass, gathers, weight)
    }

    fn by(
        method: Method,
        level: Level,
        shape: &ConvShape,
        pass: Pass,
        gathers: Vec<Gather>,
        weight: &[f32],
    ) -> Self {
        let channels = match pass {
            Pass::Forward => shape.c_out,
            Pass::GradInput => shape.c_in,
        };
        let tiles = Tiles::at(level);
        let panels = match method {
            Method::Depthwise => Vec::new(),
            _ => panels(tiles.lanes, shape.groups, channels),
        };
        let pack = |gather: Gather| {
            if method == Method::Depthwise {
                let packed = depthwise::pack(shape, &gather, weight);
                return (gather, packed);
            }
            let packed = match pass {
                Pass::Forward => pack::forward(shape, &gather, &panels, tiles.lanes, weight),
                Pass::GradInput => pack::grad_input(shape, &gather, &panels, tiles.lanes, weight),
            };
            let packed = match method {
                Method::Winograd => {
                    winograd::transform_weights(tiles, gather.channels(), &panels, &packed)
                }
                _ => packed,
            };
            (gather, packed)
        };
        let leaves_zeros = gathers.iter().any(Gather::reads_nothing);
        let reading = gathers.into_iter().filter(|class| !class.reads_nothing());
        let parts = reading.map(pack).collect();
        Self {
            shape: *shape,
            pass,
            method,
            tiles,
            depthwise: DepthwiseTiles::at(level),
            panels,
            parts,
            leaves_zeros,
        }
    }

    /// Runs the pass from `source` to `target`, which it overwrites: the output from the input, or
    /// the gradient of the input from that of the output. The number of images is that of the
    /// slices; it need not be the shape's.
    ///
    /// # Panics
    /// Slices that are not of a whole number of images, or not of the same.
    pub fn run(&self, source: &[f32], target: &mut [f32]) {
        self.run_all(source, target, None);
    }

    /// Runs the forward pass, and does what `epilogue` says to the output: on the way where the kernels
    /// can, else in a pass of its own.
    ///
    /// # Panics
    /// As [`Packed::run`], and weights that were packed for a gradient, or a bias or residual of another
    /// length.
    pub fn run_then(&self, source: &[f32], target: &mut [f32], epilogue: &Epilogue<'_>) {
        assert!(self.pass == Pass::Forward, "an epilogue of a gradient");
        assert_eq!(epilogue.bias.len(), self.shape.c_out, "length of the bias");
        if let Some(residual) = epilogue.residual {
            assert_eq!(residual.len(), target.len(), "length of the residual");
        }
        self.run_all(source, target, Some(epilogue));
    }

    fn run_all(&self, source: &[f32], target: &mut [f32], epilogue: Option<&Epilogue<'_>>) {
        let (input, output) = match self.pass {
            Pass::Forward => (source.len(), target.len()),
            Pass::GradInput => (target.len(), source.len()),
        };
        let n = self.shape.images(input, output);
        if self.leaves_zeros {
            target
                .par_chunks_mut(1 << 16)
                .for_each(|target| target.fill(0.));
        }
        if self.method == Method::Depthwise {
            let (tiles, parts) = (self.depthwise, &self.parts);
            return depthwise::multiply(tiles, parts, n, source, target, epilogue);
        }
        for (gather, packed) in &self.parts {
            let gather = Gather {
                n,
                ..gather.clone()
            };
            let (tiles, panels) = (self.tiles, &self.panels);
            let multiply = match self.method {
                Method::Depthwise | Method::Direct => {
                    direct::multiply(tiles, &gather, panels, packed, source, target, epilogue);
                    continue;
                }
                Method::Small => small::multiply,
                Method::Winograd => winograd::multiply,
                Method::WinogradFew => winograd::multiply_few,
            };
            multiply(tiles, &gather, panels, packed, source, target);
            if let Some(epilogue) = epilogue {
                let (residual, activation) = (epilogue.residual, epilogue.activation);
                rows::add_bias_activate(target, epilogue.bias, residual, activation);
            }
        }
    }
}
