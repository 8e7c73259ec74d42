//! Nuisance covariance, mutual neighbours and the whitening by them.

#![cfg(feature = "candle")]
#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod controls;
mod errors;
mod file;
mod golden;
mod neighbours;
mod stream;
mod threads;

use fgvr_perturb::{AdaptConfig, AdaptError, AdaptKind, Adaptation, NuisanceCovariance};

/// Plain features and augmented views of images, made by a formula.
pub(crate) struct Photos {
    pub(crate) images: usize,
    pub(crate) views: usize,
    pub(crate) width: usize,
}

impl Photos {
    /// Image `i`'s features lie about those of class i mod 6; its views move along the even channels.
    fn value(&self, image: usize, view: usize, channel: usize) -> f32 {
        let noise = |a: usize, b: usize| {
            let x = (a as f64 * 12.9898 + b as f64 * 78.233).sin() * 43758.5453;
            x - x.floor() - 0.5
        };
        let own = 3. * noise(image % 6, channel) + 0.5 * noise(image + 100, channel);
        let moved = noise(1000 + image * self.views + view, channel);
        let far = if channel.is_multiple_of(2) { 2. } else { 0.1 };
        let moved = if view == 0 { 0. } else { far * moved };
        (7. + own + moved) as f32
    }

    /// (N, C)
    pub(crate) fn plain(&self) -> Vec<f32> {
        let row = |i| (0..self.width).map(move |c| self.value(i, 0, c));
        (0..self.images).flat_map(row).collect()
    }

    /// (N, V, C)
    pub(crate) fn augmented(&self) -> Vec<f32> {
        let views = |i| (1..=self.views).map(move |v| (i, v));
        let row = |(i, v)| (0..self.width).map(move |c| self.value(i, v, c));
        (0..self.images).flat_map(views).flat_map(row).collect()
    }

    pub(crate) fn statistics(&self) -> NuisanceCovariance {
        let mut statistics = NuisanceCovariance::new(self.width).unwrap();
        statistics.add_plain(&self.plain()).unwrap();
        statistics.add_views(&self.augmented(), self.views).unwrap();
        statistics
    }

    pub(crate) fn fit(&self, cfg: &AdaptConfig) -> Result<Adaptation, AdaptError> {
        Adaptation::fit(&self.statistics(), Some(&self.plain()), cfg)
    }

    pub(crate) fn fit_kind(&self, kind: AdaptKind) -> Adaptation {
        self.fit(&AdaptConfig::of(kind)).unwrap()
    }
}

pub(crate) const FEW: Photos = Photos {
    images: 60,
    views: 3,
    width: 10,
};
