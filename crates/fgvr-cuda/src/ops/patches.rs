//! Square patches of a channels-last map as rows, and back.

use super::columns::{counted, launch_flat, pack};
use super::rows::THREADS;
use crate::source::PATCHES;
use crate::{Argument, Array, Error, Launch, Machine, Module, Result};

/// Values of a block in shared memory: `ROOM` of `kernels/patches.cu`.
const ROOM: usize = 4096;

/// Patches of (N, H, W, C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patches {
    /// (N, H, W, C) of the map.
    pub map: [usize; 4],
    /// Side of a patch, which divides H and W.
    pub patch: usize,
}

impl Patches {
    fn len(&self) -> usize {
        self.map.iter().product()
    }

    fn check(&self, op: &'static str) -> Result<()> {
        let ([_, h, w, c], patch) = (self.map, self.patch);
        if patch == 0 || !h.is_multiple_of(patch) || !w.is_multiple_of(patch) {
            return Err(Error::Shape {
                op,
                what: "map",
                expected: format!("whole patches of {patch} x {patch}"),
                found: format!("{h} x {w}"),
            });
        }
        // Places within a row of patches are counted in 31 bits.
        counted(op, "row of patches", &[patch, w, c])?;
        Ok(())
    }

    /// Starts one of three kernels: for whole packs, for runs of any length, and for patches that no shared
    /// memory holds.
    fn launch(
        &self,
        machine: &dyn Machine,
        op: &'static str,
        kernels: [&'static str; 3],
        [from, to]: [&Array; 2],
    ) -> Result<()> {
        let ([n, h, w, c], patch) = (self.map, self.patch);
        let module = Module {
            file: &PATCHES,
            real: from.real(op, "map")?,
        };
        if self.len() == 0 {
            return Ok(());
        }
        let across = w / patch;
        let sides = [patch, c, across].map(|side| Argument::I32(side as i32));
        let mut arguments = vec![Argument::Array(from), Argument::Array(to)];
        arguments.extend(sides);
        // Rows of a run have a value more at most, to be of odd length.
        let most = ROOM.saturating_sub(patch) / (patch * patch * c);
        if most == 0 {
            return launch_flat(machine, module, kernels[2], &arguments, self.len());
        }
        let (piece, pack) = (patch * c, pack(module));
        let mut width = most.min(across);
        // The run is cut where packs end, if there is such a place.
        let vector = (w * c).is_multiple_of(pack)
            && match (1..=width)
                .rev()
                .find(|width| (width * piece).is_multiple_of(pack))
            {
                Some(whole) => {
                    width = whole;
                    true
                }
                None => false,
            };
        arguments.push(Argument::I32(width as i32));
        let blocks = counted(op, "blocks", &[n, h / patch, across.div_ceil(width)])?;
        machine.launch(&Launch {
            module,
            kernel: kernels[usize::from(!vector)],
            grid: [blocks as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            arguments: &arguments,
        })
    }
}

/// Cuts `x` (N, H, W, C) into patches: (N, H/patch * W/patch, C*patch*patch), a patch's values in the order
/// (C, row, column) of a convolution's weight.
///
/// # Errors
/// Operands of other lengths or types, sides that are not whole patches; what the machine says.
pub fn cut(machine: &dyn Machine, x: &Array, patches: &Patches) -> Result<Array> {
    const OP: &str = "cut patches";
    patches.check(OP)?;
    x.expect(OP, "x", x.dtype(), patches.len())?;
    let y = Array::new(machine, x.dtype(), x.len())?;
    let kernels = ["patches_cut", "patches_cut_any", "patches_cut_large"];
    patches.launch(machine, OP, kernels, [x, &y])?;
    Ok(y)
}

/// The reverse of [`cut`], and so its gradient.
///
/// # Errors
/// Operands of other lengths or types, sides that are not whole patches; what the machine says.
pub fn join(machine: &dyn Machine, y: &Array, patches: &Patches) -> Result<Array> {
    const OP: &str = "join patches";
    patches.check(OP)?;
    y.expect(OP, "rows", y.dtype(), patches.len())?;
    let x = Array::new(machine, y.dtype(), y.len())?;
    let kernels = ["patches_join", "patches_join_any", "patches_join_large"];
    patches.launch(machine, OP, kernels, [y, &x])?;
    Ok(x)
}
