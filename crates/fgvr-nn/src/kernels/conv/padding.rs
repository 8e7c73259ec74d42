//! Zeros around the input of a convolution.

/// How many places of zeros are added on each side of a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Above.
    pub top: usize,
    /// Left.
    pub left: usize,
    /// Below.
    pub bottom: usize,
    /// Right.
    pub right: usize,
}

impl Padding {
    /// TensorFlow's "same": the output has ⌈size / stride⌉ places along each axis, and where the zeros
    /// do not divide evenly, one more is below and on the right.
    ///
    /// Along an axis of `size`, max((⌈size / stride⌉ - 1) stride + extent - size, 0) zeros in all, for a
    /// kernel that spans `extent` places, its dilation included.
    #[must_use]
    pub fn same([height, width]: [usize; 2], extent: usize, stride: usize) -> Self {
        let along = |size: usize| {
            let last = size.div_ceil(stride).saturating_sub(1) * stride;
            let all = (last + extent).saturating_sub(size);
            (all / 2, all - all / 2)
        };
        let ((top, bottom), (left, right)) = (along(height), along(width));
        Self {
            top,
            left,
            bottom,
            right,
        }
    }

    /// The number of zeros on each side, where that is the same on all.
    #[must_use]
    pub fn on_each_side(self) -> Option<usize> {
        (self == Self::from(self.top)).then_some(self.top)
    }

    /// Zeros before and after the rows.
    pub(super) fn of_rows(self) -> [usize; 2] {
        [self.top, self.bottom]
    }

    /// Zeros before and after the columns.
    pub(super) fn of_columns(self) -> [usize; 2] {
        [self.left, self.right]
    }
}

/// The same number on each side.
impl From<usize> for Padding {
    fn from(each: usize) -> Self {
        Self {
            top: each,
            left: each,
            bottom: each,
            right: each,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_gives_the_sides_and_zeros_of_tensorflow() {
        let sides = |top, left, bottom, right| Padding {
            top,
            left,
            bottom,
            right,
        };
        // 3x3 of stride 2 on an even side has one zero, at the end; on an odd side one on each.
        assert_eq!(Padding::same([160, 7], 3, 2), sides(0, 1, 1, 1));
        assert_eq!(Padding::same([14, 10], 5, 2), sides(1, 1, 2, 2));
        assert_eq!(Padding::same([9, 9], 5, 1).on_each_side(), Some(2));
        assert_eq!(Padding::same([4, 4], 1, 2), Padding::default());
    }
}
