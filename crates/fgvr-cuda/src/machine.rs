//! What kernels run on: memory, copies, launches.

use std::any::Any;
use std::sync::Arc;

use crate::staged::bytes_of;
use crate::{Convolution, Error, MemoryUse, Module, Pass, Product, Real, Result, Staged};

/// A GPU, or something that stands for one. Launches are asynchronous and in order; a download waits.
pub trait Machine {
    /// Memory whose contents are not specified.
    ///
    /// # Errors
    /// No memory left.
    fn allocate(&self, bytes: usize) -> Result<Memory>;

    /// How much of its memory is held.
    ///
    /// # Errors
    /// What the driver says.
    fn memory(&self) -> Result<MemoryUse>;

    /// Counts the peak anew from what is held now.
    fn reset_peak(&self);

    /// Copies `from` to the start of `to`.
    ///
    /// # Errors
    /// What the driver says.
    fn upload(&self, from: &[u8], to: &Memory) -> Result<()>;

    /// Starts a copy of `from` to new memory, beside what is launched, and waits neither for it nor for what
    /// was launched before: `from` is free again when this returns. Any thread may stage while another
    /// launches; what it made is handed out by [`Machine::receive`].
    ///
    /// On a GPU `from` goes through page-locked memory, of which the machine keeps two buffers as large as the
    /// largest that was staged; that memory is the host's, cannot be swapped out, and is taken at first use.
    ///
    /// # Errors
    /// No memory left, on the machine or to page-lock; what the driver says.
    fn stage(&self, from: &[u8]) -> Result<Staged>;

    /// Memory that was staged: whatever is started from now on (a launch, a product, a download) finds it
    /// complete. The host does not wait.
    ///
    /// # Errors
    /// What was staged on another machine; what the driver says.
    fn receive(&self, staged: Staged) -> Result<Memory>;

    /// Copies the start of `from` to `to`, once all before it is done.
    ///
    /// # Errors
    /// What the driver says, of this or of an earlier launch.
    fn download(&self, from: &Memory, to: &mut [u8]) -> Result<()>;

    /// Starts a kernel.
    ///
    /// # Errors
    /// A kernel that does not compile, and what the driver says.
    fn launch(&self, launch: &Launch<'_>) -> Result<()>;

    /// Computes one of x, w and y of a convolution from the other two, overwriting it.
    ///
    /// # Errors
    /// Operands that do not fit; what the library says.
    fn convolve(&self, shape: &Convolution, pass: Pass, operands: [&Array; 3]) -> Result<()>;

    /// c = a b, or c += a b.
    ///
    /// # Errors
    /// Operands that do not fit; what the library says.
    fn multiply(&self, product: &Product, operands: [&Array; 3], add: bool) -> Result<()>;
}

/// A range of a machine's memory, given back when the last handle is dropped.
#[derive(Clone)]
pub struct Memory {
    address: u64,
    bytes: usize,
    owner: Arc<dyn Any + Send + Sync>,
}

impl Memory {
    /// Memory at `address` that lives as long as `owner`.
    #[must_use]
    pub fn new(address: u64, bytes: usize, owner: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            address,
            bytes,
            owner,
        }
    }

    /// Where it starts, in the machine's addresses.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its length.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The type of an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// f32
    F32,
    /// The upper half of an f32.
    Bf16,
    /// f64
    F64,
    /// u32
    U32,
    /// u8
    U8,
}

impl DType {
    /// Bytes of an element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 | Self::U32 => 4,
            Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }
}

impl From<Real> for DType {
    fn from(real: Real) -> Self {
        match real {
            Real::F32 => Self::F32,
            Real::Bf16 => Self::Bf16,
        }
    }
}

/// Elements of one type in a machine's memory.
#[derive(Clone)]
pub struct Array {
    memory: Memory,
    len: usize,
    dtype: DType,
}

impl Array {
    /// `len` elements whose values are not specified.
    ///
    /// # Errors
    /// No memory left.
    pub fn new(machine: &dyn Machine, dtype: DType, len: usize) -> Result<Self> {
        let memory = machine.allocate(len * dtype.bytes())?;
        Ok(Self { memory, len, dtype })
    }

    /// A copy of `values`.
    ///
    /// # Errors
    /// No memory left; what the driver says.
    pub fn from_f32(machine: &dyn Machine, values: &[f32]) -> Result<Self> {
        let array = Self::new(machine, DType::F32, values.len())?;
        machine.upload(bytes_of(values), &array.memory)?;
        Ok(array)
    }

    /// A copy of `values`, rounded to bf16 where `real` says so.
    ///
    /// # Errors
    /// No memory left; what the driver says.
    pub fn from_reals(machine: &dyn Machine, real: Real, values: &[f32]) -> Result<Self> {
        match real {
            Real::F32 => Self::from_f32(machine, values),
            Real::Bf16 => {
                let bytes = values.iter().flat_map(|v| bf16_bits(*v).to_ne_bytes());
                Self::upload(machine, DType::Bf16, values.len(), bytes)
            }
        }
    }

    /// A copy of `values`.
    ///
    /// # Errors
    /// No memory left; what the driver says.
    pub fn from_f64(machine: &dyn Machine, values: &[f64]) -> Result<Self> {
        Self::upload(
            machine,
            DType::F64,
            values.len(),
            values.iter().flat_map(|v| v.to_ne_bytes()),
        )
    }

    /// A copy of `values`.
    ///
    /// # Errors
    /// No memory left; what the driver says.
    pub fn from_u32(machine: &dyn Machine, values: &[u32]) -> Result<Self> {
        Self::upload(
            machine,
            DType::U32,
            values.len(),
            values.iter().flat_map(|v| v.to_ne_bytes()),
        )
    }

    /// Overwrites the values, rounded to bf16 in an array of that.
    ///
    /// # Errors
    /// Another number of values, an array that is neither f32 nor bf16; what the driver says.
    pub fn set(&self, machine: &dyn Machine, values: &[f32]) -> Result<()> {
        self.expect("set", "values", self.dtype, values.len())?;
        let bytes: Vec<u8> = match self.real("set", "array")? {
            Real::F32 => values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
            Real::Bf16 => values
                .iter()
                .flat_map(|v| bf16_bits(*v).to_ne_bytes())
                .collect(),
        };
        machine.upload(&bytes, &self.memory)
    }

    fn upload(
        machine: &dyn Machine,
        dtype: DType,
        len: usize,
        bytes: impl Iterator<Item = u8>,
    ) -> Result<Self> {
        let array = Self::new(machine, dtype, len)?;
        machine.upload(&bytes.collect::<Vec<_>>(), &array.memory)?;
        Ok(array)
    }

    /// Elements over memory that somebody else has made.
    ///
    /// # Errors
    /// Memory that is too short for them.
    pub fn over(memory: Memory, dtype: DType, len: usize) -> Result<Self> {
        if memory.bytes() < len * dtype.bytes() {
            return Err(Error::Shape {
                op: "array",
                what: "memory",
                expected: format!("{} bytes", len * dtype.bytes()),
                found: format!("{}", memory.bytes()),
            });
        }
        Ok(Self { memory, len, dtype })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Their type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether another handle to the same memory is held somewhere.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.memory.owner) > 1
    }

    /// Where they are.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The type of activations, if it is one.
    ///
    /// # Errors
    /// An array of another type.
    pub fn real(&self, op: &'static str, what: &'static str) -> Result<Real> {
        match self.dtype {
            DType::F32 => Ok(Real::F32),
            DType::Bf16 => Ok(Real::Bf16),
            other => Err(Error::Shape {
                op,
                what,
                expected: "f32 or bf16".into(),
                found: format!("{other:?}"),
            }),
        }
    }

    /// That this array has `len` elements of `dtype`.
    ///
    /// # Errors
    /// Another number or type.
    pub fn expect(
        &self,
        op: &'static str,
        what: &'static str,
        dtype: DType,
        len: usize,
    ) -> Result<()> {
        if (self.dtype, self.len) == (dtype, len) {
            return Ok(());
        }
        Err(Error::Shape {
            op,
            what,
            expected: format!("{len} of {dtype:?}"),
            found: format!("{} of {:?}", self.len, self.dtype),
        })
    }

    /// The values, widened to f32; waits for what computes them.
    ///
    /// # Errors
    /// An array of another type than f32 or bf16, and what the driver says.
    pub fn to_f32(&self, machine: &dyn Machine) -> Result<Vec<f32>> {
        let real = self.real("download", "array")?;
        let bytes = self.download(machine)?;
        Ok(match real {
            Real::F32 => words(&bytes, f32::from_ne_bytes),
            Real::Bf16 => words(&bytes, |b| {
                f32::from_bits(u32::from(u16::from_ne_bytes(b)) << 16)
            }),
        })
    }

    /// The values of an array of f64; waits for what computes them.
    ///
    /// # Errors
    /// An array of another type, and what the driver says.
    pub fn to_f64(&self, machine: &dyn Machine) -> Result<Vec<f64>> {
        self.expect("download", "array", DType::F64, self.len)?;
        Ok(words(&self.download(machine)?, f64::from_ne_bytes))
    }

    /// The values of an array of u32; waits for what computes them.
    ///
    /// # Errors
    /// An array of another type, and what the driver says.
    pub fn to_u32(&self, machine: &dyn Machine) -> Result<Vec<u32>> {
        self.expect("download", "array", DType::U32, self.len)?;
        Ok(words(&self.download(machine)?, u32::from_ne_bytes))
    }

    /// The values of an array of u8; waits for what computes them.
    ///
    /// # Errors
    /// An array of another type, and what the driver says.
    pub fn to_u8(&self, machine: &dyn Machine) -> Result<Vec<u8>> {
        self.expect("download", "array", DType::U8, self.len)?;
        self.download(machine)
    }

    fn download(&self, machine: &dyn Machine) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.len * self.dtype.bytes()];
        machine.download(&self.memory, &mut bytes)?;
        Ok(bytes)
    }
}

fn words<const N: usize, T>(bytes: &[u8], word: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| word(*chunk)).collect()
}

/// Rounds to the nearest bf16, ties to even; what is no number stays none.
pub(crate) fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return ((bits >> 16) | 0x40) as u16;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// An argument of a kernel.
#[derive(Clone, Copy)]
pub enum Argument<'a> {
    /// A pointer to the first element.
    Array(&'a Array),
    /// A pointer that is null: the kernel's optional operand is left out.
    Null,
    /// `int`
    I32(i32),
    /// `i64`
    I64(i64),
    /// `u64`
    U64(u64),
    /// `float`
    F32(f32),
    /// `double`
    F64(f64),
}

impl<'a> Argument<'a> {
    /// An operand that may be left out.
    #[must_use]
    pub fn optional(array: Option<&'a Array>) -> Self {
        array.map_or(Self::Null, Self::Array)
    }

    /// The bytes that the kernel gets.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Array(array) => array.memory.address.to_ne_bytes().to_vec(),
            Self::Null => 0u64.to_ne_bytes().to_vec(),
            Self::I32(v) => v.to_ne_bytes().to_vec(),
            Self::I64(v) => v.to_ne_bytes().to_vec(),
            Self::U64(v) => v.to_ne_bytes().to_vec(),
            Self::F32(v) => v.to_ne_bytes().to_vec(),
            Self::F64(v) => v.to_ne_bytes().to_vec(),
        }
    }
}

/// A kernel and what it is started with.
pub struct Launch<'a> {
    /// The file, compiled for one type.
    pub module: Module,
    /// The name in the source, without the type.
    pub kernel: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block, 256 at most.
    pub block: [u32; 3],
    /// Bytes of shared memory beyond what the kernel declares.
    pub shared: usize,
    /// In the order of the kernel's.
    pub arguments: &'a [Argument<'a>],
}
