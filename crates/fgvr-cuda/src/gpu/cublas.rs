//! Matrix products.

use std::panic::catch_unwind;

use cudarc::cublas::{result, sys};
use cudarc::driver::CudaStream;

use super::Precision;
use crate::{Array, DType, Error, Machine, Memory, Product, Result};

/// Bytes that cuBLAS may use beside its operands; given once, so that it allocates nothing in a step and
/// that its choice of algorithm is the same at every call.
const WORKSPACE: usize = 32 << 20;

/// A handle on one stream.
pub(super) struct Cublas {
    handle: sys::cublasHandle_t,
    precision: Precision,
    _workspace: Memory,
}

// SAFETY: a handle may be used from any thread, by one at a time; the GPU keeps it behind a mutex.
unsafe impl Send for Cublas {}

impl Cublas {
    pub(super) fn new(
        machine: &dyn Machine,
        stream: &CudaStream,
        precision: Precision,
    ) -> Result<Self> {
        // SAFETY: loads the library, as any use of it would.
        if !catch_unwind(|| unsafe { sys::is_culib_present() }).unwrap_or(false) {
            return Err(wrong(
                "load",
                "libcublas was not found; install a CUDA toolkit or nvidia-cublas",
            ));
        }
        let handle = result::create_handle().map_err(|error| wrong("create a handle", error))?;
        let workspace = machine.allocate(WORKSPACE)?;
        let made = Self {
            handle,
            precision,
            _workspace: workspace,
        };
        // SAFETY: a handle that was created, a stream that outlives it in `Gpu`, memory that it keeps.
        unsafe {
            result::set_stream(made.handle, stream.cu_stream().cast())
                .map_err(|error| wrong("set the stream", error))?;
            let address = made._workspace.address() as *mut std::ffi::c_void;
            sys::cublasSetWorkspace_v2(made.handle, address, WORKSPACE)
                .result()
                .map_err(|error| wrong("set the workspace", error))?;
        }
        Ok(made)
    }

    pub(super) fn multiply(
        &self,
        product: &Product,
        [a, b, c]: [&Array; 3],
        add: bool,
    ) -> Result<()> {
        let Product { m, n, k, .. } = *product;
        // cuBLAS counts by columns: what it takes for c is the transpose of ours, cT = bT aT.
        let operation = |transposed| match transposed {
            false => sys::cublasOperation_t::CUBLAS_OP_N,
            true => sys::cublasOperation_t::CUBLAS_OP_T,
        };
        let lda = if product.a_transposed { m } else { k };
        let ldb = if product.b_transposed { k } else { n };
        let dtype = |array: &Array| match array.dtype() {
            DType::Bf16 => sys::cudaDataType::CUDA_R_16BF,
            _ => sys::cudaDataType::CUDA_R_32F,
        };
        let compute = match (self.precision, a.dtype()) {
            (Precision::Tf32, DType::F32) => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let (one, beta) = (1f32, if add { 1f32 } else { 0f32 });
        // SAFETY: operands of the lengths that `Product::expect` has checked, in the memory of this GPU.
        unsafe {
            result::gemm_ex(
                self.handle,
                operation(product.b_transposed),
                operation(product.a_transposed),
                n as i32,
                m as i32,
                k as i32,
                (&raw const one).cast(),
                b.memory().address() as *const _,
                dtype(b),
                ldb as i32,
                a.memory().address() as *const _,
                dtype(a),
                lda as i32,
                (&raw const beta).cast(),
                c.memory().address() as *mut _,
                dtype(c),
                n as i32,
                compute,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|error| wrong(&format!("{product:?}"), error))
    }
}

impl Drop for Cublas {
    fn drop(&mut self) {
        // SAFETY: created in `new`, destroyed once.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

fn wrong(what: &str, why: impl std::fmt::Debug) -> Error {
    Error::Driver {
        what: format!("cuBLAS: {what}"),
        why: format!("{why:?}"),
    }
}
