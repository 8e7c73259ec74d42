//! What is asked of a convolution, on any machine.

use crate::{Array, DType, Error, Real, Result};

/// A convolution of channels-last maps: x (N, H, W, I) by w (O, k, k, I/groups) is y (N, H', W', O).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// N
    pub n: usize,
    /// H
    pub h: usize,
    /// W
    pub w: usize,
    /// I
    pub c_in: usize,
    /// O
    pub c_out: usize,
    /// k
    pub kernel: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Places of zeros around the input.
    pub padding: usize,
    /// Distance between the taps of a window.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Type of x, w, y and their gradients; sums are f32.
    pub real: Real,
}

/// Which of the three is computed from the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// y of x and w.
    Forward,
    /// dx of dy and w.
    GradInput,
    /// dw of x and dy.
    GradWeight,
}

impl Convolution {
    fn out(&self, size: usize) -> usize {
        let span = self.dilation * (self.kernel - 1) + 1;
        (size + 2 * self.padding).saturating_sub(span) / self.stride + 1
    }

    /// H'
    #[must_use]
    pub fn out_h(&self) -> usize {
        self.out(self.h)
    }

    /// W'
    #[must_use]
    pub fn out_w(&self) -> usize {
        self.out(self.w)
    }

    /// Elements of x.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.n * self.h * self.w * self.c_in
    }

    /// Elements of y.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.n * self.out_h() * self.out_w() * self.c_out
    }

    /// Elements of w.
    #[must_use]
    pub fn weight_len(&self) -> usize {
        self.c_out * self.kernel * self.kernel * (self.c_in / self.groups)
    }

    /// That the operands have the lengths and the type of this convolution, in the order x, w, y.
    ///
    /// # Errors
    /// One that has not; sizes of zero, groups that do not divide the channels, a window larger than the
    /// padded input.
    pub fn expect(&self, [x, w, y]: [&Array; 3]) -> Result<()> {
        const OP: &str = "convolution";
        let sizes = [
            self.n,
            self.h,
            self.w,
            self.c_in,
            self.c_out,
            self.kernel,
            self.stride,
            self.dilation,
        ];
        let span = self.dilation * self.kernel.saturating_sub(1) + 1;
        let fits = self.h.min(self.w) + 2 * self.padding >= span;
        let divides = self.groups > 0
            && self.c_in.is_multiple_of(self.groups)
            && self.c_out.is_multiple_of(self.groups);
        if sizes.contains(&0) || !fits || !divides {
            return Err(Error::Shape {
                op: OP,
                what: "shape",
                expected: "sizes above zero, a window within the padded input, groups that divide the channels".into(),
                found: format!("{self:?}"),
            });
        }
        let dtype = DType::from(self.real);
        x.expect(OP, "x", dtype, self.input_len())?;
        w.expect(OP, "w", dtype, self.weight_len())?;
        y.expect(OP, "y", dtype, self.output_len())
    }
}

/// A matrix product over row-major matrices: c (m, n) = a (m, k) b (k, n), each of a and b perhaps stored
/// as its transpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// Rows of c.
    pub m: usize,
    /// Columns of c.
    pub n: usize,
    /// What is summed over.
    pub k: usize,
    /// a is stored as (k, m).
    pub a_transposed: bool,
    /// b is stored as (n, k).
    pub b_transposed: bool,
}

impl Product {
    /// That the operands fit; a and b of one type, c of the same or f32.
    ///
    /// # Errors
    /// Operands that do not.
    pub fn expect(&self, [a, b, c]: [&Array; 3]) -> Result<()> {
        const OP: &str = "matrix product";
        let real = a.real(OP, "a")?;
        a.expect(OP, "a", real.into(), self.m * self.k)?;
        b.expect(OP, "b", real.into(), self.k * self.n)?;
        let dtype = match c.dtype() {
            DType::F32 => DType::F32,
            _ => real.into(),
        };
        c.expect(OP, "c", dtype, self.m * self.n)
    }
}
