//! All that varies between images of one class, drawn without knowing the class.

use super::background::Background;
use super::canvas::{Colour, Layer};
use super::colour::{Plumage, hsv, mix};
use super::draw::Draw;
use super::shape::{Point, Shape, Similarity};

/// Pose, colours, light, surroundings and camera of one image.
pub(super) struct Nuisance {
    /// From the fitted bird to the frame.
    pub(super) place: Similarity,
    /// The body's turn about the hip, in radians.
    pub(super) tilt: f32,
    /// The head's way about the base of the neck, in radians.
    pub(super) nod: f32,
    /// The head's turn about its own middle, in radians.
    pub(super) turn: f32,
    pub(super) plumage: Plumage,
    pub(super) background: Background,
    /// What hides some of the bird.
    pub(super) occluders: Vec<Layer>,
    /// Unit vector towards the light.
    pub(super) light: Point,
    /// How unevenly the frame is lit.
    pub(super) unevenness: f32,
    pub(super) exposure: f32,
    /// Deviation of the blur, as a share of the frame.
    pub(super) blur: f32,
    /// Deviation of the sensor's noise.
    pub(super) noise: f32,
    pub(super) noise_key: u64,
}

impl Nuisance {
    /// `strength` 0 leaves one pose, one light and one plain scene.
    pub(super) fn draw(key: [u64; 4], strength: f32) -> Self {
        let draw = &mut Draw::new(key);
        let vary = strength.min(1.);
        let turn = |draw: &mut Draw, degrees: f32| draw.around(degrees * strength).to_radians();

        let flipped = draw.chance(0.5 * vary);
        let rotation = turn(draw, 12.);
        let scale = 1. + draw.range(-0.2, 0.06) * strength;
        let shift = [draw.around(0.08 * strength), draw.around(0.08 * strength)];
        let mut place = Similarity::shift(shift)
            .then_inner(Similarity::rotation(rotation))
            .then_inner(Similarity::scale(scale));
        if flipped {
            place = place.then_inner(Similarity::flip());
        }
        let (tilt, nod, turn) = (turn(draw, 8.), turn(draw, 8.), turn(draw, 12.));

        let plumage = Plumage::draw(draw, vary);
        let angle = -1.9 + draw.around(1.6 * vary);
        let light = [angle.cos(), angle.sin()];
        let unevenness = draw.range(0., 0.22) * strength;
        let exposure = 1. + draw.around(0.22 * strength);
        let background = Background::draw(draw, &plumage, strength);
        let occluders = occluders(draw, strength);
        Self {
            place,
            tilt,
            nod,
            turn,
            plumage,
            background,
            occluders,
            light,
            unevenness,
            exposure,
            blur: draw.range(0., 0.009) * strength,
            noise: draw.range(0., 0.03) * strength,
            noise_key: u64::from(draw.word()),
        }
    }
}

/// With a chance that grows with `strength`, a twig across the frame or a leaf or two from its side.
fn occluders(draw: &mut Draw, strength: f32) -> Vec<Layer> {
    if !draw.chance((0.35 * strength).min(0.8)) {
        return Vec::new();
    }
    let colour = hsv(draw.unit(), draw.range(0.1, 0.6), draw.range(0.15, 0.7));
    if draw.chance(0.4) {
        return vec![twig(draw, colour)];
    }
    (0..=draw.below(2)).map(|_| leaf(draw, colour)).collect()
}

fn twig(draw: &mut Draw, colour: Colour) -> Layer {
    let angle = draw.range(0., std::f32::consts::PI);
    let (along, across) = ([angle.cos(), angle.sin()], [-angle.sin(), angle.cos()]);
    let aside = draw.around(0.6);
    let width = draw.range(0.02, 0.045);
    let at = |t: f32, bend: f32| {
        let s = aside + bend;
        [t * along[0] + s * across[0], t * along[1] + s * across[1]]
    };
    let bend = draw.around(0.1);
    let points = vec![
        (at(-1.6, 0.), width),
        (at(0., bend), width),
        (at(1.6, 0.), 0.7 * width),
    ];
    Layer::new(Shape::Stroke(points), colour).round()
}

fn leaf(draw: &mut Draw, colour: Colour) -> Layer {
    let from = draw.range(0., std::f32::consts::TAU);
    let middle = draw.range(0.55, 0.95);
    let lean = from + draw.around(0.9);
    let (length, width) = (draw.range(0.28, 0.42), draw.range(0.09, 0.16));
    let shade = draw.range(0., 0.35);
    let outline: Vec<Point> = (0..12)
        .map(|i| {
            let t = i as f32 / 12. * std::f32::consts::TAU;
            // pointed at both ends
            [length * t.cos(), width * t.sin() * t.sin().abs().sqrt()]
        })
        .collect();
    let place = Similarity::shift([middle * from.cos(), middle * from.sin()])
        .then_inner(Similarity::rotation(lean));
    let shape = Shape::polygon(&outline, 0.01).map(&place);
    Layer::new(shape, mix(colour, [0.05, 0.1, 0.05], shade)).round()
}
