//! Which vector instructions the kernels use, and how a plain loop gets compiled for them.
//!
//! Two ways to use a [`Level`]:
//! - [`simd_fn!`](crate::kernels::simd::simd_fn) compiles an ordinary function over slices once per
//!   level; the compiler vectorises its loops with that level's registers;
//! - hand-written kernels (see `conv`) pick a table of functions by level.
//!
//! # Numerics
//! A loop without reductions gives the same bits at every level: Rust never contracts `a * b + c`
//! into one rounding. Do not write `mul_add` in a `simd_fn!`: at the portable level it is a library
//! call. Sums over a slice are not vectorised, since that would reorder them: keep a small array
//! of partial sums, `[f32; 16]`, and the order is yours, and the same at every level.

use std::io::Write as _;
use std::sync::OnceLock;

/// The environment variable that forces a level.
const VARIABLE: &str = "FGVR_SIMD";

/// A set of vector instructions, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// What every processor of the target has.
    Portable,
    /// x86-64 with AVX2 and FMA: 8 floats at once.
    Avx2,
    /// x86-64 with AVX-512 F, VL, BW and DQ (and AVX2, FMA): 16 floats at once.
    Avx512,
}

impl Level {
    /// All levels, from least to most.
    const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// The highest level of this processor.
    #[must_use]
    pub fn detected() -> Self {
        static DETECTED: OnceLock<Level> = OnceLock::new();
        *DETECTED.get_or_init(detect)
    }

    /// The levels of this processor, from least to most.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|level| *level <= Self::detected())
    }

    /// This level, or the highest of this processor if that is lower. Code for the result may run.
    #[must_use]
    pub fn supported(self) -> Self {
        self.min(Self::detected())
    }

    /// The name that `FGVR_SIMD` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// The level the kernels run at: the processor's highest, or the lower one that the environment
/// variable `FGVR_SIMD=portable|avx2|avx512` asks for. Read once; a value that cannot be followed
/// is reported once on stderr, and the processor's highest level is used.
#[must_use]
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let detected = Level::detected();
        let Some(asked) = std::env::var_os(VARIABLE) else {
            return detected;
        };
        choose(&asked.to_string_lossy(), detected).unwrap_or_else(|complaint| {
            // Not `eprintln!`, which panics where nobody reads.
            let _ = writeln!(std::io::stderr(), "{complaint}");
            detected
        })
    })
}

/// The level that `asked` names, or why it cannot be followed on a processor of level `detected`.
fn choose(asked: &str, detected: Level) -> Result<Level, String> {
    let using = detected.name();
    match Level::from_name(asked) {
        Some(level) if level <= detected => Ok(level),
        Some(_) => Err(format!(
            "{VARIABLE}={asked}: this processor does not have it; using {using}"
        )),
        None => Err(format!(
            "{VARIABLE}={asked}: expected portable, avx2 or avx512; using {using}"
        )),
    }
}

/// Defines a function whose body is compiled once per [`Level`], so that its plain loops over
/// slices are vectorised with the registers of that level.
///
/// The function gets the level as an extra first argument: callers pass
/// [`level()`](crate::kernels::simd::level), tests each of `Level::available()`. A level that the
/// processor does not have runs as the highest it has, so the function is safe to call.
///
/// Arguments are plain identifiers. Chunk and call rayon outside: a closure that runs on another
/// thread is not part of the body and is compiled for the portable level.
///
/// ```
/// use fgvr_nn::kernels::simd::{self, simd_fn};
///
/// simd_fn! {
///     /// y = max(a x + b, 0), per element.
///     fn scale_shift_relu(x: &[f32], a: f32, b: f32, y: &mut [f32]) {
///         for (y, x) in y.iter_mut().zip(x) {
///             *y = (a * x + b).max(0.);
///         }
///     }
/// }
///
/// let mut y = [0.; 3];
/// scale_shift_relu(simd::level(), &[-2., 0., 2.], 3., 1., &mut y);
/// assert_eq!(y, [0., 1., 7.]);
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __fgvr_simd_fn {
    ($($(#[$attribute:meta])* $visibility:vis fn $name:ident(
        $($argument:ident: $type:ty),* $(,)?
    ) $(-> $output:ty)? $body:block)+) => {$(
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name(
            level: $crate::kernels::simd::Level,
            $($argument: $type),*
        ) $(-> $output)? {
            #[inline(always)]
            fn body($($argument: $type),*) $(-> $output)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $output)? {
                body($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
            fn avx512($($argument: $type),*) $(-> $output)? {
                body($($argument),*)
            }

            match level.supported() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `supported` returns only levels that the processor was found to have.
                $crate::kernels::simd::Level::Avx512 => unsafe { avx512($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::kernels::simd::Level::Avx2 => unsafe { avx2($($argument),*) },
                _ => body($($argument),*),
            }
        }
    )+};
}

#[doc(inline)]
pub use crate::__fgvr_simd_fn as simd_fn;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_above_the_processor_is_refused_with_both_names() {
        let complaint = choose("avx512", Level::Avx2).unwrap_err();
        assert!(complaint.contains("FGVR_SIMD=avx512") && complaint.contains("using avx2"));
        assert_eq!(choose("portable", Level::Avx512), Ok(Level::Portable));
    }

    #[test]
    fn an_unknown_level_is_refused_with_the_known_ones() {
        let complaint = choose("AVX9", Level::Portable).unwrap_err();
        assert!(complaint.contains("expected portable, avx2 or avx512; using portable"));
    }

    #[test]
    fn levels_are_ordered_and_only_available_ones_run() {
        assert_eq!(Level::available().next(), Some(Level::Portable));
        assert_eq!(Level::available().last(), Some(Level::detected()));
        assert_eq!(Level::Avx512.supported(), Level::detected());
    }

    simd_fn! {
        fn add_scaled(x: &[f32], a: f32, y: &mut [f32]) -> usize {
            for (y, x) in y.iter_mut().zip(x) {
                *y += a * x;
            }
            y.len()
        }
    }

    #[test]
    fn a_loop_without_reductions_has_the_same_bits_at_every_level() {
        let x: Vec<f32> = (0..1003).map(|i| (i as f32 * 0.37).sin()).collect();
        let expected: Vec<f32> = x.iter().map(|v| 0.1 + 0.7 * v).collect();
        for level in Level::available() {
            let mut y = vec![0.1; x.len()];
            assert_eq!(add_scaled(level, &x, 0.7, &mut y), x.len());
            assert_eq!(y, expected, "{level:?}");
        }
    }
}
