//! Convolutions and their gradients, channels-last.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::catch_unwind;

use cudarc::cudnn::{result, sys};
use cudarc::driver::CudaStream;

use super::Precision;
use crate::{Array, Convolution, Error, Machine, Memory, Pass, Real, Result};

/// Workspace that an algorithm may ask for, at most.
const WORKSPACE: usize = 1 << 30;
/// Algorithms that are looked at.
const CANDIDATES: usize = 8;

type Answer<T> = std::result::Result<T, result::CudnnError>;

/// A handle on one stream, and for each convolution seen what was decided.
pub(super) struct Cudnn {
    handle: sys::cudnnHandle_t,
    precision: Precision,
    plans: HashMap<(Convolution, Pass), Plan>,
    workspace: Option<Memory>,
}

// SAFETY: a handle may be used from any thread, by one at a time; the GPU keeps it behind a mutex.
unsafe impl Send for Cudnn {}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    GradInput(sys::cudnnConvolutionBwdDataAlgo_t),
    GradWeight(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// A convolution in cuDNN's words, and the algorithm for one of its passes.
struct Plan {
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    algorithm: Option<Algorithm>,
    workspace: usize,
}

impl Cudnn {
    pub(super) fn new(stream: &CudaStream, precision: Precision) -> Result<Self> {
        // SAFETY: loads the library, as any use of it would.
        if !catch_unwind(|| unsafe { sys::is_culib_present() }).unwrap_or(false) {
            return Err(wrong(
                "load",
                "libcudnn was not found; install cuDNN 9 or nvidia-cudnn",
            ));
        }
        let handle = result::create_handle().map_err(|error| wrong("create a handle", error))?;
        // SAFETY: a handle that was created, a stream that outlives it in `Gpu`.
        unsafe { result::set_stream(handle, stream.cu_stream().cast()) }
            .map_err(|error| wrong("set the stream", error))?;
        Ok(Self {
            handle,
            precision,
            plans: HashMap::new(),
            workspace: None,
        })
    }

    pub(super) fn convolve(
        &mut self,
        machine: &dyn Machine,
        shape: &Convolution,
        pass: Pass,
        operands: [&Array; 3],
    ) -> Result<()> {
        let plan = match self.plans.entry((*shape, pass)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(Plan::new(self.handle, shape, pass, self.precision)?)
            }
        };
        if self
            .workspace
            .as_ref()
            .is_none_or(|held| held.bytes() < plan.workspace)
        {
            // The old one goes back first, so that both are never held.
            self.workspace = None;
            self.workspace = Some(machine.allocate(plan.workspace)?);
        }
        let workspace = self.workspace.as_ref().map_or(0, Memory::address);
        // SAFETY: operands of the lengths that `Convolution::expect` has checked, in the memory of this GPU, and
        // as much workspace as the algorithm asks for.
        unsafe {
            plan.run(
                self.handle,
                operands.map(|array| array.memory().address()),
                workspace,
            )
        }
        .map_err(|error| wrong(&format!("{pass:?} of {shape:?}"), error))
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: created in `new`, destroyed once.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Plan {
    fn new(
        handle: sys::cudnnHandle_t,
        shape: &Convolution,
        pass: Pass,
        precision: Precision,
    ) -> Result<Self> {
        let fail = |error| wrong(&format!("describe {shape:?}"), error);
        let mut plan = Self {
            x: result::create_tensor_descriptor().map_err(fail)?,
            w: result::create_filter_descriptor().map_err(fail)?,
            y: result::create_tensor_descriptor().map_err(fail)?,
            convolution: result::create_convolution_descriptor().map_err(fail)?,
            algorithm: None,
            workspace: 0,
        };
        plan.describe(shape, precision).map_err(fail)?;
        let fail = |error| wrong(&format!("algorithms for {pass:?} of {shape:?}"), error);
        // SAFETY: descriptors that were set.
        let found = unsafe { plan.candidates(handle, pass) }.map_err(fail)?;
        let Some((algorithm, math, bytes)) = found else {
            return Err(wrong(
                &format!("{pass:?} of {shape:?}"),
                "no deterministic algorithm within a gibibyte of workspace",
            ));
        };
        let math = match (shape.real, precision) {
            (Real::F32, Precision::Full) => sys::cudnnMathType_t::CUDNN_FMA_MATH,
            _ => math,
        };
        // SAFETY: a descriptor that was set.
        unsafe { result::set_convolution_math_type(plan.convolution, math) }.map_err(fail)?;
        plan.algorithm = Some(algorithm);
        plan.workspace = bytes;
        Ok(plan)
    }

    fn describe(&mut self, s: &Convolution, precision: Precision) -> Answer<()> {
        let layout = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let (dtype, math) = match s.real {
            Real::Bf16 => (
                sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
                sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
            ),
            Real::F32 => (
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
                match precision {
                    Precision::Full => sys::cudnnMathType_t::CUDNN_FMA_MATH,
                    Precision::Tf32 => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
                },
            ),
        };
        let four = |sizes: [usize; 4]| sizes.map(|size| size as i32);
        let one = |size: usize| size as i32;
        // cuDNN names sizes (N, C, H, W) whatever the layout.
        // SAFETY: descriptors that were created in `new`.
        unsafe {
            result::set_tensor4d_descriptor(self.x, layout, dtype, four([s.n, s.c_in, s.h, s.w]))?;
            result::set_tensor4d_descriptor(
                self.y,
                layout,
                dtype,
                four([s.n, s.c_out, s.out_h(), s.out_w()]),
            )?;
            let of_weight = four([s.c_out, s.c_in / s.groups, s.kernel, s.kernel]);
            result::set_filter4d_descriptor(self.w, dtype, layout, of_weight)?;
            result::set_convolution2d_descriptor(
                self.convolution,
                one(s.padding),
                one(s.padding),
                one(s.stride),
                one(s.stride),
                one(s.dilation),
                one(s.dilation),
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            )?;
            result::set_convolution_group_count(self.convolution, one(s.groups))?;
            result::set_convolution_math_type(self.convolution, math)
        }
    }

    /// The first of cuDNN's algorithms, in the order of its heuristics, that gives the same bits at every run
    /// and fits the workspace. Not timed: what is fastest in one run need not be in the next, and another
    /// algorithm has other bits.
    ///
    /// # Safety
    /// A live handle; descriptors that are set.
    unsafe fn candidates(
        &self,
        handle: sys::cudnnHandle_t,
        pass: Pass,
    ) -> Answer<Option<(Algorithm, sys::cudnnMathType_t, usize)>> {
        let mut count = 0;
        macro_rules! choose {
            ($perf:ty, $get:path, $operands:expr, $wrap:path) => {{
                // SAFETY: plain numbers, for which zeros are values: status, algorithm and math type have a
                // variant of number 0.
                let mut found: [$perf; CANDIDATES] = unsafe { std::mem::zeroed() };
                let (a, b, c, d) = $operands;
                // SAFETY: descriptors as the caller promises; room for as many answers as are asked for.
                unsafe { $get(handle, a, b, c, d, CANDIDATES as i32, &raw mut count, found.as_mut_ptr())? };
                let usable = found.iter().take(count as usize).find(|perf| {
                    perf.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                        && perf.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                        && perf.memory <= WORKSPACE
                });
                usable.map(|perf| ($wrap(perf.algo), perf.mathType, perf.memory))
            }};
        }
        Ok(match pass {
            Pass::Forward => choose!(
                sys::cudnnConvolutionFwdAlgoPerf_t,
                result::get_convolution_forward_algorithm,
                (self.x, self.w, self.convolution, self.y),
                Algorithm::Forward
            ),
            Pass::GradInput => choose!(
                sys::cudnnConvolutionBwdDataAlgoPerf_t,
                result::get_convolution_backward_data_algorithm,
                (self.w, self.y, self.convolution, self.x),
                Algorithm::GradInput
            ),
            Pass::GradWeight => choose!(
                sys::cudnnConvolutionBwdFilterAlgoPerf_t,
                result::get_convolution_backward_filter_algorithm,
                (self.x, self.y, self.convolution, self.w),
                Algorithm::GradWeight
            ),
        })
    }

    /// # Safety
    /// A live handle; addresses of x, w and y of the described lengths, and of the workspace.
    unsafe fn run(
        &self,
        handle: sys::cudnnHandle_t,
        [x, w, y]: [u64; 3],
        workspace: u64,
    ) -> Answer<()> {
        let (one, zero) = (1f32, 0f32);
        let (alpha, beta) = ((&raw const one).cast(), (&raw const zero).cast());
        let (at, room) = (|address: u64| address as *const _, workspace as *mut _);
        let to = |address: u64| address as *mut _;
        let (conv, size) = (self.convolution, self.workspace);
        // SAFETY: as the caller promises.
        unsafe {
            match self.algorithm {
                Some(Algorithm::Forward(algo)) => result::convolution_forward(
                    handle,
                    alpha,
                    self.x,
                    at(x),
                    self.w,
                    at(w),
                    conv,
                    algo,
                    room,
                    size,
                    beta,
                    self.y,
                    to(y),
                ),
                Some(Algorithm::GradInput(algo)) => result::convolution_backward_data(
                    handle,
                    alpha,
                    self.w,
                    at(w),
                    self.y,
                    at(y),
                    conv,
                    algo,
                    room,
                    size,
                    beta,
                    self.x,
                    to(x),
                ),
                Some(Algorithm::GradWeight(algo)) => result::convolution_backward_filter(
                    handle,
                    alpha,
                    self.x,
                    at(x),
                    self.y,
                    at(y),
                    conv,
                    algo,
                    room,
                    size,
                    beta,
                    self.w,
                    to(w),
                ),
                None => Ok(()),
            }
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: created in `new`, destroyed once.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.x);
            let _ = result::destroy_tensor_descriptor(self.y);
            let _ = result::destroy_filter_descriptor(self.w);
            let _ = result::destroy_convolution_descriptor(self.convolution);
        }
    }
}

fn wrong(what: &str, why: impl std::fmt::Debug) -> Error {
    Error::Driver {
        what: format!("cuDNN: {what}"),
        why: format!("{why:?}"),
    }
}
