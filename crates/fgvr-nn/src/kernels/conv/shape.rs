//! The sizes of a convolution, and which of them can be run.

use candle_core::{Result, bail};

use super::Padding;

/// The sizes of a convolution. Kernels, strides and dilations are square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Images.
    pub n: usize,
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Channels of the input.
    pub c_in: usize,
    /// Channels of the output.
    pub c_out: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step of the output over the input.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: Padding,
    /// Step of the kernel over the input.
    pub dilation: usize,
    /// Groups of channels that see only each other; divides `c_in` and `c_out`.
    pub groups: usize,
}

impl ConvShape {
    /// Checks that the kernels can run this shape.
    ///
    /// # Errors
    /// A size of zero, groups that do not divide the channels, a kernel larger than the padded
    /// input, or more elements than memory can address.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("n", self.n),
            ("h", self.h),
            ("w", self.w),
            ("c_in", self.c_in),
            ("c_out", self.c_out),
            ("kernel", self.kernel),
            ("stride", self.stride),
            ("dilation", self.dilation),
            ("groups", self.groups),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, size)| *size == 0) {
            bail!("convolution: {name} is 0, expected at least 1, in {self:?}");
        }
        if !self.c_in.is_multiple_of(self.groups) || !self.c_out.is_multiple_of(self.groups) {
            bail!("convolution: groups do not divide the channels in {self:?}");
        }
        // Sizes within memory, so that the products below and in the kernels cannot wrap.
        let limit = isize::MAX as usize / size_of::<f32>();
        let product = |sizes: &[usize]| {
            sizes
                .iter()
                .try_fold(1usize, |product, size| product.checked_mul(*size))
                .filter(|product| *product <= limit)
        };
        let padded =
            |side: usize, [before, after]: [usize; 2]| side.checked_add(before)?.checked_add(after);
        let extent = (self.kernel - 1)
            .checked_mul(self.dilation)
            .and_then(|extent| extent.checked_add(1));
        let (Some(height), Some(width), Some(extent)) = (
            padded(self.h, self.padding.of_rows()),
            padded(self.w, self.padding.of_columns()),
            extent,
        ) else {
            bail!("convolution: too large: {self:?}");
        };
        if extent > height || extent > width {
            bail!(
                "convolution: a kernel of extent {extent} does not fit the padded input, {height}x{width}, in {self:?}"
            );
        }
        let in_memory = [
            product(&[self.n, height, width, self.c_in]),
            product(&[self.n, height, width, self.c_out]),
            product(&[self.c_in, self.c_out, self.kernel, self.kernel]),
        ];
        if in_memory.contains(&None) {
            bail!("convolution: too large: {self:?}");
        }
        Ok(())
    }

    /// Height of the output.
    #[must_use]
    pub fn out_h(&self) -> usize {
        self.out(self.h, self.padding.of_rows())
    }

    /// Width of the output.
    #[must_use]
    pub fn out_w(&self) -> usize {
        self.out(self.w, self.padding.of_columns())
    }

    fn out(&self, side: usize, [before, after]: [usize; 2]) -> usize {
        (side + before + after - self.dilation * (self.kernel - 1) - 1) / self.stride + 1
    }

    /// Elements of the input, (N, H, W, `c_in`).
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.n * self.h * self.w * self.c_in
    }

    /// Elements of the weights, (`c_out`, `c_in`/groups, kernel, kernel).
    #[must_use]
    pub fn weight_len(&self) -> usize {
        self.c_out * self.fan_in()
    }

    /// Elements of the output, (N, `out_h`, `out_w`, `c_out`).
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.n * self.out_h() * self.out_w() * self.c_out
    }

    /// Multiplications of one pass (as many as additions).
    #[must_use]
    pub fn multiplications(&self) -> usize {
        self.output_len() * self.fan_in()
    }

    /// Whether each of several channels of the output reads the same channel of the input alone.
    #[must_use]
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.c_in == self.groups && self.c_out == self.groups
    }

    /// Weights of one output channel.
    pub(super) fn fan_in(&self) -> usize {
        self.c_in / self.groups * self.kernel * self.kernel
    }

    /// Panics unless the shape can be run and has weights of this length.
    pub(super) fn assert_weight(&self, weight: usize) {
        if let Err(error) = self.check() {
            panic!("{error}");
        }
        assert_eq!(weight, self.weight_len(), "length of weights for {self:?}");
    }

    /// How many images an input and an output of these lengths are.
    pub(super) fn images(&self, input: usize, output: usize) -> usize {
        let [of_input, of_output] = [self.input_len(), self.output_len()].map(|len| len / self.n);
        let n = input / of_input;
        assert_eq!(
            (input, output),
            (n * of_input, n * of_output),
            "lengths of input and output for {self:?}"
        );
        n
    }
}
