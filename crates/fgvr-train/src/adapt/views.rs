//! What is made of a photo, which is decoded once.

use fgvr_data::augment::{AugmentConfig, Interpolation, Region, ViewKey, augment_by};
use fgvr_data::{Image, Normalisation};

use super::AdaptSettings;
use crate::view::Sight;

/// What a photo is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// To fit to: seen plainly, and in augmented views.
    Fit,
    /// To ask the gate: seen plainly, in two views, and by halves.
    HeldOut,
    /// To judge: seen plainly.
    Judged,
}

/// Views that the gate compares.
pub(super) const FRESH: usize = 2;
/// Halves of a photo.
pub(super) const HALVES: usize = 2;

/// In the place of an epoch: views to fit to, and views that the gate compares, are drawn apart.
const FITTED: u64 = 0;
const FRESHLY: u64 = 1;

/// Makes views of photos.
#[derive(Clone)]
pub(super) struct Views {
    pub(super) sight: Sight,
    augment: AugmentConfig,
    interpolation: Interpolation,
    seed: u64,
    fitted: usize,
}

impl Views {
    pub(super) fn new(sight: &Sight, settings: &AdaptSettings) -> Self {
        Self {
            sight: sight.clone(),
            augment: settings.augment.config(),
            interpolation: settings.augment.interpolation,
            seed: settings.seed,
            fitted: settings.views,
        }
    }

    /// How many images a photo becomes.
    pub(super) fn count(&self, role: Role) -> usize {
        match role {
            Role::Fit => 1 + self.fitted,
            Role::HeldOut => 1 + FRESH + HALVES,
            Role::Judged => 1,
        }
    }

    /// The photo `image`, number `index` of its set, as (count, 3, size, size), the plain view first. The same values
    /// whatever else is made before or beside.
    pub(super) fn of(&self, role: Role, image: &Image, index: usize) -> Vec<f32> {
        let (view, norm) = (&self.sight.view, &self.sight.normalisation);
        let mut values = view.apply(image, norm);
        match role {
            Role::Judged => {}
            Role::Fit => (0..self.fitted)
                .for_each(|number| values.extend(self.drawn(image, index, FITTED, number, norm))),
            Role::HeldOut => {
                (0..FRESH).for_each(|number| {
                    values.extend(self.drawn(image, index, FRESHLY, number, norm));
                });
                for half in halves(image.height, image.width) {
                    values.extend(view.apply_to(image, half, norm));
                }
            }
        }
        values
    }

    fn drawn(
        &self,
        image: &Image,
        index: usize,
        epoch: u64,
        view: usize,
        norm: &Normalisation,
    ) -> Vec<f32> {
        let key = ViewKey {
            seed: self.seed,
            epoch,
            index: index as u64,
            view: view as u64,
        };
        let size = self.sight.view.size;
        augment_by(image, size, &self.augment, self.interpolation, norm, key)
    }
}

/// Two parts of a photo of `height` x `width` that share no pixel: its halves along the longer side, or as much from the
/// middle of each as is at most 4/3 times longer than wide, which is what a view may be. A photo of one pixel has no
/// halves and is taken twice.
fn halves(height: usize, width: usize) -> [Region; HALVES] {
    let along = |long: usize, across: usize| {
        let half = (long / 2).max(1);
        let kept = across.min((half * 4 / 3).max(1));
        ([0, long - half], half, (across - kept) / 2, kept)
    };
    if width >= height {
        let (starts, half, top, kept) = along(width, height);
        starts.map(|left| Region {
            top,
            left,
            height: kept,
            width: half,
        })
    } else {
        let (starts, half, left, kept) = along(height, width);
        starts.map(|top| Region {
            top,
            left,
            height: half,
            width: kept,
        })
    }
}

#[cfg(test)]
mod tests {
    use fgvr_data::augment::EvaluationView;

    use super::*;

    #[test]
    fn halves_share_no_pixel_and_stay_inside() {
        for (height, width) in [
            (160, 160),
            (160, 214),
            (214, 160),
            (7, 5),
            (1, 2),
            (300, 20),
        ] {
            let [a, b] = halves(height, width);
            let apart = a.left + a.width <= b.left || a.top + a.height <= b.top;
            assert!(apart, "{height} x {width}: {a:?} {b:?}");
            for part in [a, b] {
                assert!(part.height >= 1 && part.width >= 1);
                assert!(part.top + part.height <= height && part.left + part.width <= width);
            }
        }
        let [a, b] = halves(1, 1);
        assert_eq!(a, b);
    }

    #[test]
    fn a_photo_is_seen_plainly_first_and_views_depend_on_its_number_alone() {
        let image = Image {
            width: 40,
            height: 30,
            pixels: (0..3 * 40 * 30).map(|i| (i * i % 251) as u8).collect(),
        };
        let sight = Sight {
            view: EvaluationView::of_ratio(16, 1.),
            batch: 4,
            normalisation: Normalisation::imagenet(),
        };
        let settings = AdaptSettings::default();
        let views = Views::new(&sight, &settings);
        let one = 3 * 16 * 16;
        let fit = views.of(Role::Fit, &image, 3);
        assert_eq!(fit.len(), one * views.count(Role::Fit));
        assert_eq!(fit[..one], views.of(Role::Judged, &image, 9));
        assert_eq!(fit, views.of(Role::Fit, &image, 3));
        assert_ne!(fit[one..], views.of(Role::Fit, &image, 4)[one..]);
        let held = views.of(Role::HeldOut, &image, 3);
        assert_eq!(held.len(), one * 5);
        assert_eq!(held[..one], fit[..one]);
        // Not the views that it would be fitted to.
        assert_ne!(held[one..2 * one], fit[one..2 * one]);
    }
}
