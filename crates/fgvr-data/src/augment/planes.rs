//! Small float pictures, one plane per channel: what the transforms work on.

/// A picture (3, H, W) in [0, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct Planes {
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// Red, green and blue, each `height * width` values row by row.
    pub values: Vec<f32>,
}

impl Planes {
    /// A black picture.
    #[must_use]
    pub fn zeros(height: usize, width: usize) -> Self {
        Self {
            height,
            width,
            values: vec![0.; 3 * height * width],
        }
    }

    /// The three planes.
    #[must_use]
    pub fn channels(&self) -> [&[f32]; 3] {
        let (red, rest) = self.values.split_at(self.height * self.width);
        let (green, blue) = rest.split_at(self.height * self.width);
        [red, green, blue]
    }

    /// The three planes, to be written.
    pub fn channels_mut(&mut self) -> [&mut [f32]; 3] {
        let (red, rest) = self.values.split_at_mut(self.height * self.width);
        let (green, blue) = rest.split_at_mut(self.height * self.width);
        [red, green, blue]
    }
}
