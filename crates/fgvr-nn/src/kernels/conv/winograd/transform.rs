//! The transforms of F(4x4, 3x3), on vectors of neighbouring channels.
//!
//! With d a tile of 6x6 places of the input, g a kernel of 3x3 and y the 4x4 places of the output
//! (arXiv:1509.09308, equation 8):
//!
//! ```text
//! y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A        and, as its adjoint,    dg = Gᵀ [(Bᵀ d B) ⊙ (A dy Aᵀ)] G
//! ```
//!
//! # Design choice
//! The polynomials are evaluated at 0, ±√½, ±√2 and infinity instead of the paper's 0, ±1, ±2 and
//! infinity: the entries stay near 1, and the error in f32 is about twice that of a direct sum
//! (docs/numerics.md).
//!
//! ```text
//!      | 1   0  -5/2   0   1  0 |       |  1      0     0  |        | 1   1    1    1    1   0 |
//!      | 0 -2p   -2    p   1  0 |       | -2/3  -2p/3 -1/3 |        | 0   p   -p    q   -q   0 |
//! Bᵀ = | 0  2p   -2   -p   1  0 |   G = | -2/3   2p/3 -1/3 |   Aᵀ = | 0  1/2  1/2   2    2   0 |
//!      | 0 -q/2 -1/2   q   1  0 |       |  1/6   q/6   1/3 |        | 0  p/2 -p/2  2q  -2q   1 |
//!      | 0  q/2 -1/2  -q   1  0 |       |  1/6  -q/6   1/3 |
//!      | 0   1    0  -5/2  0  1 |       |  0      0     1  |        p = √½, q = √2
//! ```

use std::f32::consts::{FRAC_1_SQRT_2 as P, SQRT_2 as Q};

use crate::kernels::conv::lanes::Lanes;

/// Side of a tile of the input, and of its transform.
pub(super) const SIDE: usize = 6;
/// Side of a tile of the output.
pub(super) const STEP: usize = 4;
/// Positions of a transformed tile.
pub(super) const POSITIONS: usize = SIDE * SIDE;

/// The rows of a transformed tile that are computed together, since they share terms: 0, 1 and 2,
/// 3 and 4, 5.
pub(in crate::kernels::conv) const GROUPS: [std::ops::Range<usize>; 4] = [0..1, 1..3, 3..5, 5..6];

/// The 6x6 places that a tile reads, each a pointer of its own, so that those outside of the map can
/// be a line of zeros; and where its transform goes.
#[derive(Clone, Copy)]
pub(in crate::kernels::conv) struct InputTile {
    pub(super) from: [*const f32; POSITIONS],
    /// Registers of channels.
    pub(super) vectors: usize,
    pub(super) to: *mut f32,
    /// Floats from one position to the next.
    pub(super) position: usize,
}

/// A tile of places in memory, and where its transform goes (or the reverse).
#[derive(Clone, Copy)]
pub(in crate::kernels::conv) struct Tile {
    pub(super) from: *const f32,
    /// Floats from one row and column of the places to the next.
    pub(super) row: usize,
    pub(super) column: usize,
    /// Registers of channels.
    pub(super) vectors: usize,
    pub(super) to: *mut f32,
    /// Floats from one position to the next.
    pub(super) position: usize,
}

/// `sum + factor * value`.
#[inline(always)]
unsafe fn add_scaled<L: Lanes>(sum: L::Vector, factor: f32, value: L::Vector) -> L::Vector {
    // SAFETY: the level is the caller's promise.
    unsafe { L::multiply_add(L::splat(factor), value, sum) }
}

/// `factor * value`.
#[inline(always)]
unsafe fn scaled<L: Lanes>(factor: f32, value: L::Vector) -> L::Vector {
    // SAFETY: the level is the caller's promise.
    unsafe { L::multiply_add(L::splat(factor), value, L::zero()) }
}

/// `a` + `factor` `b`, and `a` - `factor` `b`.
#[inline(always)]
unsafe fn plus_minus<L: Lanes>(a: L::Vector, factor: f32, b: L::Vector) -> [L::Vector; 2] {
    // SAFETY: the level is the caller's promise.
    unsafe {
        [
            add_scaled::<L>(a, factor, b),
            add_scaled::<L>(a, -factor, b),
        ]
    }
}

/// Row 0 of Bᵀ times (d0 .. d5), from d0, d2, d4; also row 5, from d1, d3, d5.
#[inline(always)]
unsafe fn input_end<L: Lanes>(a: L::Vector, b: L::Vector, c: L::Vector) -> L::Vector {
    // SAFETY: the level is the caller's promise.
    unsafe { add_scaled::<L>(L::add(a, c), -2.5, b) }
}

/// Rows 1 and 2 of Bᵀ (`point` p, `square` of the other point 2), or 3 and 4 (q, 1/2), times d.
#[inline(always)]
unsafe fn input_pair<L: Lanes>(
    [d1, d2, d3, d4]: [L::Vector; 4],
    point: f32,
    square: f32,
) -> [L::Vector; 2] {
    // SAFETY: the level is the caller's promise.
    unsafe {
        let even = add_scaled::<L>(d4, -square, d2);
        let odd = add_scaled::<L>(d3, -square, d1);
        plus_minus::<L>(even, point, odd)
    }
}

/// Bᵀ d.
#[inline(always)]
unsafe fn input_line<L: Lanes>(d: [L::Vector; SIDE]) -> [L::Vector; SIDE] {
    // SAFETY: the level is the caller's promise.
    unsafe {
        let middle = [d[1], d[2], d[3], d[4]];
        let [t1, t2] = input_pair::<L>(middle, P, 2.);
        let [t3, t4] = input_pair::<L>(middle, Q, 0.5);
        let first = input_end::<L>(d[0], d[2], d[4]);
        let last = input_end::<L>(d[1], d[3], d[5]);
        [first, t1, t2, t3, t4, last]
    }
}

/// Stores six positions, `position` apart.
#[inline(always)]
unsafe fn store_line<L: Lanes>(to: *mut f32, position: usize, line: [L::Vector; SIDE]) {
    // SAFETY: the caller's promise.
    unsafe {
        L::store(to, line[0]);
        L::store(to.wrapping_add(position), line[1]);
        L::store(to.wrapping_add(2 * position), line[2]);
        L::store(to.wrapping_add(3 * position), line[3]);
        L::store(to.wrapping_add(4 * position), line[4]);
        L::store(to.wrapping_add(5 * position), line[5]);
    }
}

// The functions below take no closures: a closure does not have the features of the function it
// stands in, and would be compiled to calls of single instructions.

/// One register of the place (y, x) of a tile.
#[inline(always)]
unsafe fn place<L: Lanes>(from: *const f32, tile: &Tile, y: usize, x: usize) -> L::Vector {
    // SAFETY: the caller's promise.
    unsafe { L::load(from.wrapping_add(y * tile.row + x * tile.column)) }
}

/// One register of each of six positions.
#[inline(always)]
unsafe fn load_line<L: Lanes>(from: *const f32, position: usize) -> [L::Vector; SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        [
            L::load(from),
            L::load(from.wrapping_add(position)),
            L::load(from.wrapping_add(2 * position)),
            L::load(from.wrapping_add(3 * position)),
            L::load(from.wrapping_add(4 * position)),
            L::load(from.wrapping_add(5 * position)),
        ]
    }
}

/// `[f!(0), f!(1), ..]`.
macro_rules! each {
    ($f:ident, $($x:literal)*) => { [$($f!($x)),*] };
}

/// The rows `GROUPS[GROUP]` of Bᵀ d B of a 6x6 tile; the first goes to `to`.
///
/// # Safety
/// `tile.vectors` registers at each of the 6x6 places, and room for them at the rows' positions; the
/// level of `L`.
#[inline(always)]
pub(in crate::kernels::conv) unsafe fn input<L: Lanes, const GROUP: usize>(tile: &InputTile) {
    // SAFETY: the caller's promise covers the places and the positions.
    unsafe {
        for vector in 0..tile.vectors {
            let channel = vector * L::COUNT;
            let to = tile.to.wrapping_add(channel);
            if GROUP == 0 || GROUP == 3 {
                let y = GROUP / 3;
                macro_rules! column {
                    ($x:literal) => {
                        input_end::<L>(
                            L::load(tile.from[y * SIDE + $x].wrapping_add(channel)),
                            L::load(tile.from[(y + 2) * SIDE + $x].wrapping_add(channel)),
                            L::load(tile.from[(y + 4) * SIDE + $x].wrapping_add(channel)),
                        )
                    };
                }
                let columns = each!(column, 0 1 2 3 4 5);
                store_line::<L>(to, tile.position, input_line::<L>(columns));
            } else {
                let (point, square) = if GROUP == 1 { (P, 2.) } else { (Q, 0.5) };
                macro_rules! column {
                    ($x:literal) => {
                        input_pair::<L>(
                            [
                                L::load(tile.from[1 * SIDE + $x].wrapping_add(channel)),
                                L::load(tile.from[2 * SIDE + $x].wrapping_add(channel)),
                                L::load(tile.from[3 * SIDE + $x].wrapping_add(channel)),
                                L::load(tile.from[4 * SIDE + $x].wrapping_add(channel)),
                            ],
                            point,
                            square,
                        )
                    };
                }
                let [a, b, c, d, e, f] = each!(column, 0 1 2 3 4 5);
                let first = [a[0], b[0], c[0], d[0], e[0], f[0]];
                let second = [a[1], b[1], c[1], d[1], e[1], f[1]];
                store_line::<L>(to, tile.position, input_line::<L>(first));
                let to = to.wrapping_add(SIDE * tile.position);
                store_line::<L>(to, tile.position, input_line::<L>(second));
            }
        }
    }
}

/// A times (y0 .. y3).
#[inline(always)]
unsafe fn gradient_line<L: Lanes>(y: [L::Vector; STEP]) -> [L::Vector; SIDE] {
    // SAFETY: the level is the caller's promise.
    unsafe {
        let [t1, t2] = gradient_pair::<L>(y, P, 0.5);
        let [t3, t4] = gradient_pair::<L>(y, Q, 2.);
        [y[0], t1, t2, t3, t4, y[3]]
    }
}

/// Rows 1 and 2 of A (`point` p, its `square` 1/2), or 3 and 4 (q, 2), times y.
#[inline(always)]
unsafe fn gradient_pair<L: Lanes>(y: [L::Vector; STEP], point: f32, square: f32) -> [L::Vector; 2] {
    // SAFETY: the level is the caller's promise.
    unsafe {
        let even = add_scaled::<L>(y[0], square, y[2]);
        let odd = add_scaled::<L>(y[1], square, y[3]);
        plus_minus::<L>(even, point, odd)
    }
}

/// The rows `GROUPS[GROUP]` of A dy Aᵀ of a 4x4 tile; the first goes to `to`.
///
/// # Safety
/// As [`input`], for 4x4 places.
#[inline(always)]
pub(in crate::kernels::conv) unsafe fn gradient<L: Lanes, const GROUP: usize>(tile: &Tile) {
    // SAFETY: the caller's promise covers the places and the positions.
    unsafe {
        for vector in 0..tile.vectors {
            let from = tile.from.wrapping_add(vector * L::COUNT);
            let to = tile.to.wrapping_add(vector * L::COUNT);
            if GROUP == 0 || GROUP == 3 {
                let y = GROUP; // row 0 of A takes y0, row 5 takes y3
                macro_rules! column {
                    ($x:literal) => {
                        place::<L>(from, tile, y, $x)
                    };
                }
                let line = each!(column, 0 1 2 3);
                store_line::<L>(to, tile.position, gradient_line::<L>(line));
            } else {
                let (point, square) = if GROUP == 1 { (P, 0.5) } else { (Q, 2.) };
                macro_rules! column {
                    ($x:literal) => {
                        gradient_pair::<L>(
                            [
                                place::<L>(from, tile, 0, $x),
                                place::<L>(from, tile, 1, $x),
                                place::<L>(from, tile, 2, $x),
                                place::<L>(from, tile, 3, $x),
                            ],
                            point,
                            square,
                        )
                    };
                }
                let [a, b, c, d] = each!(column, 0 1 2 3);
                let (first, second) = ([a[0], b[0], c[0], d[0]], [a[1], b[1], c[1], d[1]]);
                store_line::<L>(to, tile.position, gradient_line::<L>(first));
                let to = to.wrapping_add(SIDE * tile.position);
                store_line::<L>(to, tile.position, gradient_line::<L>(second));
            }
        }
    }
}

/// Aᵀ m.
#[inline(always)]
unsafe fn output_line<L: Lanes>(m: [L::Vector; SIDE]) -> [L::Vector; STEP] {
    // SAFETY: the level is the caller's promise.
    unsafe {
        let (inner, inner_odd) = (L::add(m[1], m[2]), L::subtract(m[1], m[2]));
        let (outer, outer_odd) = (L::add(m[3], m[4]), L::subtract(m[3], m[4]));
        let half = scaled::<L>(P, inner_odd);
        let twice = scaled::<L>(Q, outer_odd);
        [
            L::add(L::add(m[0], inner), outer),
            L::add(half, twice),
            add_scaled::<L>(scaled::<L>(0.5, inner), 2., outer),
            add_scaled::<L>(add_scaled::<L>(m[5], 0.5, half), 2., twice),
        ]
    }
}

/// Aᵀ m A: from positions at `from` (`position` apart) to 4x4 places at `to`.
///
/// # Safety
/// As [`input`], with `from` and `to` exchanged.
#[inline(always)]
pub(in crate::kernels::conv) unsafe fn output<L: Lanes>(tile: &Tile) {
    // SAFETY: the caller's promise covers the positions and the places.
    unsafe {
        for vector in 0..tile.vectors {
            let from = tile.from.wrapping_add(vector * L::COUNT);
            let to = tile.to.wrapping_add(vector * L::COUNT);
            macro_rules! row {
                ($r:literal) => {{
                    let from = from.wrapping_add($r * SIDE * tile.position);
                    output_line::<L>(load_line::<L>(from, tile.position))
                }};
            }
            let [a, b, c, d, e, f] = each!(row, 0 1 2 3 4 5);
            macro_rules! column {
                ($x:literal) => {{
                    let line = output_line::<L>([a[$x], b[$x], c[$x], d[$x], e[$x], f[$x]]);
                    let to = to.wrapping_add($x * tile.column);
                    L::store(to, line[0]);
                    L::store(to.wrapping_add(tile.row), line[1]);
                    L::store(to.wrapping_add(2 * tile.row), line[2]);
                    L::store(to.wrapping_add(3 * tile.row), line[3]);
                }};
            }
            column!(0);
            column!(1);
            column!(2);
            column!(3);
        }
    }
}

/// G times (g0, g1, g2).
#[inline(always)]
unsafe fn weight_line<L: Lanes>([g0, g1, g2]: [L::Vector; 3]) -> [L::Vector; SIDE] {
    // SAFETY: the level is the caller's promise.
    unsafe {
        let inner = add_scaled::<L>(scaled::<L>(-2. / 3., g0), -1. / 3., g2);
        let [t1, t2] = plus_minus::<L>(inner, -2. / 3. * P, g1);
        let outer = add_scaled::<L>(scaled::<L>(1. / 6., g0), 1. / 3., g2);
        let [t3, t4] = plus_minus::<L>(outer, Q / 6., g1);
        [g0, t1, t2, t3, t4, g2]
    }
}

/// G g Gᵀ: from 3x3 taps at `from` (laid out as places) to positions at `to`.
///
/// # Safety
/// `tile.vectors` registers at each of the 9 taps, and room for them at the 36 positions.
#[inline(always)]
pub(in crate::kernels::conv) unsafe fn weight<L: Lanes>(tile: &Tile) {
    // SAFETY: the caller's promise covers the taps and the positions.
    unsafe {
        for vector in 0..tile.vectors {
            let from = tile.from.wrapping_add(vector * L::COUNT);
            let to = tile.to.wrapping_add(vector * L::COUNT);
            macro_rules! column {
                ($x:literal) => {
                    weight_line::<L>([
                        place::<L>(from, tile, 0, $x),
                        place::<L>(from, tile, 1, $x),
                        place::<L>(from, tile, 2, $x),
                    ])
                };
            }
            let [a, b, c] = each!(column, 0 1 2);
            macro_rules! row {
                ($r:literal) => {
                    store_line::<L>(
                        to.wrapping_add($r * SIDE * tile.position),
                        tile.position,
                        weight_line::<L>([a[$r], b[$r], c[$r]]),
                    )
                };
            }
            each!(row, 0 1 2 3 4 5);
        }
    }
}

/// Gᵀ times (u0 .. u5).
#[inline(always)]
unsafe fn weight_gradient_line<L: Lanes>(u: [L::Vector; SIDE]) -> [L::Vector; 3] {
    // SAFETY: the level is the caller's promise.
    unsafe {
        let (inner, inner_odd) = (L::add(u[1], u[2]), L::subtract(u[1], u[2]));
        let (outer, outer_odd) = (L::add(u[3], u[4]), L::subtract(u[3], u[4]));
        [
            add_scaled::<L>(add_scaled::<L>(u[0], -2. / 3., inner), 1. / 6., outer),
            add_scaled::<L>(scaled::<L>(-2. / 3. * P, inner_odd), Q / 6., outer_odd),
            add_scaled::<L>(add_scaled::<L>(u[5], -1. / 3., inner), 1. / 3., outer),
        ]
    }
}

/// What the rows `GROUPS[GROUP]` of u add to Gᵀ u G: positions at `from` (`position` apart, the
/// group's first row first) are added to 3x3 taps at `to` (`column` apart).
///
/// # Safety
/// `tile.vectors` registers at each of the rows' positions and of the 9 taps.
#[inline(always)]
pub(in crate::kernels::conv) unsafe fn weight_gradient<L: Lanes, const GROUP: usize>(tile: &Tile) {
    // Rows of Gᵀ (3 taps) for the group's rows of u: [first, second].
    let factors: [[f32; 3]; 2] = match GROUP {
        0 => [[1., 0., 0.], [0.; 3]],
        1 => [
            [-2. / 3., -2. / 3. * P, -1. / 3.],
            [-2. / 3., 2. / 3. * P, -1. / 3.],
        ],
        2 => [[1. / 6., Q / 6., 1. / 3.], [1. / 6., -Q / 6., 1. / 3.]],
        _ => [[0., 0., 1.], [0.; 3]],
    };
    // SAFETY: the caller's promise covers the positions and the taps.
    unsafe {
        for vector in 0..tile.vectors {
            let from = tile.from.wrapping_add(vector * L::COUNT);
            let to = tile.to.wrapping_add(vector * L::COUNT);
            for (r, factors) in factors.iter().enumerate().take(GROUPS[GROUP].len()) {
                let line =
                    load_line::<L>(from.wrapping_add(r * SIDE * tile.position), tile.position);
                let line = weight_gradient_line::<L>(line);
                for (y, factor) in factors.iter().enumerate() {
                    if *factor == 0. {
                        continue;
                    }
                    for (x, value) in line.iter().enumerate() {
                        let to = to.wrapping_add((y * 3 + x) * tile.column);
                        L::store(to, add_scaled::<L>(L::load(to), *factor, *value));
                    }
                }
            }
        }
    }
}
