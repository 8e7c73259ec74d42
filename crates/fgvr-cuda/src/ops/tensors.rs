//! A table of many tensors in a machine's memory, which one launch works on.

use std::collections::HashSet;

use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Result};

/// Elements that one block works on, as in kernels/tensors.cuh and kernels/finite.cu.
pub(super) const CHUNK: usize = 4096;
/// Arrays of one tensor, at most.
const ARRAYS: usize = 4;
const THREADS: u32 = 256;

/// One tensor's row of the table.
#[derive(Clone)]
pub(super) struct Entry {
    /// Arrays of f32 of one length, at least one and at most 4.
    pub(super) arrays: Vec<Array>,
    /// Bits that the kernels know.
    pub(super) options: u32,
}

impl Entry {
    fn chunks(&self) -> usize {
        self.arrays[0].len().div_ceil(CHUNK)
    }
}

/// Tensors and the chunks they are cut into, uploaded once.
pub(super) struct Table {
    tensors: Array,
    chunks: Array,
    pub(super) tensor_count: usize,
    pub(super) chunk_count: usize,
    op: &'static str,
    written: &'static [usize],
    /// What the table points to must live as long as it does.
    entries: Vec<Entry>,
}

impl Table {
    /// A table of `entries`. `written` are the places in [`Entry::arrays`] of what kernels write.
    pub(super) fn new(
        machine: &dyn Machine,
        op: &'static str,
        entries: Vec<Entry>,
        written: &'static [usize],
    ) -> Result<Self> {
        let encoded = encode(op, &entries, written)?;
        let tensors = Array::new(machine, DType::U8, encoded.len())?;
        machine.upload(&encoded, tensors.memory())?;
        let mut chunks = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            chunks.extend((0..entry.chunks()).flat_map(|chunk| [index as u32, chunk as u32]));
        }
        Ok(Self {
            op,
            tensors,
            tensor_count: entries.len(),
            chunk_count: chunks.len() / 2,
            chunks: Array::from_u32(machine, &chunks)?,
            written,
            entries,
        })
    }

    /// Puts other arrays of the same lengths at a place of each entry.
    pub(super) fn replace(
        &mut self,
        machine: &dyn Machine,
        place: usize,
        arrays: &[Array],
    ) -> Result<()> {
        if arrays.len() != self.entries.len() {
            return Err(Error::Shape {
                op: self.op,
                what: "tensors",
                expected: self.entries.len().to_string(),
                found: arrays.len().to_string(),
            });
        }
        let put = |(entry, array): (&Entry, &Array)| {
            let mut entry = entry.clone();
            entry.arrays[place] = array.clone();
            entry
        };
        let entries: Vec<Entry> = self.entries.iter().zip(arrays).map(put).collect();
        for (entry, before) in entries.iter().zip(&self.entries) {
            let len = before.arrays[0].len();
            entry.arrays[place].expect(self.op, "array of a tensor", DType::F32, len)?;
        }
        let encoded = encode(self.op, &entries, self.written)?;
        machine.upload(&encoded, self.tensors.memory())?;
        self.entries = entries;
        Ok(())
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

/// The table's bytes: for each tensor, the struct of kernels/tensors.cuh.
fn encode(op: &'static str, entries: &[Entry], written: &[usize]) -> Result<Vec<u8>> {
    let (mut bytes, mut first, mut seen) = (Vec::new(), 0, HashSet::new());
    for (index, entry) in entries.iter().enumerate() {
        let Entry { arrays, options } = entry;
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
        let address = |at: usize| arrays.get(at).map_or(0, |array| array.memory().address());
        let addresses: [u64; ARRAYS] = std::array::from_fn(address);
        let vector = addresses.iter().all(|address| address.is_multiple_of(16));
        bytes.extend(addresses.into_iter().flat_map(u64::to_ne_bytes));
        bytes.extend((len as i64).to_ne_bytes());
        let words = [first, entry.chunks() as u32, *options, u32::from(vector)];
        bytes.extend(words.into_iter().flat_map(u32::to_ne_bytes));
        first += entry.chunks() as u32;
    }
    Ok(bytes)
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
