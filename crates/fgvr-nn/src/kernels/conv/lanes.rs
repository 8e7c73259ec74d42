//! Registers of floats, by level.

#[cfg(target_arch = "x86_64")]
pub(super) use self::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use self::avx512::Avx512;
pub(super) use self::portable::Portable;

/// A register of floats.
///
/// # Safety
/// The methods may be called only where the processor has the level, and are fast only inlined
/// into a function that enables it.
pub(super) trait Lanes {
    type Vector: Copy;
    const COUNT: usize;
    unsafe fn zero() -> Self::Vector;
    /// COUNT copies of the float at `from`.
    unsafe fn broadcast(from: *const f32) -> Self::Vector;
    /// Reads COUNT floats, of any alignment.
    unsafe fn load(from: *const f32) -> Self::Vector;
    /// Writes COUNT floats, at any alignment.
    unsafe fn store(to: *mut f32, vector: Self::Vector);
    /// a * b + sum.
    unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, sum: Self::Vector) -> Self::Vector;
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn subtract(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// COUNT copies of `value`.
    unsafe fn splat(value: f32) -> Self::Vector;
    /// `vector` cut off below `floor` and above `ceiling`; not at NaN, and NaN stays NaN.
    unsafe fn cut(vector: Self::Vector, floor: Self::Vector, ceiling: Self::Vector)
    -> Self::Vector;
}

/// Runs `$body` for each index `$index` below `$count`, written out: a loop would be unrolled, and the
/// sums kept in registers, at the highest optimisation level only.
macro_rules! each_index {
    ($count:ident, |$index:ident| $body:block) => {
        each_index!($count, $index, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    ($count:ident, $index:ident, $body:block, $($at:literal)*) => {$(
        if $at < $count {
            let $index = $at;
            $body
        }
    )*};
}
pub(super) use each_index;

/// Registers of one row, from `from`.
///
/// # Safety
/// VECTORS registers of floats at `from`, and the level of `L`.
#[inline(always)]
pub(super) unsafe fn load_row<L: Lanes, const VECTORS: usize>(
    from: *const f32,
) -> [L::Vector; VECTORS] {
    // SAFETY: the caller's promise.
    std::array::from_fn(|v| unsafe { L::load(from.wrapping_add(v * L::COUNT)) })
}

/// Writes the registers of one row to `to`.
///
/// # Safety
/// VECTORS registers of floats at `to`, and the level of `L`.
#[inline(always)]
pub(super) unsafe fn store_row<L: Lanes, const VECTORS: usize>(
    to: *mut f32,
    row: &[L::Vector; VECTORS],
) {
    for (v, vector) in row.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { L::store(to.wrapping_add(v * L::COUNT), *vector) };
    }
}

/// One float, for the channels that fill no register. Adding and multiplying round once each.
pub(super) struct Single;

impl Lanes for Single {
    type Vector = f32;
    const COUNT: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> f32 {
        0.
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> f32 {
        // SAFETY: a float by the caller's promise.
        unsafe { *from }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> f32 {
        // SAFETY: as above.
        unsafe { *from }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: f32) {
        // SAFETY: as above.
        unsafe { *to = vector }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: f32, b: f32, sum: f32) -> f32 {
        a * b + sum
    }

    #[inline(always)]
    unsafe fn add(a: f32, b: f32) -> f32 {
        a + b
    }

    #[inline(always)]
    unsafe fn subtract(a: f32, b: f32) -> f32 {
        a - b
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> f32 {
        value
    }

    #[inline(always)]
    unsafe fn cut(vector: f32, floor: f32, ceiling: f32) -> f32 {
        cut(vector, floor, ceiling)
    }
}

#[inline(always)]
fn cut(v: f32, floor: f32, ceiling: f32) -> f32 {
    let v = if v < floor { floor } else { v };
    if v > ceiling { ceiling } else { v }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, _mm_load_ss, _mm512_add_ps, _mm512_broadcastss_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_storeu_ps, _mm512_sub_ps,
    };

    /// See `Level::Avx512`.
    pub(in super::super) struct Avx512;

    impl super::Lanes for Avx512 {
        type Vector = __m512;
        const COUNT: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: the level is the caller's promise.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn broadcast(from: *const f32) -> __m512 {
            // SAFETY: as above; a float by the caller's promise.
            unsafe { _mm512_broadcastss_ps(_mm_load_ss(from)) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            // SAFETY: as above; 16 floats by the caller's promise.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: __m512) {
            // SAFETY: as above; 16 floats by the caller's promise.
            unsafe { _mm512_storeu_ps(to, vector) }
        }

        #[inline(always)]
        unsafe fn multiply_add(a: __m512, b: __m512, sum: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_fmadd_ps(a, b, sum) }
        }

        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn subtract(a: __m512, b: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_sub_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn cut(vector: __m512, floor: __m512, ceiling: __m512) -> __m512 {
            // The second operand is the result where one of the two is NaN.
            // SAFETY: as above.
            unsafe { _mm512_min_ps(ceiling, _mm512_max_ps(floor, vector)) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm_load_ss, _mm256_add_ps, _mm256_broadcastss_ps, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_storeu_ps, _mm256_sub_ps,
    };

    /// See `Level::Avx2`.
    pub(in super::super) struct Avx2;

    impl super::Lanes for Avx2 {
        type Vector = __m256;
        const COUNT: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> __m256 {
            // SAFETY: the level is the caller's promise.
            unsafe { _mm256_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn broadcast(from: *const f32) -> __m256 {
            // SAFETY: as above; a float by the caller's promise.
            unsafe { _mm256_broadcastss_ps(_mm_load_ss(from)) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            // SAFETY: as above; 8 floats by the caller's promise.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: __m256) {
            // SAFETY: as above; 8 floats by the caller's promise.
            unsafe { _mm256_storeu_ps(to, vector) }
        }

        #[inline(always)]
        unsafe fn multiply_add(a: __m256, b: __m256, sum: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_fmadd_ps(a, b, sum) }
        }

        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn subtract(a: __m256, b: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_sub_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn cut(vector: __m256, floor: __m256, ceiling: __m256) -> __m256 {
            // The second operand is the result where one of the two is NaN.
            // SAFETY: as above.
            unsafe { _mm256_min_ps(ceiling, _mm256_max_ps(floor, vector)) }
        }
    }
}

mod portable {
    /// See `Level::Portable`.
    pub(in super::super) struct Portable;

    impl super::Lanes for Portable {
        type Vector = [f32; 4];
        const COUNT: usize = 4;

        #[inline(always)]
        unsafe fn zero() -> [f32; 4] {
            [0.; 4]
        }

        #[inline(always)]
        unsafe fn broadcast(from: *const f32) -> [f32; 4] {
            // SAFETY: a float by the caller's promise.
            [unsafe { *from }; 4]
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> [f32; 4] {
            // SAFETY: 4 floats by the caller's promise.
            unsafe { from.cast::<[f32; 4]>().read_unaligned() }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: [f32; 4]) {
            // SAFETY: 4 floats by the caller's promise.
            unsafe { to.cast::<[f32; 4]>().write_unaligned(vector) }
        }

        #[inline(always)]
        unsafe fn multiply_add(a: [f32; 4], b: [f32; 4], sum: [f32; 4]) -> [f32; 4] {
            std::array::from_fn(|i| a[i] * b[i] + sum[i])
        }

        #[inline(always)]
        unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
            std::array::from_fn(|i| a[i] + b[i])
        }

        #[inline(always)]
        unsafe fn subtract(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
            std::array::from_fn(|i| a[i] - b[i])
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> [f32; 4] {
            [value; 4]
        }

        #[inline(always)]
        unsafe fn cut(vector: [f32; 4], floor: [f32; 4], ceiling: [f32; 4]) -> [f32; 4] {
            std::array::from_fn(|i| super::cut(vector[i], floor[i], ceiling[i]))
        }
    }
}
