//! The shapes of the parts in their variants, each in a frame of its own.

use super::shape::{Point, Shape, Similarity};

/// From the face at the origin along x; `unit` is a short beak's length, `half` the half height of
/// its base.
pub(super) fn beak(variant: usize, unit: f32, half: f32) -> Vec<Shape> {
    let long = 2.3 * unit;
    match variant {
        0 => vec![Shape::polygon(
            &[
                [-0.6 * unit, -half],
                [0.3 * unit, -0.75 * half],
                [unit, 0.1 * half],
                [0.3 * unit, 0.7 * half],
                [-0.6 * unit, 0.8 * half],
            ],
            0.01,
        )],
        1 => vec![Shape::Stroke(vec![
            ([-0.5 * unit, 0.], 0.5 * half),
            ([0.4 * long, 0.], 0.36 * half),
            ([long, 0.], 0.12 * half),
        ])],
        2 => {
            let bend = |t: f32| [t * 0.86 * long, 0.5 * long * t * t];
            vec![Shape::Stroke(vec![
                ([-0.5 * unit, 0.], 0.5 * half),
                (bend(0.25), 0.44 * half),
                (bend(0.5), 0.38 * half),
                (bend(0.75), 0.3 * half),
                (bend(1.), 0.14 * half),
            ])]
        }
        _ => vec![
            Shape::Stroke(vec![
                ([-0.5 * unit, 0.], 0.5 * half),
                ([0.6 * long, 0.], 0.34 * half),
            ]),
            Shape::ellipse([0.72 * long, 0.], [0.32 * long, 0.62 * half]),
        ],
    }
}

/// Over a head of radii `r` at the origin, facing along x. No crest has no shape.
pub(super) fn crest(variant: usize, [rx, ry]: Point) -> Vec<Shape> {
    match variant {
        0 => Vec::new(),
        1 => vec![Shape::polygon(
            &[
                [0.55 * rx, -0.6 * ry],
                [-0.2 * rx, -1.3 * ry],
                [-1.1 * rx, -2. * ry],
                [-0.95 * rx, -0.2 * ry],
            ],
            0.015,
        )],
        2 => [0., 0.5]
            .into_iter()
            .map(|low| {
                Shape::Stroke(vec![
                    ([-0.4 * rx, (low - 0.75) * ry], 0.24 * ry),
                    ([-1.4 * rx, (1.3 * low - 0.95) * ry], 0.24 * ry),
                    ([-2.1 * rx, (1.7 * low - 0.5) * ry], 0.2 * ry),
                    ([-2.5 * rx, (2.1 * low + 0.1) * ry], 0.1 * ry),
                ])
            })
            .collect(),
        _ => [-0.75_f32, -0.2, 0.35]
            .into_iter()
            .flat_map(|lean| {
                let tip = [lean * 1.5 * rx, -1.95 * ry];
                [
                    Shape::Stroke(vec![
                        ([0.5 * lean * rx, -0.7 * ry], 0.09 * ry),
                        (tip, 0.09 * ry),
                    ]),
                    Shape::ellipse(tip, [0.24 * ry; 2]),
                ]
            })
            .collect(),
    }
}

/// Where a crest would stand on a head without one.
pub(super) fn crown([rx, ry]: Point) -> Shape {
    Shape::ellipse([-0.15 * rx, -0.85 * ry], [0.75 * rx, 0.4 * ry])
}

/// Both ears of a face turned to the viewer.
pub(super) fn ears(variant: usize, [rx, ry]: Point) -> Vec<Shape> {
    let right = match variant {
        0 => Vec::new(),
        1 => vec![Shape::polygon(
            &[
                [0.3 * rx, -0.75 * ry],
                [0.95 * rx, -1.65 * ry],
                [0.95 * rx, -0.2 * ry],
            ],
            0.015,
        )],
        2 => vec![Shape::Stroke(vec![
            ([0.5 * rx, -0.75 * ry], 0.16 * ry),
            ([1.1 * rx, -0.95 * ry], 0.16 * ry),
            ([1.45 * rx, -0.35 * ry], 0.08 * ry),
        ])],
        _ => vec![Shape::ellipse(
            [0.65 * rx, -0.95 * ry],
            [0.36 * ry, 0.36 * ry],
        )],
    };
    let left: Vec<Shape> = right
        .iter()
        .map(|s| s.clone().map(&Similarity::flip()))
        .collect();
    right.into_iter().chain(left).collect()
}

/// From the rump at the origin backwards along x.
pub(super) fn tail(variant: usize, length: f32, w: f32) -> Shape {
    let l = length;
    let points: &[Point] = match variant {
        0 => &[
            [-0.12, -0.8 * w],
            [0.85 * l, -w],
            [0.85 * l, w],
            [-0.12, 0.8 * w],
        ],
        1 => &[
            [-0.12, -0.8 * w],
            [0.3 * l, -w],
            [1.35 * l, -2. * w],
            [0.6 * l, 0.],
            [1.35 * l, 2. * w],
            [0.3 * l, w],
            [-0.12, 0.8 * w],
        ],
        2 => &[
            [-0.12, -0.8 * w],
            [0.5 * l, -0.85 * w],
            [1.9 * l, -0.1 * w],
            [1.9 * l, 0.1 * w],
            [0.5 * l, 0.85 * w],
            [-0.12, 0.8 * w],
        ],
        _ => &[
            [-0.12, -0.7 * w],
            [0.75 * l, -2.4 * w],
            [l, -1.5 * w],
            [1.12 * l, 0.],
            [l, 1.5 * w],
            [0.75 * l, 2.4 * w],
            [-0.12, 0.7 * w],
        ],
    };
    Shape::polygon(points, 0.01)
}

/// Bars across a wing from `shoulder` to `tip`. One bar is as much ink as three.
pub(super) fn bars(variant: usize, shoulder: Point, tip: Point, half: f32) -> Vec<Shape> {
    let (places, thickness): (&[f32], f32) = match variant {
        0 => (&[0.45], 0.14),
        1 => (&[0.1, 0.42, 0.74], 0.07),
        2 => (&[0.2, 0.66], 0.095),
        _ => (&[], 0.),
    };
    places
        .iter()
        .map(|&t| across(shoulder, tip, t, 1.2 * half, thickness))
        .collect()
}

/// The stretch of a wing on which bars lie.
pub(super) fn bar_region(shoulder: Point, tip: Point, half: f32) -> Shape {
    across(shoulder, tip, 0.42, 1.2 * half, 0.42)
}

/// Bands across a neck from `base` to `head`.
pub(super) fn collar(variant: usize, base: Point, head: Point, half: f32) -> Vec<Shape> {
    match variant {
        0 => vec![across(base, head, 0.42, 1.5 * half, 0.13)],
        1 => vec![
            across(base, head, 0.24, 1.5 * half, 0.075),
            across(base, head, 0.58, 1.5 * half, 0.075),
        ],
        2 => vec![Shape::ellipse(
            [base[0] + 0.6 * half, base[1] + 0.3 * half],
            [0.8 * half, half],
        )],
        _ => Vec::new(),
    }
}

pub(super) fn collar_region(base: Point, head: Point, half: f32) -> Shape {
    across(base, head, 0.42, 1.5 * half, 0.25)
}

/// A four-cornered band across the line from `a` to `b` at share `t`, reaching `half` to both sides,
/// its own half thickness a share of the line's length.
fn across(a: Point, b: Point, t: f32, half: f32, thickness: f32) -> Shape {
    let along = [b[0] - a[0], b[1] - a[1]];
    let length = along[0].hypot(along[1]).max(1e-6);
    let side = [-along[1] / length * half, along[0] / length * half];
    let corner = |t: f32, s: f32| {
        [
            a[0] + t * along[0] + s * side[0],
            a[1] + t * along[1] + s * side[1],
        ]
    };
    let (low, high) = (t - thickness, t + thickness);
    Shape::polygon(
        &[
            corner(low, -1.),
            corner(high, -1.),
            corner(high, 1.),
            corner(low, 1.),
        ],
        0.,
    )
}

/// The pattern of a breast of radii `r` at the origin.
pub(super) fn breast(variant: usize, [rx, ry]: Point) -> Vec<Shape> {
    let spot = 0.24 * rx.min(ry);
    match variant {
        0 => [
            [0., 0.],
            [0.02, -0.72],
            [0.02, 0.72],
            [-0.62, -0.36],
            [-0.62, 0.36],
            [0.62, -0.36],
            [0.62, 0.36],
        ]
        .into_iter()
        .map(|[x, y]| Shape::ellipse([x * rx, y * ry], [spot; 2]))
        .collect(),
        1 => [-0.6, 0., 0.6]
            .into_iter()
            .map(|x| {
                Shape::Stroke(vec![
                    ([x * rx, -0.8 * ry], 0.16 * rx),
                    ([x * rx, 0.8 * ry], 0.16 * rx),
                ])
            })
            .collect(),
        2 => [-0.6, 0., 0.6]
            .into_iter()
            .map(|y| {
                Shape::Stroke(vec![
                    ([-0.9 * rx, y * ry], 0.14 * ry),
                    ([0.9 * rx, y * ry], 0.14 * ry),
                ])
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The marks around one eye at `eye` of a head of radii `r`.
pub(super) fn face(variant: usize, eye: Point, [rx, ry]: Point) -> Vec<Shape> {
    match variant {
        0 => vec![Shape::ellipse(eye, [0.5 * ry; 2])],
        1 => vec![Shape::Stroke(vec![
            ([-1.1 * rx, eye[1] + 0.1 * ry], 0.22 * ry),
            ([1.1 * rx, eye[1] + 0.05 * ry], 0.2 * ry),
        ])],
        2 => vec![Shape::ellipse(
            [eye[0] - 0.35 * rx, eye[1] + 0.62 * ry],
            [0.42 * rx, 0.36 * ry],
        )],
        _ => Vec::new(),
    }
}
