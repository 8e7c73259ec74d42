//! A bird as layers, back to front.

use super::canvas::{Colour, Layer};
use super::nuisance::Nuisance;
use super::parts;
use super::plan::Plan;
use super::shape::{Bounds, Point, Shape, Similarity};
use super::species::{PARTS, Part, Parts, digits};

/// A body plan with the species that share it.
pub(super) struct Family {
    plan: Plan,
    species: Vec<Parts>,
    /// Whether the species differ in a part, by `Part as usize`.
    varies: [bool; PARTS],
    /// From the plan's units to a frame that the bird nearly fills.
    fit: Similarity,
}

/// The share of the frame's side that the larger extent of a bird takes, any species of its family.
const EXTENT: f32 = 0.9;

impl Family {
    pub(super) fn new(plan: Plan, count: usize) -> Self {
        let species: Vec<Parts> = (0..count)
            .map(|s| {
                let mut own = plan.common;
                for (slot, digit) in plan.slots.iter().zip(digits(s, count)) {
                    own[slot.part as usize] = slot.order[digit];
                }
                own
            })
            .collect();
        let varies = std::array::from_fn(|p| species.iter().any(|s| s[p] != species[0][p]));
        let mut family = Self {
            plan,
            species,
            varies,
            fit: Similarity::IDENTITY,
        };
        family.fit = family.fitted();
        family
    }

    /// In what species `index` differs from another of its family.
    pub(super) fn traits(&self, index: usize) -> Vec<&'static str> {
        self.plan
            .slots
            .iter()
            .filter(|slot| self.varies[slot.part as usize])
            .map(|slot| slot.part.name(self.species[index][slot.part as usize]))
            .collect()
    }

    fn fitted(&self) -> Similarity {
        let still = Nuisance::draw([0; 4], 0.);
        let all = (0..self.species.len())
            .flat_map(|s| self.layers(s, &still))
            .map(|layer| layer.bounds())
            .reduce(Bounds::union);
        all.map_or(Similarity::IDENTITY, |all| {
            let [x, y] = all.centre();
            Similarity::scale(2. * EXTENT / all.extent()).then_inner(Similarity::shift([-x, -y]))
        })
    }

    /// Species `index` of the family as `nuisance` has it.
    pub(super) fn layers(&self, index: usize, nuisance: &Nuisance) -> Vec<Layer> {
        let mut drawing = Drawing {
            plan: &self.plan,
            parts: &self.species[index],
            varies: &self.varies,
            nuisance,
            layers: Vec::with_capacity(40),
        };
        drawing.draw(&nuisance.place.then_inner(self.fit));
        drawing.layers
    }
}

struct Drawing<'a> {
    plan: &'a Plan,
    parts: &'a Parts,
    varies: &'a [bool; PARTS],
    nuisance: &'a Nuisance,
    layers: Vec<Layer>,
}

/// Which of the plumage's choices of lighter or darker a marking follows.
const BAR_MARKS: usize = 0;
const BREAST_MARKS: usize = 1;
const FACE_MARKS: usize = 2;
const COLLAR_MARKS: usize = 3;

impl Drawing<'_> {
    fn draw(&mut self, place: &Similarity) {
        let (plan, look) = (self.plan, &self.nuisance.plumage);
        let hip = plan.legs.map_or([0., 0.], |legs| legs.hip);
        let upper = place.then_inner(Similarity::rotation_about(hip, self.nuisance.tilt));
        let base = plan.neck[0].0;
        let at = Similarity::rotation_about(base, self.nuisance.nod).point(plan.head);
        let head = upper
            .then_inner(Similarity::shift(at))
            .then_inner(Similarity::rotation(self.nuisance.nod + self.nuisance.turn));
        let silhouette = silhouette(plan, at)
            .into_iter()
            .map(|s| s.map(&upper))
            .chain([Shape::ellipse([0., 0.], plan.head_radii).map(&head)])
            .collect();
        let silhouette = Shape::Blend {
            shapes: silhouette,
            reach: 0.12 * upper.stretch(),
        };

        self.legs(place);
        if plan.both_wings {
            let far = upper.then_inner(Similarity::shift([0.2, 0.02]));
            let wing = Shape::Stroke(plan.wing.to_vec()).map(&far);
            self.layers
                .push(Layer::new(wing, look.wing.map(|v| 0.8 * v)).round());
        }
        self.tail(&upper);
        self.crest(&head);
        if !plan.frontal {
            self.beak(&head);
        }
        self.layers
            .push(Layer::new(silhouette.clone(), look.body).round());
        self.breast(&upper, &silhouette);
        self.collar(&upper, at, &silhouette);
        self.face(&head);
        if plan.frontal {
            self.beak(&head);
        }
        self.wing(&upper);
    }

    fn differs(&self, part: Part) -> bool {
        self.varies[part as usize]
    }

    fn variant(&self, part: Part) -> usize {
        self.parts[part as usize]
    }

    fn legs(&mut self, place: &Similarity) {
        let Some(legs) = self.plan.legs else { return };
        let [x, y] = legs.hip;
        for (side, shade) in [(1., 0.75), (-1., 1.)] {
            let top = x + side * legs.apart / 2.;
            let foot = [top + 0.03, y + legs.length];
            let leg = Shape::Stroke(vec![
                ([top, y - 0.06], 0.045),
                ([top - 0.02, y + 0.5 * legs.length], 0.028),
                (foot, 0.028),
            ]);
            let toes = Shape::Stroke(vec![
                ([foot[0] - 0.06, foot[1]], 0.02),
                ([foot[0] + 0.12, foot[1] + 0.01], 0.024),
            ]);
            let colour = self.nuisance.plumage.legs.map(|v| shade * v);
            for shape in [leg, toes] {
                self.layers.push(Layer::new(shape.map(place), colour));
            }
        }
    }

    fn tail(&mut self, upper: &Similarity) {
        let tail = self.plan.tail;
        let backwards = std::f32::consts::PI - tail.drop.to_radians();
        let frame = upper
            .then_inner(Similarity::shift(tail.base))
            .then_inner(Similarity::rotation(backwards));
        let shape = parts::tail(self.variant(Part::Tail), tail.length, tail.half_width);
        let layer = Layer::new(shape.map(&frame), self.nuisance.plumage.wing)
            .round()
            .part(self.differs(Part::Tail));
        self.layers.push(layer);
    }

    fn crest(&mut self, head: &Similarity) {
        let (variant, radii) = (self.variant(Part::Crest), self.plan.head_radii);
        let shapes = if self.plan.frontal {
            parts::ears(variant, radii)
        } else {
            parts::crest(variant, radii)
        };
        for shape in shapes {
            let layer = Layer::new(shape.map(head), self.nuisance.plumage.head)
                .round()
                .part(self.differs(Part::Crest));
            self.layers.push(layer);
        }
    }

    fn beak(&mut self, head: &Similarity) {
        let [rx, ry] = self.plan.head_radii;
        let (frame, half) = if self.plan.frontal {
            let down = Similarity::shift([0.05, 0.12])
                .then_inner(Similarity::rotation(std::f32::consts::FRAC_PI_2));
            (head.then_inner(down), 0.25 * ry)
        } else {
            (
                head.then_inner(Similarity::shift([0.9 * rx, 0.12 * ry])),
                0.5 * ry,
            )
        };
        for shape in parts::beak(self.variant(Part::Beak), self.plan.beak, half) {
            let mut layer = Layer::new(shape.map(&frame), self.nuisance.plumage.beak)
                .part(self.differs(Part::Beak));
            layer.lit = 0.15;
            self.layers.push(layer);
        }
    }

    fn breast(&mut self, upper: &Similarity, silhouette: &Shape) {
        let look = &self.nuisance.plumage;
        let (centre, radii) = self.plan.breast;
        // the breast faces where the body points
        let frame = upper
            .then_inner(Similarity::shift(centre))
            .then_inner(Similarity::rotation(-self.plan.slope.to_radians() / 2.));
        let patch = Shape::ellipse([0., 0.], [1.15 * radii[0], 1.15 * radii[1]]).map(&frame);
        let colour = look.breast;
        self.layers.push(
            Layer::new(patch.clone(), colour)
                .clip(silhouette)
                .soft(0.06),
        );
        let marks = parts::breast(self.variant(Part::Breast), radii)
            .into_iter()
            .map(|s| s.map(&frame))
            .collect();
        self.pattern(
            Part::Breast,
            patch,
            silhouette,
            marks,
            look.mark(BREAST_MARKS, colour),
        );
    }

    fn collar(&mut self, upper: &Similarity, head: Point, silhouette: &Shape) {
        let look = &self.nuisance.plumage;
        let (base, half) = self.plan.neck[0];
        let marks = parts::collar(self.variant(Part::Collar), base, head, half)
            .into_iter()
            .map(|s| s.map(upper))
            .collect();
        self.pattern(
            Part::Collar,
            parts::collar_region(base, head, half).map(upper),
            silhouette,
            marks,
            look.mark(COLLAR_MARKS, look.body),
        );
    }

    fn face(&mut self, head: &Similarity) {
        let look = &self.nuisance.plumage;
        let radii = self.plan.head_radii;
        let [rx, ry] = radii;
        let skull = Shape::ellipse([0., 0.], radii).map(head);
        self.layers
            .push(Layer::new(skull.clone(), look.head).soft(0.03).round());
        if self.differs(Part::Crest) && self.variant(Part::Crest) == 0 {
            // its bare crown is what tells a bird without a crest
            let crown = parts::crown(radii).map(head);
            self.layers.push(Layer::mark(crown).clip(&skull));
        }
        let eyes: Vec<Point> = if self.plan.frontal {
            vec![[-0.42 * rx, -0.1 * ry], [0.46 * rx, -0.1 * ry]]
        } else {
            vec![[0.28 * rx, -0.18 * ry]]
        };
        let mark = look.mark(FACE_MARKS, look.head);
        for &eye in &eyes {
            let marks = parts::face(self.variant(Part::Face), eye, radii)
                .into_iter()
                .map(|s| s.map(head))
                .collect();
            let region = Shape::ellipse(eye, [0.5 * ry; 2]).map(head);
            self.pattern(Part::Face, region, &skull, marks, mark);
        }
        for eye in eyes {
            let shapes = [(0.23, [0.05; 3]), (0.08, [0.95; 3])];
            for (size, colour) in shapes {
                let off = if size < 0.1 { -0.06 * ry } else { 0. };
                let at = [eye[0] - off, eye[1] + off];
                let shape = Shape::ellipse(at, [size * ry; 2]).map(head);
                self.layers.push(Layer::new(shape, colour));
            }
        }
    }

    fn wing(&mut self, upper: &Similarity) {
        let look = &self.nuisance.plumage;
        let [(shoulder, half), (tip, _)] = self.plan.wing;
        let wing = Shape::Stroke(self.plan.wing.to_vec()).map(upper);
        self.layers
            .push(Layer::new(wing.clone(), look.wing).round());
        let marks = parts::bars(self.variant(Part::Bars), shoulder, tip, half)
            .into_iter()
            .map(|s| s.map(upper))
            .collect();
        let region = parts::bar_region(shoulder, tip, half).map(upper);
        self.pattern(
            Part::Bars,
            region,
            &wing,
            marks,
            look.mark(BAR_MARKS, look.wing),
        );
    }

    /// Markings on `ground`. Where they tell the class, all of `region` does, since what is not
    /// marked tells as much; a marking counts also where it leaves the region.
    fn pattern(
        &mut self,
        part: Part,
        region: Shape,
        ground: &Shape,
        marks: Vec<Shape>,
        colour: Colour,
    ) {
        let telling = self.differs(part);
        if telling {
            self.layers.push(Layer::mark(region).clip(ground));
        }
        for mark in marks {
            let layer = Layer::new(mark, colour).clip(ground).part(telling);
            self.layers.push(layer);
        }
    }
}

/// Body and neck, the neck ending at `head`.
fn silhouette(plan: &Plan, head: Point) -> [Shape; 2] {
    let body =
        Shape::ellipse([0., 0.], plan.body).map(&Similarity::rotation(-plan.slope.to_radians()));
    let [base, middle] = plan.neck;
    let neck = Shape::Stroke(vec![base, middle, (head, 0.9 * middle.1)]);
    [body, neck]
}
