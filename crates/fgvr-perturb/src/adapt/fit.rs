//! From covariances to the transformation.

use super::adaptation::{Adaptation, Fitted};
use super::cholesky::{cholesky, inverse_of_lower};
use super::covariance::{between, in_random_basis, of_trace_one, spectrum};
use super::nuisance::at_least_two;
use super::symmetric_sum::{BLOCK, SymmetricSum};
use super::vectors::{add_scaled, dot, trace};
use super::{
    AdaptConfig, AdaptError, AdaptKind, NuisanceCovariance, check, mutual_neighbours,
    neighbour_covariance,
};

impl Adaptation {
    /// The transformation y = W (f - μ) that divides out the covariance `cfg.kind` asks for.
    ///
    /// M is the sum of Σ_w / tr Σ_w and λ Σ_n / tr Σ_n, or the covariance of a control, and A = M + r tr M / C I.
    /// W is a multiple of L^-1 with A = L L^T (Cholesky), lower triangular, such that the outputs of the plain features
    /// have a mean square of 1 over images and channels. Features that are compared by cosine do not tell
    /// square roots of A^-1 apart, since one is a rotation of the other.
    ///
    /// `features` (N, C) are the plain features that `statistics` has seen, all of them in any order; only kinds that
    /// search neighbours look at them ([`AdaptKind::needs_features`]). Σ_n is taken from pairs that are mutual
    /// neighbours after whitening by Σ_w alone.
    ///
    /// A Σ_w with fewer directions than channels is no error, as the ridge holds the others: [`Fitted::rank`] and
    /// [`Fitted::effective_rank`] of the result tell, and [`Adaptation::rank_deficient`].
    ///
    /// # Errors
    /// Settings out of range; fewer than two images, plain or with views; images or views that are all equal; features
    /// that are missing, not finite, or of another number than `statistics` has seen; a singular A.
    pub fn fit(
        statistics: &NuisanceCovariance,
        features: Option<&[f32]>,
        cfg: &AdaptConfig,
    ) -> Result<Self, AdaptError> {
        cfg.validate()?;
        let source = Source::new(statistics, cfg)?;
        let features = match cfg.kind.needs_features() {
            true => Some(checked(statistics, features, cfg.kind)?),
            false => None,
        };
        let width = source.width;
        let mut pairs = None;
        let mut neighbours = |within: &[f64]| -> Result<Vec<f64>, AdaptError> {
            let features = features.unwrap_or_default();
            let whitening = source.adaptation(
                Some(within.to_vec()),
                &AdaptConfig {
                    kind: AdaptKind::Nuisance,
                    ..cfg.clone()
                },
            )?;
            let found = mutual_neighbours(&whitening.apply(features)?, width, cfg.neighbours)?;
            let covariance = neighbour_covariance(features, width, &found)?;
            let what = || {
                format!(
                    "all {} pairs of neighbours have equal features",
                    found.len()
                )
            };
            source.varies(
                &covariance,
                what,
                "photos that are not copies of each other",
            )?;
            pairs = Some(found.len());
            Ok(of_trace_one(covariance, width))
        };
        let covariance = match (cfg.kind, source.within()) {
            (AdaptKind::Centred, _) => None,
            (AdaptKind::Total, _) => Some(source.total.clone()),
            (AdaptKind::Nuisance, within) => Some(within.to_vec()),
            (AdaptKind::Neighbours, within) => Some(neighbours(within)?),
            (AdaptKind::RandomBasis, within) => Some(in_random_basis(within, width, cfg.seed)?),
            (AdaptKind::Between, within) => {
                let between = between(&source.total, within, width)?;
                let what = || {
                    "the views of an image vary more than the images in all directions".to_owned()
                };
                source.varies(
                    &between,
                    what,
                    "images that differ by more than their views",
                )?;
                Some(between)
            }
            (AdaptKind::NuisanceNeighbours, within) => {
                let mut sum = of_trace_one(within.to_vec(), width);
                add_scaled(&mut sum, cfg.neighbour_weight, &neighbours(within)?);
                Some(sum)
            }
        };
        let mut adaptation = source.adaptation(covariance, cfg)?;
        adaptation.fitted.pairs = pairs;
        if let Some(within) = &source.within {
            let spectrum = spectrum(within, width)?;
            adaptation.fitted.rank = Some(spectrum.rank);
            adaptation.fitted.effective_rank = Some(spectrum.effective_rank);
        }
        Ok(adaptation)
    }
}

/// The plain features, one row for each image that `statistics` has seen plainly.
fn checked<'a>(
    statistics: &NuisanceCovariance,
    features: Option<&'a [f32]>,
    kind: AdaptKind,
) -> Result<&'a [f32], AdaptError> {
    let width = statistics.width();
    let kind = kind.name();
    let features = features.ok_or(AdaptError::Features { kind })?;
    let n = check::finite_rows("fit", "features", features, width)?;
    let images = statistics.plain_images();
    if n != images {
        return Err(AdaptError::Length {
            op: "fit",
            name: "features",
            found: features.len(),
            expected: format!("{images} images x {width} channels, as were added"),
        });
    }
    Ok(features)
}

/// What an adaptation is fitted to.
struct Source {
    width: usize,
    mean: Vec<f64>,
    total: Vec<f64>,
    /// Σ_w, where the kind needs it.
    within: Option<Vec<f64>>,
    images: usize,
    view_images: usize,
    views: usize,
}

impl Source {
    fn new(statistics: &NuisanceCovariance, cfg: &AdaptConfig) -> Result<Self, AdaptError> {
        let images = statistics.plain_images();
        at_least_two("fit", "plain features", images)?;
        let (mean, total) = statistics.mean_and_total()?;
        let mut source = Self {
            width: statistics.width(),
            mean,
            total,
            within: None,
            images,
            view_images: 0,
            views: 0,
        };
        let what = || format!("the plain features of all {images} images are equal");
        source.varies(&source.total, what, "images that differ")?;
        if cfg.kind.needs_views() {
            let images = statistics.images();
            at_least_two("fit", "augmented views", images)?;
            let within = statistics.within()?;
            let what = || format!("the views of each of {images} images are equal");
            source.varies(&within, what, "views that are augmented at random")?;
            source.within = Some(within);
            (source.view_images, source.views) = (images, statistics.views());
        }
        Ok(source)
    }

    /// Σ_w; empty for kinds that do not look at it.
    fn within(&self) -> &[f64] {
        self.within.as_deref().unwrap_or_default()
    }

    /// An error where a covariance is no more than the rounding of f32 features about μ.
    fn varies(
        &self,
        covariance: &[f64],
        what: impl Fn() -> String,
        expected: &'static str,
    ) -> Result<(), AdaptError> {
        let rounding = f64::from(f32::EPSILON).powi(2) * dot(&self.mean, &self.mean);
        if trace(covariance, self.width) > rounding {
            return Ok(());
        }
        Err(AdaptError::NoVariance {
            op: "fit",
            what: what(),
            expected,
        })
    }

    /// Divides out `covariance`, or nothing, with the ridge of `cfg`.
    fn adaptation(
        &self,
        covariance: Option<Vec<f64>>,
        cfg: &AdaptConfig,
    ) -> Result<Adaptation, AdaptError> {
        let width = self.width;
        let mut weight = match covariance {
            Some(covariance) => {
                let mut matrix = of_trace_one(covariance, width);
                // tr M is 1.
                let ridge = cfg.ridge / width as f64;
                matrix
                    .iter_mut()
                    .step_by(width + 1)
                    .for_each(|v| *v += ridge);
                cholesky(&mut matrix, width).map_err(|channel| AdaptError::NotPositive {
                    channel,
                    ridge: cfg.ridge,
                })?;
                inverse_of_lower(&matrix, width)
            }
            None => {
                let mut identity = vec![0.; width * width];
                identity.iter_mut().step_by(width + 1).for_each(|v| *v = 1.);
                identity
            }
        };
        let scale = self.mean_square(&weight)?.sqrt().recip();
        weight.iter_mut().for_each(|value| *value *= scale);
        let fitted = Fitted {
            images: self.images,
            view_images: self.view_images,
            views: self.views,
            ..Fitted::default()
        };
        Adaptation::rounded(&weight, &self.mean, cfg, fitted)
    }

    /// The mean over images and channels of the squares of W (f - μ): tr(W S W^T) / C, which is the sum over entries of
    /// S times W^T W, with S the covariance that divides by the number of images.
    fn mean_square(&self, weight: &[f64]) -> Result<f64, AdaptError> {
        let mut gram = SymmetricSum::new(self.width);
        for rows in weight.chunks(BLOCK * self.width) {
            gram.add(rows)?;
        }
        let n = self.images as f64;
        let biased = (n - 1.) / n;
        Ok(dot(&gram.dense(biased), &self.total) / self.width as f64)
    }
}
