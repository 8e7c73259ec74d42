//! What lies behind the bird: several kinds of surroundings in any colour.

use std::f32::consts::{FRAC_PI_2, PI};

use super::canvas::{Canvas, Colour, Layer};
use super::colour::{Ground, Plumage, ground, mix};
use super::draw::Draw;
use super::shape::{Point, Shape};

/// A two-coloured slope under a texture.
pub(super) struct Background {
    colours: Ground,
    /// The slope's direction and how fast it changes.
    slope: Point,
    texture: Texture,
    /// How far the texture goes towards its colour.
    contrast: f32,
}

enum Texture {
    Plain,
    /// Two octaves of value noise.
    Clouds {
        coarse: Lattice,
        fine: Lattice,
    },
    /// Soft stripes, bent by noise.
    Reeds {
        wave: Point,
        bend: Lattice,
    },
    /// Leaf-like or disc-like blobs.
    Blobs(Vec<Layer>),
}

/// Random values on a grid over the frame, smoothly filled in between.
struct Lattice {
    cells: usize,
    values: Vec<f32>,
}

impl Background {
    pub(super) fn draw(draw: &mut Draw, plumage: &Plumage, strength: f32) -> Self {
        let vary = strength.min(1.);
        let colours = ground(draw, plumage, vary);
        let angle = FRAC_PI_2 + draw.around(PI * vary);
        let steep = draw.range(0.3, 0.9);
        let contrast = draw.range(0.25, 0.65) * strength;
        let texture = match draw.below(5) {
            0 => Texture::Plain,
            1 => Texture::Clouds {
                coarse: Lattice::draw(draw, 3),
                fine: Lattice::draw(draw, 9),
            },
            2 => {
                let (turn, pitch) = (draw.range(0., PI), draw.range(1.5, 3.5));
                Texture::Reeds {
                    wave: [pitch * turn.cos(), pitch * turn.sin()],
                    bend: Lattice::draw(draw, 3),
                }
            }
            kind => Texture::Blobs(blobs(draw, &colours, contrast.min(1.), kind == 3)),
        };
        Self {
            colours,
            slope: [steep * angle.cos(), steep * angle.sin()],
            texture,
            contrast: contrast.min(1.),
        }
    }

    /// A canvas of `size` pixels a side, with nothing on it but the background.
    pub(super) fn canvas(&self, size: usize, light: Point) -> Canvas {
        let [first, second, third] = self.colours;
        let mut canvas = Canvas::new(size, |p| {
            let along = 0.5 + 0.5 * (p[0] * self.slope[0] + p[1] * self.slope[1]);
            let base = mix(first, second, along.clamp(0., 1.));
            let share = match &self.texture {
                Texture::Plain | Texture::Blobs(_) => return base,
                Texture::Clouds { coarse, fine } => 0.65 * coarse.at(p) + 0.35 * fine.at(p),
                Texture::Reeds { wave, bend } => {
                    let phase = p[0] * wave[0] + p[1] * wave[1] + 0.8 * bend.at(p);
                    // a triangle wave, its corners smoothed
                    let t = (2. * (phase - phase.floor()) - 1.).abs();
                    t * t * (3. - 2. * t)
                }
            };
            mix(base, third, share * self.contrast)
        });
        if let Texture::Blobs(layers) = &self.texture {
            for layer in layers {
                canvas.paint(layer, light);
            }
        }
        canvas
    }
}

fn blobs(draw: &mut Draw, colours: &Ground, contrast: f32, leaves: bool) -> Vec<Layer> {
    let [first, second, third] = *colours;
    (0..12 + draw.below(10))
        .map(|_| {
            let centre = [draw.around(1.1), draw.around(1.1)];
            let radius = draw.range(0.1, 0.26);
            let colour: Colour = mix(
                mix(first, second, draw.unit()),
                third,
                contrast * draw.unit(),
            );
            if leaves {
                let turn = draw.range(0., PI);
                let shape = Shape::Ellipse {
                    centre,
                    axis: [turn.cos(), turn.sin()],
                    radii: [radius, 0.45 * radius],
                };
                Layer::new(shape, colour).soft(0.06)
            } else {
                Layer::new(Shape::ellipse(centre, [radius; 2]), colour).soft(0.14)
            }
        })
        .collect()
}

impl Lattice {
    fn draw(draw: &mut Draw, cells: usize) -> Self {
        let corners = (cells + 1) * (cells + 1);
        Self {
            cells,
            values: (0..corners).map(|_| draw.unit()).collect(),
        }
    }

    fn at(&self, p: Point) -> f32 {
        let place = |v: f32| {
            let v = (v + 1.) / 2. * self.cells as f32;
            let cell = v.floor().clamp(0., (self.cells - 1) as f32);
            let t = (v - cell).clamp(0., 1.);
            (cell as usize, t * t * (3. - 2. * t))
        };
        let ((column, x), (row, y)) = (place(p[0]), place(p[1]));
        let at = |r: usize, c: usize| self.values[r * (self.cells + 1) + c];
        let top = at(row, column) + x * (at(row, column + 1) - at(row, column));
        let bottom = at(row + 1, column) + x * (at(row + 1, column + 1) - at(row + 1, column));
        top + y * (bottom - top)
    }
}
