//! Gaussian blur, separable, with the picture mirrored at its edges.

use super::Planes;

/// The odd kernel width for a picture of `size` pixels: about a tenth of it, as SimCLR has it
/// (arXiv:2002.05709, appendix A), and at least 3.
#[must_use]
pub fn kernel_for(size: usize) -> usize {
    (size / 10).max(3) | 1
}

/// Blurs each plane with a Gaussian of standard deviation `sigma` pixels, cut off at `kernel`
/// (odd) pixels; edges are mirrored without repeating the edge pixel. torchvision's `gaussian_blur`.
pub fn gaussian_blur(planes: &mut Planes, kernel: usize, sigma: f64) {
    let (height, width) = (planes.height, planes.width);
    if height == 0 || width == 0 {
        return;
    }
    let weights = gaussian(kernel, sigma);
    let half = kernel / 2;
    let mut blurred = vec![0f32; height * width];
    let mut padded = vec![0f32; width + 2 * half];
    for plane in planes.channels_mut() {
        // Columns: whole rows are added, which vectorises.
        for (y, out) in blurred.chunks_exact_mut(width).enumerate() {
            out.fill(0.);
            for (i, weight) in weights.iter().enumerate() {
                let source = mirrored(y as isize + i as isize - half as isize, height);
                add_scaled(out, &plane[source * width..][..width], *weight);
            }
        }
        // Rows: shifted copies of one padded row are added.
        for (from, to) in blurred
            .chunks_exact(width)
            .zip(plane.chunks_exact_mut(width))
        {
            for (i, value) in padded.iter_mut().enumerate() {
                *value = from[mirrored(i as isize - half as isize, width)];
            }
            to.fill(0.);
            for (i, weight) in weights.iter().enumerate() {
                add_scaled(to, &padded[i..][..width], *weight);
            }
        }
    }
}

fn add_scaled(sum: &mut [f32], values: &[f32], weight: f32) {
    for (s, v) in sum.iter_mut().zip(values) {
        *s += weight * v;
    }
}

/// Weights that add up to 1. A `sigma` so small that all but the middle one vanish, gives the
/// middle one alone.
fn gaussian(kernel: usize, sigma: f64) -> Vec<f32> {
    let middle = (kernel / 2) as f64;
    let density: Vec<f64> = (0..kernel)
        .map(|i| {
            let distance = i as f64 - middle;
            // At distance 0 the density is 1 for any sigma, 0 included.
            if distance == 0. {
                1.
            } else {
                (-0.5 * (distance / sigma).powi(2)).exp()
            }
        })
        .collect();
    let total: f64 = density.iter().sum();
    density.into_iter().map(|d| (d / total) as f32).collect()
}

/// `index` reflected into `0..len` about the centres of the first and last element.
fn mirrored(index: isize, len: usize) -> usize {
    if len == 1 {
        return 0;
    }
    let period = 2 * (len as isize - 1);
    let index = index.rem_euclid(period);
    index.min(period - index) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_odd_and_a_tenth_of_the_picture() {
        assert_eq!([32, 64, 96, 224].map(kernel_for), [3, 7, 9, 23]);
    }

    #[test]
    fn indices_reflect_without_repeating_the_edge() {
        let found: Vec<usize> = (-3..7).map(|i| mirrored(i, 4)).collect();
        assert_eq!(found, [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]);
        assert_eq!(mirrored(-5, 1), 0);
    }

    #[test]
    fn the_mean_of_a_constant_is_kept_even_where_the_kernel_is_wider_than_the_picture() {
        let mut planes = Planes {
            height: 2,
            width: 3,
            values: vec![0.25; 18],
        };
        gaussian_blur(&mut planes, 23, 2.);
        assert!(planes.values.iter().all(|v| (v - 0.25).abs() < 1e-6));
    }

    #[test]
    fn sigma_zero_changes_nothing() {
        let mut planes = Planes {
            height: 2,
            width: 2,
            values: (0..12).map(|i| i as f32 / 12.).collect(),
        };
        let before = planes.clone();
        gaussian_blur(&mut planes, 3, 0.);
        assert_eq!(planes, before);
    }
}
