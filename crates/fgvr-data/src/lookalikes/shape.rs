//! Plane shapes as signed distances: negative inside, in the units of the frame, whose sides run
//! from -1 to 1 with y downwards.

/// A point or a vector.
pub(super) type Point = [f32; 2];

/// A rotation, a scale, perhaps a reflection, and a shift.
#[derive(Clone, Copy, Debug)]
pub(super) struct Similarity {
    x: Point,
    y: Point,
    shift: Point,
}

impl Similarity {
    pub(super) const IDENTITY: Self = Self {
        x: [1., 0.],
        y: [0., 1.],
        shift: [0., 0.],
    };

    pub(super) fn shift(by: Point) -> Self {
        Self {
            shift: by,
            ..Self::IDENTITY
        }
    }

    pub(super) fn scale(by: f32) -> Self {
        Self {
            x: [by, 0.],
            y: [0., by],
            shift: [0., 0.],
        }
    }

    /// By `angle` radians; y points down, so a positive angle turns clockwise.
    pub(super) fn rotation(angle: f32) -> Self {
        let (sin, cos) = angle.sin_cos();
        Self {
            x: [cos, sin],
            y: [-sin, cos],
            shift: [0., 0.],
        }
    }

    pub(super) fn rotation_about(pivot: Point, angle: f32) -> Self {
        Self::shift(pivot)
            .then_inner(Self::rotation(angle))
            .then_inner(Self::shift([-pivot[0], -pivot[1]]))
    }

    /// Left to right.
    pub(super) fn flip() -> Self {
        Self {
            x: [-1., 0.],
            ..Self::IDENTITY
        }
    }

    /// `self` after `inner`: `inner` maps first.
    pub(super) fn then_inner(self, inner: Self) -> Self {
        Self {
            x: self.vector(inner.x),
            y: self.vector(inner.y),
            shift: self.point(inner.shift),
        }
    }

    pub(super) fn vector(&self, [x, y]: Point) -> Point {
        [self.x[0] * x + self.y[0] * y, self.x[1] * x + self.y[1] * y]
    }

    pub(super) fn point(&self, p: Point) -> Point {
        let [x, y] = self.vector(p);
        [x + self.shift[0], y + self.shift[1]]
    }

    /// How much longer a vector becomes.
    pub(super) fn stretch(&self) -> f32 {
        self.x[0].hypot(self.x[1])
    }
}

/// A filled shape.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Ellipse {
        centre: Point,
        /// Unit vector along the first radius.
        axis: Point,
        radii: Point,
    },
    /// A polygon grown by `round`.
    Polygon { points: Vec<Point>, round: f32 },
    /// A line through points, each with its half width.
    Stroke(Vec<(Point, f32)>),
    /// Shapes grown together: joints closer than `reach` are smoothed.
    Blend { shapes: Vec<Shape>, reach: f32 },
}

/// An axis-aligned box.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) low: Point,
    pub(super) high: Point,
}

impl Bounds {
    const EMPTY: Self = Self {
        low: [f32::INFINITY; 2],
        high: [f32::NEG_INFINITY; 2],
    };

    fn around([x, y]: Point, [dx, dy]: Point) -> Self {
        Self {
            low: [x - dx, y - dy],
            high: [x + dx, y + dy],
        }
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self {
            low: [self.low[0].min(other.low[0]), self.low[1].min(other.low[1])],
            high: [
                self.high[0].max(other.high[0]),
                self.high[1].max(other.high[1]),
            ],
        }
    }

    pub(super) fn intersection(self, other: Self) -> Self {
        Self {
            low: [self.low[0].max(other.low[0]), self.low[1].max(other.low[1])],
            high: [
                self.high[0].min(other.high[0]),
                self.high[1].min(other.high[1]),
            ],
        }
    }

    pub(super) fn centre(&self) -> Point {
        [
            (self.low[0] + self.high[0]) / 2.,
            (self.low[1] + self.high[1]) / 2.,
        ]
    }

    /// The longer side.
    pub(super) fn extent(&self) -> f32 {
        (self.high[0] - self.low[0]).max(self.high[1] - self.low[1])
    }
}

impl Shape {
    pub(super) fn ellipse(centre: Point, radii: Point) -> Self {
        Self::Ellipse {
            centre,
            axis: [1., 0.],
            radii,
        }
    }

    pub(super) fn polygon(points: &[Point], round: f32) -> Self {
        Self::Polygon {
            points: points.to_vec(),
            round,
        }
    }

    pub(super) fn map(self, by: &Similarity) -> Self {
        let stretch = by.stretch();
        match self {
            Self::Ellipse {
                centre,
                axis,
                radii,
            } => {
                let [x, y] = by.vector(axis);
                Self::Ellipse {
                    centre: by.point(centre),
                    axis: [x / stretch, y / stretch],
                    radii: radii.map(|r| r * stretch),
                }
            }
            Self::Polygon { mut points, round } => {
                points.iter_mut().for_each(|p| *p = by.point(*p));
                Self::Polygon {
                    points,
                    round: round * stretch,
                }
            }
            Self::Stroke(mut points) => {
                for (p, r) in &mut points {
                    *p = by.point(*p);
                    *r *= stretch;
                }
                Self::Stroke(points)
            }
            Self::Blend { shapes, reach } => Self::Blend {
                shapes: shapes.into_iter().map(|s| s.map(by)).collect(),
                reach: reach * stretch,
            },
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        match self {
            Self::Ellipse {
                centre,
                axis: [ax, ay],
                radii: [a, b],
            } => Bounds::around(*centre, [(a * ax).hypot(b * ay), (a * ay).hypot(b * ax)]),
            Self::Polygon { points, round } => points.iter().fold(Bounds::EMPTY, |all, &p| {
                all.union(Bounds::around(p, [*round; 2]))
            }),
            Self::Stroke(points) => points.iter().fold(Bounds::EMPTY, |all, &(p, r)| {
                all.union(Bounds::around(p, [r; 2]))
            }),
            Self::Blend { shapes, reach } => {
                let all = shapes
                    .iter()
                    .fold(Bounds::EMPTY, |all, s| all.union(s.bounds()));
                // the smooth minimum adds at most a quarter of its reach
                Bounds {
                    low: all.low.map(|v| v - reach / 4.),
                    high: all.high.map(|v| v + reach / 4.),
                }
            }
        }
    }

    /// The signed distance to the edge; for ellipses and strokes to first order, which is what an
    /// edge one pixel wide needs.
    pub(super) fn distance(&self, p: Point) -> f32 {
        match self {
            Self::Ellipse {
                centre,
                axis: [ax, ay],
                radii: [a, b],
            } => {
                let [x, y] = [p[0] - centre[0], p[1] - centre[1]];
                let (u, v) = ((x * ax + y * ay) / a, (y * ax - x * ay) / b);
                let level = length([u, v]);
                // |gradient of level|; at the centre any inward distance will do
                let slope = length([u / a, v / b]) / level.max(1e-6);
                (level - 1.) / slope.max(1. / a.max(*b))
            }
            Self::Polygon { points, round } => polygon_distance(points, p) - round,
            Self::Stroke(points) => points
                .windows(2)
                .map(|ends| segment_distance(ends[0], ends[1], p))
                .fold(f32::INFINITY, f32::min),
            Self::Blend { shapes, reach } => shapes
                .iter()
                .map(|s| s.distance(p))
                .fold(f32::INFINITY, |a, b| smooth_min(a, b, *reach)),
        }
    }
}

/// The distance to a segment whose half width runs evenly between those of its ends.
fn segment_distance((a, ra): (Point, f32), (b, rb): (Point, f32), p: Point) -> f32 {
    let (ab, ap) = (sub(b, a), sub(p, a));
    let t = (dot(ap, ab) / dot(ab, ab).max(1e-12)).clamp(0., 1.);
    length([ap[0] - t * ab[0], ap[1] - t * ab[1]]) - (ra + t * (rb - ra))
}

/// The distance to the nearest side, negative where the winding (by crossings) says inside.
fn polygon_distance(points: &[Point], p: Point) -> f32 {
    let Some(&last) = points.last() else {
        return f32::INFINITY;
    };
    let (mut nearest, mut inside) = (f32::INFINITY, false);
    let mut from = last;
    for &to in points {
        let (side, away) = (sub(to, from), sub(p, from));
        let t = (dot(away, side) / dot(side, side).max(1e-12)).clamp(0., 1.);
        let gap = [away[0] - t * side[0], away[1] - t * side[1]];
        nearest = nearest.min(dot(gap, gap));
        if (from[1] > p[1]) != (to[1] > p[1])
            && p[0] < from[0] + side[0] * (p[1] - from[1]) / side[1]
        {
            inside = !inside;
        }
        from = to;
    }
    let distance = nearest.sqrt();
    if inside { -distance } else { distance }
}

/// The minimum, rounded off where the two are closer than `reach`.
fn smooth_min(a: f32, b: f32, reach: f32) -> f32 {
    let near = (reach - (a - b).abs()).max(0.);
    a.min(b) - near * near / (4. * reach.max(1e-6))
}

pub(super) fn sub(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

/// Far faster than `hypot`, whose care about overflow is of no use here.
pub(super) fn length(a: Point) -> f32 {
    dot(a, a).sqrt()
}

fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_signed_and_zero_on_the_edge() {
        let shapes = [
            Shape::ellipse([0.1, 0.], [0.4, 0.2]),
            Shape::polygon(&[[-0.3, -0.2], [0.5, -0.2], [0.5, 0.2], [-0.3, 0.2]], 0.),
            Shape::Stroke(vec![([-0.1, 0.], 0.2), ([0.3, 0.], 0.2)]),
        ];
        for shape in shapes {
            assert!(shape.distance([0.1, 0.]) < -0.15, "{shape:?}");
            assert!(shape.distance([0.5, 0.]).abs() < 1e-5, "{shape:?}");
            assert!((shape.distance([0.6, 0.]) - 0.1).abs() < 0.03, "{shape:?}");
            assert!(shape.distance([0.1, 0.2]).abs() < 1e-5, "{shape:?}");
        }
    }

    #[test]
    fn shapes_lie_within_their_bounds_after_mapping() {
        let by = Similarity::shift([0.2, -0.1])
            .then_inner(Similarity::rotation(0.7))
            .then_inner(Similarity::flip())
            .then_inner(Similarity::scale(0.6));
        let shapes = vec![
            Shape::ellipse([0.2, 0.1], [0.6, 0.2]),
            Shape::polygon(&[[-0.3, -0.2], [0.5, -0.4], [0.1, 0.6]], 0.05),
            Shape::Stroke(vec![([-0.5, 0.], 0.2), ([0.3, 0.4], 0.05)]),
        ];
        let blend = Shape::Blend {
            shapes: shapes.clone(),
            reach: 0.2,
        };
        for shape in shapes.into_iter().chain([blend]) {
            let mapped = shape.clone().map(&by);
            let Bounds { low, high } = mapped.bounds();
            for i in 0..100 {
                for j in 0..100 {
                    let p = [i as f32 / 50. - 1., j as f32 / 50. - 1.];
                    if mapped.distance(p) < 0. {
                        assert!((0..2).all(|k| low[k] <= p[k] && p[k] <= high[k]));
                    }
                    // the same inside, measured before the mapping
                    let (before, after) = (shape.distance(p), mapped.distance(by.point(p)));
                    assert!((before * 0.6 - after).abs() < 1e-4);
                }
            }
        }
    }
}
