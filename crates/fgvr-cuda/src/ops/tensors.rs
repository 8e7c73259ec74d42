//! A table of many tensors in a machine's memory, which one launch works on.

use std::collections::HashSet;

use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Result};

/// Elements that one block works on, as in kernels/tensors.cuh.
const CHUNK: usize = 4096;
/// Arrays of one tensor, at most.
const ARRAYS: usize = 4;
const THREADS: u32 = 256;

/// One tensor's row of the table.
pub(super) struct Entry {
    /// Arrays of f32 of one length, at least one and at most 4.
    pub(super) arrays: Vec<Array>,
    /// Bits that the kernels know.
    pub(super) options: u32,
}

/// Tensors and the chunks they are cut into, uploaded once.
pub(super) struct Table {
    tensors: Array,
    chunks: Array,
    pub(super) tensor_count: usize,
    pub(super) chunk_count: usize,
    /// What the table points to must live as long as it does.
    _held: Vec<Entry>,
}

impl Table {
    /// A table of `entries`. `written` are the places in [`Entry::arrays`] of what kernels write.
    pub(super) fn new(
        machine: &dyn Machine,
        op: &'static str,
        entries: Vec<Entry>,
        written: &[usize],
    ) -> Result<Self> {
        let mut seen = HashSet::new();
        let (mut tensors, mut chunks) = (Vec::new(), Vec::new());
        let mut chunk_count = 0;
        for (index, Entry { arrays, options }) in entries.iter().enumerate() {
            let len = arrays[0].len();
            for array in arrays {
                array.expect(op, "array of a tensor", DType::F32, len)?;
            }
            for array in written.iter().filter_map(|at| arrays.get(*at)) {
                // Two blocks that write the same values would race.
                if len > 0 && !seen.insert(array.memory().address()) {
                    return Err(Error::Shape {
                        op,
                        what: "tensors",
                        expected: "no array twice among those that are written".into(),
                        found: format!("one of tensor {index} again"),
                    });
                }
            }
            let of_tensor = len.div_ceil(CHUNK);
            let address = |at: usize| arrays.get(at).map_or(0, |array| array.memory().address());
            let addresses: [u64; ARRAYS] = std::array::from_fn(address);
            let vector = addresses.iter().all(|address| address.is_multiple_of(16));
            tensors.extend(addresses.into_iter().flat_map(u64::to_ne_bytes));
            tensors.extend((len as i64).to_ne_bytes());
            let words = [
                chunk_count as u32,
                of_tensor as u32,
                *options,
                u32::from(vector),
            ];
            tensors.extend(words.into_iter().flat_map(u32::to_ne_bytes));
            chunks.extend((0..of_tensor as u32).flat_map(|chunk| [index as u32, chunk]));
            chunk_count += of_tensor;
        }
        let table = Array::new(machine, DType::U8, tensors.len())?;
        machine.upload(&tensors, table.memory())?;
        Ok(Self {
            tensors: table,
            chunks: Array::from_u32(machine, &chunks)?,
            tensor_count: entries.len(),
            chunk_count,
            _held: entries,
        })
    }

    /// The table of tensors, for kernels that run over these.
    pub(super) fn tensors(&self) -> Argument<'_> {
        Argument::Array(&self.tensors)
    }

    /// Starts a kernel with a block for each chunk; `operands` come after the two tables.
    pub(super) fn launch(
        &self,
        machine: &dyn Machine,
        module: Module,
        kernel: &'static str,
        operands: &[Argument<'_>],
    ) -> Result<()> {
        if self.chunk_count == 0 {
            return Ok(());
        }
        let mut arguments = vec![self.tensors(), Argument::Array(&self.chunks)];
        arguments.extend_from_slice(operands);
        machine.launch(&Launch {
            module,
            kernel,
            grid: [self.chunk_count as u32, 1, 1],
            block: [THREADS, 1, 1],
            shared: 0,
            arguments: &arguments,
        })
    }
}

/// An error unless `valid`, with what was expected of a number.
pub(super) fn check(
    op: &'static str,
    what: &'static str,
    value: f64,
    valid: bool,
    expected: &str,
) -> Result<()> {
    if valid {
        return Ok(());
    }
    Err(Error::Shape {
        op,
        what,
        expected: expected.into(),
        found: value.to_string(),
    })
}
