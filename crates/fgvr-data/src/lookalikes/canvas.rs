//! Painting shapes one over another, while keeping track of which pixels show a telling part.

use super::shape::{Bounds, Point, Shape};

/// Red, green and blue in [0, 1].
pub(super) type Colour = [f32; 3];

/// One shape of a scene.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) shape: Shape,
    /// Where it may show.
    pub(super) clip: Option<Shape>,
    /// None paints nothing, and only says what is part of a telling part.
    pub(super) colour: Option<Colour>,
    /// Whether it belongs to a part that tells the class.
    pub(super) part: bool,
    /// How much the edge is darkened, in [0, 1].
    pub(super) rim: f32,
    /// How much brighter the side towards the light is.
    pub(super) lit: f32,
    /// Width of the edge in the frame's units; the pixel's where that is more.
    pub(super) soft: f32,
}

impl Layer {
    pub(super) fn new(shape: Shape, colour: Colour) -> Self {
        Self {
            shape,
            clip: None,
            colour: Some(colour),
            part: false,
            rim: 0.,
            lit: 0.,
            soft: 0.,
        }
    }

    /// Paints nothing, and marks the shape as part of a telling part.
    pub(super) fn mark(shape: Shape) -> Self {
        Self {
            colour: None,
            part: true,
            ..Self::new(shape, [0.; 3])
        }
    }

    pub(super) fn clip(mut self, to: &Shape) -> Self {
        self.clip = Some(to.clone());
        self
    }

    pub(super) fn part(mut self, part: bool) -> Self {
        self.part = part;
        self
    }

    /// The shading of a rounded body.
    pub(super) fn round(mut self) -> Self {
        self.rim = 0.35;
        self.lit = 0.18;
        self
    }

    pub(super) fn soft(mut self, width: f32) -> Self {
        self.soft = width;
        self
    }

    pub(super) fn bounds(&self) -> Bounds {
        let own = self.shape.bounds();
        self.clip
            .as_ref()
            .map_or(own, |clip| own.intersection(clip.bounds()))
    }
}

/// A square picture in the making.
pub(super) struct Canvas {
    pub(super) size: usize,
    pub(super) pixels: Vec<Colour>,
    /// How much of each pixel shows a telling part.
    pub(super) parts: Vec<f32>,
}

impl Canvas {
    pub(super) fn new(size: usize, colour: impl Fn(Point) -> Colour) -> Self {
        let at = |i: usize| [coordinate(i % size, size), coordinate(i / size, size)];
        Self {
            size,
            pixels: (0..size * size).map(|i| colour(at(i))).collect(),
            parts: vec![0.; size * size],
        }
    }

    /// Paints `layer`, lit from the direction `light`.
    pub(super) fn paint(&mut self, layer: &Layer, light: Point) {
        let size = self.size;
        let edge = layer.soft.max(2. / size as f32);
        let bounds = layer.bounds();
        let (centre, half) = {
            let own = layer.shape.bounds();
            (own.centre(), (own.extent() / 2.).max(1e-6))
        };
        let columns = covered(bounds.low[0] - edge, bounds.high[0] + edge, size);
        let rows = covered(bounds.low[1] - edge, bounds.high[1] + edge, size);
        for row in rows {
            let y = coordinate(row, size);
            for column in columns.clone() {
                let p = [coordinate(column, size), y];
                let distance = layer.shape.distance(p);
                let mut alpha = coverage(distance, edge);
                if alpha > 0.
                    && let Some(clip) = &layer.clip
                {
                    alpha *= coverage(clip.distance(p), edge);
                }
                if alpha <= 0. {
                    continue;
                }
                let i = row * size + column;
                if let Some(colour) = layer.colour {
                    let depth = (1. + distance / RIM).clamp(0., 1.);
                    let side =
                        ((p[0] - centre[0]) * light[0] + (p[1] - centre[1]) * light[1]) / half;
                    let shade = (1. - layer.rim * depth * depth) * (1. + layer.lit * side);
                    for (under, over) in self.pixels[i].iter_mut().zip(colour) {
                        // so written, full cover leaves nothing of what lay below
                        *under = (1. - alpha) * *under + alpha * over * shade;
                    }
                }
                let part = if layer.part { 1. } else { 0. };
                self.parts[i] = (1. - alpha) * self.parts[i] + alpha * part;
            }
        }
    }

    /// Blurs by a Gaussian of deviation `sigma` pixels.
    pub(super) fn blur(&mut self, sigma: f32) {
        if sigma < 0.15 {
            // the nearest neighbours' weight would be below 1e-9
            return;
        }
        let radius = (3. * sigma).ceil() as usize;
        let mut weights: Vec<f32> = (0..=radius)
            .map(|d| (-0.5 * (d as f32 / sigma).powi(2)).exp())
            .collect();
        let total = weights[0] + 2. * weights[1..].iter().sum::<f32>();
        weights.iter_mut().for_each(|w| *w /= total);
        let size = self.size;
        for (along, across) in [(1, size), (size, 1)] {
            let mut line = vec![[0.; 3]; size];
            for start in (0..size).map(|i| i * across) {
                for (k, value) in line.iter_mut().enumerate() {
                    let at = |k: usize| self.pixels[start + k * along];
                    *value = at(k).map(|v| v * weights[0]);
                    for (d, w) in weights.iter().enumerate().skip(1) {
                        let (a, b) = (at(k.saturating_sub(d)), at((k + d).min(size - 1)));
                        for c in 0..3 {
                            value[c] += w * (a[c] + b[c]);
                        }
                    }
                }
                for (k, value) in line.iter().enumerate() {
                    self.pixels[start + k * along] = *value;
                }
            }
        }
    }
}

/// How far inwards a darkened edge reaches.
const RIM: f32 = 0.1;

/// The middle of pixel `i` of `size`.
fn coordinate(i: usize, size: usize) -> f32 {
    (2 * i + 1) as f32 / size as f32 - 1.
}

/// The pixels between two coordinates.
fn covered(low: f32, high: f32, size: usize) -> std::ops::Range<usize> {
    let pixel = |v: f32| (v + 1.) / 2. * size as f32;
    // casts saturate, so shapes beyond the frame give an empty range
    pixel(low).floor() as usize..(pixel(high).ceil() as usize).min(size)
}

/// How much of a pixel an edge at `distance` leaves covered.
fn coverage(distance: f32, edge: f32) -> f32 {
    (0.5 - distance / edge).clamp(0., 1.)
}
