//! A GPU: memory in stream order, kernels from the cache, convolutions by cuDNN, products by cuBLAS.
//!
//! Driver and libraries are loaded when a GPU is asked for, so that a program with this feature starts on
//! any machine.

mod cublas;
mod cudnn;
mod staging;
mod timing;

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::panic::catch_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};

use self::cublas::Cublas;
use self::cudnn::Cudnn;
use self::staging::{OnItsWay, Staging};
use crate::cache::Cache;
use crate::meter::{Meter, Share};
use crate::nvrtc::Nvrtc;
use crate::{
    Array, Convolution, Error, Launch, Machine, Memory, MemoryUse, Module, Pass, Product, Result,
    Staged, staged,
};

/// How f32 products are computed: bf16 ones always have f32 sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As f32.
    #[default]
    Full,
    /// Factors rounded to 10 bits of mantissa (TF32), sums in f32.
    Tf32,
}

/// One GPU, a stream of work on it, and one of copies to it.
pub struct Gpu {
    stream: Arc<CudaStream>,
    staging: Staging,
    target: String,
    name: String,
    precision: Precision,
    cache: Cache,
    meter: Meter,
    compiler: Mutex<Option<Nvrtc>>,
    modules: Mutex<HashMap<Module, Loaded>>,
    cublas: Mutex<Option<Cublas>>,
    cudnn: Mutex<Option<Cudnn>>,
}

/// A module's code on the GPU, and the functions that were asked for.
struct Loaded {
    module: sys::CUmodule,
    functions: HashMap<&'static str, sys::CUfunction>,
}

// SAFETY: handles of the driver, which may be used from any thread that has bound the context; every use
// is behind the mutex that holds them.
unsafe impl Send for Loaded {}

impl Gpu {
    /// The GPU of this number, from 0.
    ///
    /// # Errors
    /// No driver, no such GPU, and what the driver says.
    pub fn new(ordinal: usize, precision: Precision) -> Result<Self> {
        // The bindings panic where the library is missing.
        if !catch_unwind(is_driver_present).unwrap_or(false) {
            return Err(Error::NoGpu(
                "the NVIDIA driver's library (libcuda) is not installed".into(),
            ));
        }
        let no = |error: DriverError| match error.0 {
            sys::CUresult::CUDA_ERROR_NO_DEVICE
            | sys::CUresult::CUDA_ERROR_INVALID_DEVICE
            | sys::CUresult::CUDA_ERROR_STUB_LIBRARY => {
                Error::NoGpu(format!("GPU {ordinal}: {error:?}"))
            }
            _ => driver(&format!("use GPU {ordinal}"))(error),
        };
        let context = CudaContext::new(ordinal).map_err(no)?;
        keep_freed_memory(&context).map_err(no)?;
        let (major, minor) = context.compute_capability().map_err(no)?;
        // What only the very GPU has, such as wgmma, needs the `a`.
        let exact = if major >= 9 { "a" } else { "" };
        Ok(Self {
            name: context.name().map_err(no)?,
            stream: context.new_stream().map_err(no)?,
            staging: Staging::new(&context).map_err(no)?,
            target: format!("sm_{major}{minor}{exact}"),
            precision,
            cache: Cache::of_user(),
            meter: Meter::default(),
            compiler: Mutex::default(),
            modules: Mutex::default(),
            cublas: Mutex::default(),
            cudnn: Mutex::default(),
        })
    }

    /// What the driver calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its kernels are compiled for, such as sm_90a.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Waits until all that was started is done.
    ///
    /// # Errors
    /// What went wrong in it.
    pub fn synchronise(&self) -> Result<()> {
        self.stream.synchronize().map_err(driver("synchronise"))
    }

    /// Memory for what is started on `stream` from now on. The context is bound to this thread.
    fn allocate_on(&self, stream: &Arc<CudaStream>, bytes: usize) -> Result<Allocation> {
        // SAFETY: the address is kept in an `Allocation`, which frees it.
        let address = unsafe { result::malloc_async(stream.cu_stream(), bytes.max(1)) };
        let address = address.map_err(|error| {
            let out = error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY;
            match stream.context().mem_get_info() {
                Ok((free, total)) if out => Error::OutOfMemory {
                    wanted: bytes,
                    free,
                    total,
                },
                _ => driver("allocate")(error),
            }
        })?;
        Ok(Allocation {
            address,
            stream: Arc::clone(stream),
            _share: self.meter.take(bytes),
        })
    }

    fn bind(&self) -> Result<()> {
        self.stream
            .context()
            .bind_to_thread()
            .map_err(driver("bind the GPU to this thread"))
    }

    fn code(&self, module: Module) -> Result<Vec<u8>> {
        let mut compiler = lock(&self.compiler);
        let nvrtc = match compiler.take() {
            Some(nvrtc) => nvrtc,
            None => Nvrtc::load()?,
        };
        let code = self.cache.get(&nvrtc, module, &self.target);
        *compiler = Some(nvrtc);
        code
    }

    fn function(&self, module: Module, kernel: &'static str) -> Result<sys::CUfunction> {
        let mut modules = lock(&self.modules);
        if let Some(function) = modules
            .get(&module)
            .and_then(|loaded| loaded.functions.get(kernel))
        {
            return Ok(*function);
        }
        let loaded = match modules.entry(module) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let code = self.code(module)?;
                // SAFETY: a whole cubin of NVRTC's, which the driver reads and copies.
                let module = unsafe { result::module::load_data(code.as_ptr().cast()) }
                    .map_err(driver(&format!("load {module}")))?;
                entry.insert(Loaded {
                    module,
                    functions: HashMap::new(),
                })
            }
        };
        let name = format!("{kernel}{}", module.real.suffix());
        let symbol = CString::new(name.as_str()).map_err(|error| Error::Kernel {
            kernel: name.clone(),
            why: error.to_string(),
        })?;
        // SAFETY: a module that was loaded and is never unloaded.
        let function = unsafe { result::module::get_function(loaded.module, symbol) }
            .map_err(driver(&format!("find {name}")))?;
        loaded.functions.insert(kernel, function);
        Ok(function)
    }
}

/// Memory that goes back to the pool once all that was started on the stream before is done.
struct Allocation {
    address: sys::CUdeviceptr,
    /// The stream of its last use: where it was allocated, or where it was received.
    stream: Arc<CudaStream>,
    _share: Share,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.stream.context().bind_to_thread().is_ok() {
            // SAFETY: allocated on this stream or received by it, and freed once. An error here has nobody to go
            // to; the next call on the stream returns it again.
            let _ = unsafe { result::free_async(self.address, self.stream.cu_stream()) };
        }
    }
}

impl Machine for Gpu {
    fn allocate(&self, bytes: usize) -> Result<Memory> {
        self.bind()?;
        let allocation = self.allocate_on(&self.stream, bytes)?;
        Ok(Memory::new(allocation.address, bytes, Arc::new(allocation)))
    }

    fn memory(&self) -> Result<MemoryUse> {
        let info = self.stream.context().mem_get_info();
        let (_, total) = info.map_err(driver("ask for the memory"))?;
        Ok(MemoryUse {
            reserved: reserved(self.stream.context()).map_err(driver("ask for the memory"))?,
            ..self.meter.read(total)
        })
    }

    fn reset_peak(&self) {
        self.meter.reset_peak();
    }

    fn upload(&self, from: &[u8], to: &Memory) -> Result<()> {
        check_copy(from.len(), to)?;
        self.bind()?;
        // SAFETY: `to` has at least as many bytes. From memory that is not pinned the driver returns only when
        // it has copied `from` to a buffer of its own.
        unsafe { result::memcpy_htod_async(to.address(), from, self.stream.cu_stream()) }
            .map_err(driver("upload"))
    }

    fn stage(&self, from: &[u8]) -> Result<Staged> {
        self.bind()?;
        let allocation = self.allocate_on(self.staging.stream(), from.len())?;
        let arrived = self.staging.copy(from, allocation.address)?;
        let held = OnItsWay {
            allocation,
            arrived,
        };
        Ok(Staged::new(from.len(), Box::new(held)))
    }

    fn receive(&self, staged: Staged) -> Result<Memory> {
        let bytes = staged.bytes();
        let OnItsWay {
            mut allocation,
            arrived,
        } = staged.into_held()?;
        if !Arc::ptr_eq(&allocation.stream, self.staging.stream()) {
            return Err(staged::elsewhere());
        }
        let waits = self.stream.wait(&arrived);
        waits.map_err(driver("wait for a copy on the GPU"))?;
        // From here on all uses are behind that wait, and so may be the free.
        allocation.stream = Arc::clone(&self.stream);
        Ok(Memory::new(allocation.address, bytes, Arc::new(allocation)))
    }

    fn download(&self, from: &Memory, to: &mut [u8]) -> Result<()> {
        check_copy(to.len(), from)?;
        self.bind()?;
        // SAFETY: `from` has at least as many bytes; the wait below ends before `to` is read.
        unsafe { result::memcpy_dtoh_async(to, from.address(), self.stream.cu_stream()) }
            .map_err(driver("download"))?;
        self.synchronise()
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        self.bind()?;
        let function = self.function(launch.module, launch.kernel)?;
        let words: Vec<[u8; 8]> = launch
            .arguments
            .iter()
            .map(|argument| {
                let mut word = [0; 8];
                let bytes = argument.bytes();
                word[..bytes.len()].copy_from_slice(&bytes);
                word
            })
            .collect();
        let mut pointers: Vec<*mut c_void> = words
            .iter()
            .map(|word| word.as_ptr().cast_mut().cast())
            .collect();
        let triple = |[x, y, z]: [u32; 3]| (x, y, z);
        // SAFETY: as many arguments, of the sizes that the kernel takes: the emulator's tests launch every
        // kernel by the same functions, and there each launch is checked. The driver copies them.
        unsafe {
            result::launch_kernel(
                function,
                triple(launch.grid),
                triple(launch.block),
                launch.shared as u32,
                self.stream.cu_stream(),
                &mut pointers,
            )
        }
        .map_err(driver(&format!(
            "launch {}{}",
            launch.kernel,
            launch.module.real.suffix()
        )))
    }

    fn convolve(&self, shape: &Convolution, pass: Pass, operands: [&Array; 3]) -> Result<()> {
        shape.expect(operands)?;
        self.bind()?;
        let mut cudnn = lock(&self.cudnn);
        let held = match cudnn.take() {
            Some(held) => held,
            None => Cudnn::new(&self.stream, self.precision)?,
        };
        cudnn.insert(held).convolve(self, shape, pass, operands)
    }

    fn multiply(&self, product: &Product, operands: [&Array; 3], add: bool) -> Result<()> {
        product.expect(operands)?;
        self.bind()?;
        let mut cublas = lock(&self.cublas);
        let held = match cublas.take() {
            Some(held) => held,
            None => Cublas::new(self, &self.stream, self.precision)?,
        };
        cublas.insert(held).multiply(product, operands, add)
    }
}

/// What is freed stays with the process for the next allocation; by default it goes back to the driver
/// whenever the host waits.
fn keep_freed_memory(context: &CudaContext) -> std::result::Result<(), DriverError> {
    let mut all = u64::MAX;
    // SAFETY: the device of a live context; the attribute is an unsigned number of 64 bits.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut all).cast())
    }
}

/// Bytes that the pool took from the GPU at most.
fn reserved(context: &CudaContext) -> std::result::Result<usize, DriverError> {
    let mut bytes = 0u64;
    // SAFETY: the device of a live context; the attribute is an unsigned number of 64 bits.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH;
        result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast())?;
    }
    Ok(bytes as usize)
}

/// Whether the driver's library can be loaded; where it is linked to, the program would not have started.
fn is_driver_present() -> bool {
    // SAFETY: loads the library, as any use of it would.
    unsafe { sys::is_culib_present() }
}

fn check_copy(bytes: usize, memory: &Memory) -> Result<()> {
    if bytes <= memory.bytes() {
        return Ok(());
    }
    Err(Error::Shape {
        op: "copy",
        what: "bytes",
        expected: format!("at most {}", memory.bytes()),
        found: bytes.to_string(),
    })
}

fn driver(what: &str) -> impl Fn(DriverError) -> Error + '_ {
    move |error| Error::Driver {
        what: what.to_owned(),
        why: format!("{error:?}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
