//! Convolutions of maps with few places, where much of what a place reads is padding.
//!
//! A map of 2x2 places has 4 of the 9 taps of a 3x3 kernel inside. So each place of the output is a
//! convolution of its own, over just its taps inside, with the images of a batch as the rows of the
//! register tiles: no product with a padded zero is computed.

use rayon::prelude::*;

use super::gather::{Axis, Gather, Run};
use super::pack::{self, Panel};
use super::tiles::{Places, Tiles};
use super::{ConvShape, Target, even_parts, odd_lines};
use crate::Buffer;

/// Places of the output, at most.
const PLACES: usize = 16;
/// Images, at least: they fill the rows of a register tile.
const IMAGES: usize = 8;
/// Images that are worked on at once.
const AT_ONCE: usize = 112;

/// Whether `shape` is faster this way.
pub(super) fn suits(shape: &ConvShape) -> bool {
    let places = shape.out_h() * shape.out_w();
    if shape.groups > 1 || shape.kernel == 1 || places > PLACES || shape.n < IMAGES {
        return false;
    }
    let gather = Gather::forward(shape);
    let inside = |axis: &Axis| {
        (0..axis.count)
            .map(|i| axis.inside_taps(i).count())
            .sum::<usize>()
    };
    let inside = inside(&gather.rows) * inside(&gather.columns);
    // The copies and shorter sums cost something, too.
    inside * 5 < places * shape.kernel * shape.kernel * 4
}

/// What a place of the output reads: for each tap inside, its number and the place of the input.
fn taps(gather: &Gather, place: usize) -> Vec<(usize, usize)> {
    let (row, column) = (place / gather.columns.count, place % gather.columns.count);
    let mut taps = Vec::new();
    for (row_tap, y) in gather.rows.inside_taps(row) {
        for (column_tap, x) in gather.columns.inside_taps(column) {
            let tap = row_tap * gather.columns.len() + column_tap;
            taps.push((tap, y * gather.columns.from_size + x));
        }
    }
    taps
}

/// Index in one image of the target of a place of the output.
fn target_place(gather: &Gather, place: usize) -> usize {
    let (row, column) = (place / gather.columns.count, place % gather.columns.count);
    let row = gather.rows.to_first + gather.rows.to_step * row;
    let column = gather.columns.to_first + gather.columns.to_step * column;
    row * gather.columns.to_size + column
}

/// The values of a map by place: (places, images, pitch).
struct ByPlace {
    values: Buffer,
    images: usize,
    pitch: usize,
}

impl ByPlace {
    /// From `source` (images, places, channels).
    fn new(source: &[f32], places: usize, channels: usize) -> Self {
        let images = source.len() / (places * channels);
        // Neighbouring images fall on different sets of a first-level cache.
        let pitch = odd_lines(channels);
        let mut values = Buffer::scratch(places * images * pitch);
        values
            .par_chunks_mut(images * pitch)
            .enumerate()
            .for_each(|(place, values)| {
                let source = source.chunks_exact(places * channels);
                for (to, image) in values.chunks_exact_mut(pitch).zip(source) {
                    to[..channels].copy_from_slice(&image[place * channels..][..channels]);
                }
            });
        Self {
            values,
            images,
            pitch,
        }
    }

    fn place(&self, place: usize) -> usize {
        place * self.images * self.pitch
    }
}

/// As `direct::multiply`.
pub(super) fn multiply(
    tiles: &Tiles,
    gather: &Gather,
    panels: &[Panel],
    packed: &[f32],
    source: &[f32],
    target: &mut [f32],
) {
    let channels = gather.channels();
    let source = ByPlace::new(source, gather.source_places(), channels);
    let size = gather.depth() * tiles.width();
    let places = gather.rows.count * gather.columns.count;
    let of_image = gather.rows.to_size * gather.columns.to_size * gather.to_channels;
    let blocks: Vec<_> = even_parts(gather.n, AT_ONCE).collect();
    let target = Target::new(target);
    (0..panels.len() * blocks.len())
        .into_par_iter()
        .with_max_len(1)
        .for_each(|task| {
            let index = task / blocks.len();
            let (panel, block) = (&panels[index], blocks[task % blocks.len()].clone());
            let weights = &packed[index * size..][..gather.depth() * panel.width(tiles.lanes)];
            let from: Vec<usize> = block.clone().map(|image| image * source.pitch).collect();
            let to: Vec<usize> = block.map(|image| image * of_image).collect();
            let last = to.last().copied().unwrap_or(0);
            for place in 0..places {
                let runs: Vec<_> = taps(gather, place)
                    .into_iter()
                    .map(|(tap, from)| Run {
                        offset: source.place(from),
                        len: channels,
                        row: tap * channels,
                    })
                    .collect();
                let first = target_place(gather, place) * gather.to_channels + panel.first;
                let target = target.at(first, last + panel.columns);
                for rows in even_parts(from.len(), tiles.rows) {
                    let places = Places {
                        from: &from[rows.clone()],
                        to: &to[rows],
                    };
                    // SAFETY: every image has `channels` values at each place of `source`, and
                    // `weights` rows for each tap. The target has `panel.columns` values at this
                    // place of each image, which no other task writes: it has this panel and block.
                    unsafe {
                        tiles.gather(panel, &source.values, places, &runs, weights, target, None);
                    };
                }
            }
        });
}

/// `sums` (panels, depth, width) += the products of `x` and `dy`.
pub(super) fn add_grad_weight(
    tiles: &Tiles,
    gather: &Gather,
    panels: &[Panel],
    x: &[f32],
    dy: &[f32],
    sums: &mut [f32],
) {
    let channels = gather.channels();
    let x = ByPlace::new(x, gather.source_places(), channels);
    let places = gather.rows.count * gather.columns.count;
    let dy = ByPlace::new(dy, places, gather.to_channels);
    let size = gather.depth() * tiles.width();
    let from: Vec<usize> = (0..gather.n).map(|image| image * x.pitch).collect();
    sums.par_chunks_mut(size)
        .zip(panels)
        .with_max_len(1)
        .for_each(|(sums, panel)| {
            let width = panel.width(tiles.lanes);
            let mut columns = Buffer::scratch(gather.n * width);
            for place in 0..places {
                let of_place = &dy.values[dy.place(place)..];
                let columns =
                    pack::columns(of_place, dy.pitch, panel, width, gather.n, &mut columns);
                for (tap, input) in taps(gather, place) {
                    let sums = &mut sums[tap * channels * width..][..channels * width];
                    let x = &x.values[x.place(input)..][..gather.n * x.pitch];
                    for rows in even_parts(channels, tiles.rows) {
                        let sums = &mut sums[rows.start * width..rows.end * width];
                        // SAFETY: every image has `channels` values of x, and `columns` a row.
                        unsafe { tiles.outer(panel, x, &from, rows.start, columns, sums) };
                    }
                }
            }
        });
}
