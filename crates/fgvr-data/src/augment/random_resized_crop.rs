//! Which part of a photo a view shows.

use rand_chacha::ChaCha8Rng;

use super::Region;
use crate::keyed::{below, uniform};

/// Draws a part of a picture of `height` x `width` whose area is uniform in `scale` (of the whole)
/// and whose ratio of width to height is log-uniform in `ratio`; ten tries, then the largest
/// centred part whose ratio is allowed. The procedure of torchvision's `RandomResizedCrop`.
pub fn random_resized_crop(
    height: usize,
    width: usize,
    scale: [f64; 2],
    ratio: [f64; 2],
    rng: &mut ChaCha8Rng,
) -> Region {
    let area = (height * width) as f64;
    let log_ratio = ratio.map(f64::ln);
    for _ in 0..10 {
        let target = area * uniform(rng, scale);
        let aspect = uniform(rng, log_ratio).exp();
        let w = (target * aspect).sqrt().round_ties_even() as usize;
        let h = (target / aspect).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            return Region {
                top: below(rng, height - h + 1),
                left: below(rng, width - w + 1),
                height: h,
                width: w,
            };
        }
    }
    central_crop(height, width, ratio)
}

/// The largest centred part whose ratio of width to height lies in `ratio`.
pub fn central_crop(height: usize, width: usize, [low, high]: [f64; 2]) -> Region {
    let found = width as f64 / height as f64;
    let (h, w) = if found < low {
        ((width as f64 / low).round_ties_even() as usize, width)
    } else if found > high {
        (height, (height as f64 * high).round_ties_even() as usize)
    } else {
        (height, width)
    };
    // A ratio far from 1 may ask for no pixel at all of a very small picture.
    let (h, w) = (h.clamp(1, height.max(1)), w.clamp(1, width.max(1)));
    Region {
        top: (height - h) / 2,
        left: (width - w) / 2,
        height: h,
        width: w,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed::{Stream, generator};

    #[test]
    fn crops_lie_inside_and_have_the_area_and_ratio_asked_for() {
        let (scale, ratio) = ([0.2, 1.], [0.75, 4. / 3.]);
        let mut widest = 0;
        for index in 0..2000 {
            let mut rng = generator([5, 0, index, 0], Stream::Crop);
            let r = random_resized_crop(120, 160, scale, ratio, &mut rng);
            assert!(r.top + r.height <= 120 && r.left + r.width <= 160);
            let area = (r.height * r.width) as f64 / (120. * 160.);
            let aspect = r.width as f64 / r.height as f64;
            assert!((0.19..=1.).contains(&area), "{area}");
            assert!((0.73..=1.37).contains(&aspect), "{aspect}");
            widest = widest.max(r.left + r.width);
        }
        assert_eq!(widest, 160, "the right edge is reached");
    }

    #[test]
    fn a_picture_of_one_pixel_gives_that_pixel() {
        for index in 0..50 {
            let mut rng = generator([5, 0, index, 0], Stream::Crop);
            let r = random_resized_crop(1, 1, [0.2, 1.], [0.75, 4. / 3.], &mut rng);
            assert_eq!((r.top, r.left, r.height, r.width), (0, 0, 1, 1));
        }
    }

    #[test]
    fn the_fallback_never_takes_an_empty_part() {
        assert_eq!(central_crop(1, 1, [9., 10.]).height, 1);
        assert_eq!(central_crop(1, 1, [0.01, 0.02]).width, 1);
    }
}
