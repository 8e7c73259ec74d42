//! A machine that is no GPU: kernels compiled by a C++ compiler, threads run as fibers.
//!
//! It computes what a GPU would, as far as f32 rounding and the host's `expf` allow, and says so where a
//! kernel does what a GPU leaves undefined: a barrier that some threads do not reach, a write outside an
//! array or beyond shared memory, a read of what nothing has written (memory starts as NaN), a result that
//! depends on the order of threads ([`Order`]), arguments of another number or size than the kernel takes.
//! It says nothing of speed. One launch runs at a time.

mod build;
mod library;
mod memory;

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use libloading::Library;

use self::memory::Block;
use crate::meter::Meter;
use crate::{
    Array, Convolution, Error, Launch, Machine, Memory, MemoryUse, Module, Pass, Product, Result,
    Staged, staged,
};

/// In which order the threads of a block run between two barriers. No result may depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As they are counted.
    #[default]
    Forward,
    /// From the last.
    Backward,
    /// With a stride, another one in each block.
    Strided,
}

impl Order {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Forward, Self::Backward, Self::Strided];
}

/// A stand-in for a GPU; see the module.
pub struct Emulator {
    compiler: PathBuf,
    directory: PathBuf,
    order: Mutex<Order>,
    modules: Mutex<HashMap<Module, Arc<Library>>>,
    blocks: Mutex<Vec<Weak<Block>>>,
    meter: Meter,
    bytes: usize,
}

type Entry = unsafe extern "C" fn(
    arguments: *const *const c_void,
    sizes: *const usize,
    given: usize,
    shape: *const u32,
    shared: usize,
    order: u32,
) -> *const c_char;

impl Emulator {
    /// An emulator that keeps what it compiles in `directory`. The compiler is `CXX`, or the first of c++,
    /// g++ and clang++ on the path.
    ///
    /// # Errors
    /// No compiler, or a directory that cannot be made.
    pub fn new(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|error| Error::io(directory, error))?;
        Ok(Self {
            compiler: build::compiler()?,
            directory: directory.to_owned(),
            order: Mutex::default(),
            modules: Mutex::default(),
            blocks: Mutex::default(),
            meter: Meter::default(),
            bytes: isize::MAX as usize,
        })
    }

    /// This emulator with so much memory and no more.
    #[must_use]
    pub fn with_memory(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Runs the threads of later launches in another order.
    pub fn set_order(&self, order: Order) {
        *lock(&self.order) = order;
    }

    fn library(&self, module: Module) -> Result<Arc<Library>> {
        let mut modules = lock(&self.modules);
        if let Some(library) = modules.get(&module) {
            return Ok(Arc::clone(library));
        }
        let path = build::build(&self.compiler, &self.directory, module)?;
        // SAFETY: the library was just built from this crate's sources; its only initialisers are those
        // of empty vectors and strings.
        let library = unsafe { Library::new(&path) }
            .map_err(|error| Error::Emulator(format!("{}: {error}", path.display())))?;
        let library = Arc::new(library);
        modules.insert(module, Arc::clone(&library));
        Ok(library)
    }

    /// The first array next to which something was written.
    fn overrun(&self) -> Option<String> {
        let mut blocks = lock(&self.blocks);
        blocks.retain(|block| block.strong_count() > 0);
        blocks
            .iter()
            .filter_map(Weak::upgrade)
            .find_map(|block| block.overrun())
    }
}

/// One launch at a time, in the whole program: the fibers of a module share its statics.
static RUNNING: Mutex<()> = Mutex::new(());

impl Machine for Emulator {
    fn allocate(&self, bytes: usize) -> Result<Memory> {
        let free = self.bytes.saturating_sub(self.meter.read(self.bytes).held);
        if bytes > free {
            return Err(Error::OutOfMemory {
                wanted: bytes,
                free,
                total: self.bytes,
            });
        }
        let block = Arc::new(Block::new(bytes)?);
        lock(&self.blocks).push(Arc::downgrade(&block));
        let address = block.address() as u64;
        let owner = Arc::new((block, self.meter.take(bytes)));
        Ok(Memory::new(address, bytes, owner))
    }

    fn memory(&self) -> Result<MemoryUse> {
        Ok(self.meter.read(self.bytes))
    }

    fn reset_peak(&self) {
        self.meter.reset_peak();
    }

    fn upload(&self, from: &[u8], to: &Memory) -> Result<()> {
        check_copy(from.len(), to)?;
        // SAFETY: `to` is a block of this process of at least `from.len()` bytes, and no launch runs:
        // launches return when they are done.
        unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), to.address() as *mut u8, from.len())
        };
        Ok(())
    }

    fn stage(&self, from: &[u8]) -> Result<Staged> {
        let memory = self.allocate(from.len())?;
        // SAFETY: a new block of so many bytes, initialised, that nobody else has the address of.
        let to = unsafe { std::slice::from_raw_parts_mut(memory.address() as *mut u8, from.len()) };
        staged::copy(from, to);
        Ok(Staged::new(
            from.len(),
            Box::new((memory, self.meter.clone())),
        ))
    }

    fn receive(&self, staged: Staged) -> Result<Memory> {
        let (memory, meter): (Memory, Meter) = staged.into_held()?;
        match meter.is(&self.meter) {
            true => Ok(memory),
            false => Err(staged::elsewhere()),
        }
    }

    fn download(&self, from: &Memory, to: &mut [u8]) -> Result<()> {
        check_copy(to.len(), from)?;
        // SAFETY: as in `upload`; blocks are initialised when they are made.
        unsafe {
            std::ptr::copy_nonoverlapping(from.address() as *const u8, to.as_mut_ptr(), to.len())
        };
        Ok(())
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let name = format!("{}{}", launch.kernel, launch.module.real.suffix());
        let wrong = |why: String| Error::Kernel {
            kernel: name.clone(),
            why,
        };
        let threads: u32 = launch.block.iter().product();
        if threads == 0 || threads > 256 || launch.grid.contains(&0) {
            return Err(wrong(format!(
                "a grid of {:?} blocks of {:?} threads: expected at least one block, and 1 to 256 threads",
                launch.grid, launch.block
            )));
        }
        let library = self.library(launch.module)?;
        let symbol = format!("emulate_{name}\0");
        // SAFETY: `build` gives every kernel an entry point of this name and type.
        let entry = unsafe { library.get::<Entry>(symbol.as_bytes()) }
            .map_err(|_| wrong(format!("no such kernel in {}", launch.module)))?;
        let bytes: Vec<Vec<u8>> = launch.arguments.iter().map(|a| a.bytes()).collect();
        let sizes: Vec<usize> = bytes.iter().map(Vec::len).collect();
        // The kernel reads them as what they are, so each starts where any type may.
        let aligned: Vec<[u64; 1]> = bytes.iter().map(|b| [padded(b)]).collect();
        let pointers: Vec<*const c_void> = aligned.iter().map(|a| a.as_ptr().cast()).collect();
        let [gx, gy, gz] = launch.grid;
        let [bx, by, bz] = launch.block;
        let shape = [gx, gy, gz, bx, by, bz];
        let order = *lock(&self.order) as u32;
        let running = lock(&RUNNING);
        // SAFETY: the entry point checks the number and the sizes of the arguments before it reads them;
        // arrays point to blocks that live as long as `launch`; only one launch runs.
        let answer = unsafe {
            entry(
                pointers.as_ptr(),
                sizes.as_ptr(),
                sizes.len(),
                shape.as_ptr(),
                launch.shared,
                order,
            )
        };
        let answer = if answer.is_null() {
            None
        } else {
            // SAFETY: a C string that the library keeps until its next launch, which `running` holds off.
            let text = unsafe { CStr::from_ptr(answer) };
            Some(text.to_string_lossy().into_owned())
        };
        drop(running);
        match answer.or_else(|| self.overrun()) {
            Some(why) => Err(wrong(why)),
            None => Ok(()),
        }
    }

    fn convolve(&self, shape: &Convolution, pass: Pass, operands: [&Array; 3]) -> Result<()> {
        library::convolve(self, shape, pass, operands)
    }

    fn multiply(&self, product: &Product, operands: [&Array; 3], add: bool) -> Result<()> {
        library::multiply(self, product, operands, add)
    }
}

/// Up to 8 bytes, at the start of a word.
fn padded(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

fn check_copy(bytes: usize, memory: &Memory) -> Result<()> {
    if bytes > memory.bytes() {
        return Err(Error::Shape {
            op: "copy",
            what: "bytes",
            expected: format!("at most {}", memory.bytes()),
            found: bytes.to_string(),
        });
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
