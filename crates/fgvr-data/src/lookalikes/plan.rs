//! Body plans: what sets one family's silhouette apart from another's.
//!
//! A plan is drawn in units of its own, facing right, y downwards, around a body at the origin; the
//! whole bird is then fitted to the frame.

use super::draw::Draw;
use super::shape::Point;
use super::species::{Part, Parts, Slot};

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: &'static str,
    /// Radii, along and across.
    pub(super) body: Point,
    /// How far the breast is raised, in degrees.
    pub(super) slope: f32,
    /// The neck's base and middle with their half widths; it ends in the head.
    pub(super) neck: [(Point, f32); 2],
    pub(super) head: Point,
    pub(super) head_radii: Point,
    /// Whether the face is turned to the viewer.
    pub(super) frontal: bool,
    /// Shoulder and tip of the wing with their half widths.
    pub(super) wing: [(Point, f32); 2],
    /// Whether the far wing shows behind the body.
    pub(super) both_wings: bool,
    pub(super) tail: Tail,
    /// The length unit of the beak.
    pub(super) beak: f32,
    pub(super) legs: Option<Legs>,
    /// Centre and radii of the patterned breast.
    pub(super) breast: (Point, Point),
    /// The variants of the parts in which the family's species agree.
    pub(super) common: Parts,
    pub(super) slots: [Slot; 3],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    pub(super) base: Point,
    /// Degrees from straight back; positive points down.
    pub(super) drop: f32,
    pub(super) length: f32,
    pub(super) half_width: f32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Legs {
    pub(super) hip: Point,
    pub(super) length: f32,
    pub(super) apart: f32,
}

const fn slot(part: Part, order: [usize; 4]) -> Slot {
    Slot { part, order }
}

/// Beak, bars, crest, tail, breast, face, collar.
const PLAIN: Parts = [0, 3, 0, 0, 3, 3, 3];

/// The plan of family `family`: one of a hand-drawn few, and from the second round on with its
/// proportions changed, the same change for every seed.
pub(super) fn plan(family: usize) -> Plan {
    const PLANS: [fn() -> Plan; 8] = [
        finch, heron, duck, owl, swallow, sandpiper, woodpecker, quail,
    ];
    let mut plan = PLANS[family % PLANS.len()]();
    let round = family / PLANS.len();
    if round > 0 {
        plan.vary(round as u64);
    }
    plan
}

/// A name that no other family has.
pub(super) fn name(family: usize) -> String {
    let name = plan(family).name;
    match family / 8 {
        0 => name.to_owned(),
        round => format!("{name}{}", round + 1),
    }
}

impl Plan {
    fn vary(&mut self, round: u64) {
        let mut draw = Draw::new([round, 0, 0, 0x706c_616e]);
        let (long, tall) = (draw.range(0.8, 1.3), draw.range(0.8, 1.2));
        let stretch = |[x, y]: Point| [x * long, y * tall];
        self.body = stretch(self.body);
        self.breast = (stretch(self.breast.0), self.breast.1);
        self.slope += draw.around(10.);
        let raise = draw.range(-0.15, 0.2);
        let lift = |p: Point, share: f32| {
            let [x, y] = stretch(p);
            [x, y - share * raise]
        };
        self.neck[0].0 = stretch(self.neck[0].0);
        self.neck[1].0 = lift(self.neck[1].0, 0.5);
        self.head = lift(self.head, 1.);
        let head = draw.range(0.9, 1.2);
        self.head_radii = self.head_radii.map(|r| r * head);
        for (point, _) in &mut self.wing {
            *point = stretch(*point);
        }
        self.tail.base = stretch(self.tail.base);
        self.tail.drop += draw.around(20.);
        let legs = draw.range(0.7, 1.6);
        if let Some(own) = &mut self.legs {
            own.hip = stretch(own.hip);
            own.length *= legs;
        }
    }
}

fn finch() -> Plan {
    Plan {
        name: "finch",
        body: [0.46, 0.34],
        slope: 25.,
        neck: [([0.18, -0.12], 0.26), ([0.28, -0.24], 0.22)],
        head: [0.38, -0.38],
        head_radii: [0.24, 0.22],
        frontal: false,
        wing: [([0.10, -0.10], 0.17), ([-0.50, 0.20], 0.07)],
        both_wings: false,
        tail: Tail {
            base: [-0.38, 0.18],
            drop: 22.,
            length: 0.36,
            half_width: 0.10,
        },
        beak: 0.22,
        legs: Some(Legs {
            hip: [0.02, 0.28],
            length: 0.26,
            apart: 0.14,
        }),
        breast: ([0.26, 0.06], [0.20, 0.24]),
        common: PLAIN,
        slots: [
            slot(Part::Beak, [0, 1, 2, 3]),
            slot(Part::Bars, [0, 1, 3, 2]),
            slot(Part::Tail, [0, 1, 2, 3]),
        ],
    }
}

fn heron() -> Plan {
    Plan {
        name: "heron",
        body: [0.42, 0.25],
        slope: 28.,
        neck: [([0.26, -0.14], 0.17), ([0.36, -0.46], 0.11)],
        head: [0.38, -0.74],
        head_radii: [0.19, 0.15],
        frontal: false,
        wing: [([0.12, -0.08], 0.15), ([-0.46, 0.18], 0.05)],
        both_wings: false,
        tail: Tail {
            base: [-0.36, 0.16],
            drop: 35.,
            length: 0.20,
            half_width: 0.08,
        },
        beak: 0.2,
        legs: Some(Legs {
            hip: [0.0, 0.2],
            length: 0.52,
            apart: 0.16,
        }),
        breast: ([0.22, 0.0], [0.16, 0.18]),
        common: [1, 3, 0, 0, 3, 3, 3],
        slots: [
            slot(Part::Crest, [2, 1, 0, 3]),
            slot(Part::Collar, [0, 3, 1, 2]),
            slot(Part::Bars, [3, 1, 0, 2]),
        ],
    }
}

fn duck() -> Plan {
    Plan {
        name: "duck",
        body: [0.54, 0.34],
        slope: 4.,
        neck: [([0.32, -0.14], 0.22), ([0.36, -0.34], 0.18)],
        head: [0.42, -0.56],
        head_radii: [0.27, 0.23],
        frontal: false,
        wing: [([0.14, -0.06], 0.17), ([-0.46, -0.02], 0.06)],
        both_wings: false,
        tail: Tail {
            base: [-0.50, -0.06],
            drop: -20.,
            length: 0.24,
            half_width: 0.09,
        },
        beak: 0.15,
        legs: None,
        breast: ([0.34, 0.08], [0.2, 0.18]),
        common: [3, 3, 0, 0, 3, 3, 3],
        slots: [
            slot(Part::Tail, [3, 2, 1, 0]),
            slot(Part::Face, [1, 2, 0, 3]),
            slot(Part::Bars, [3, 1, 0, 2]),
        ],
    }
}

fn owl() -> Plan {
    Plan {
        name: "owl",
        body: [0.36, 0.50],
        slope: 0.,
        neck: [([0.0, -0.30], 0.30), ([0.0, -0.40], 0.30)],
        head: [0.02, -0.52],
        head_radii: [0.36, 0.28],
        frontal: true,
        wing: [([-0.24, -0.20], 0.14), ([-0.30, 0.42], 0.05)],
        both_wings: false,
        tail: Tail {
            base: [-0.06, 0.42],
            drop: 84.,
            length: 0.22,
            half_width: 0.11,
        },
        beak: 0.14,
        legs: Some(Legs {
            hip: [0.10, 0.42],
            length: 0.17,
            apart: 0.18,
        }),
        breast: ([0.08, 0.08], [0.25, 0.34]),
        common: PLAIN,
        slots: [
            slot(Part::Breast, [0, 2, 1, 3]),
            slot(Part::Crest, [1, 0, 2, 3]),
            slot(Part::Face, [3, 0, 1, 2]),
        ],
    }
}

fn swallow() -> Plan {
    Plan {
        name: "swallow",
        body: [0.50, 0.20],
        slope: 14.,
        neck: [([0.28, -0.10], 0.17), ([0.36, -0.14], 0.16)],
        head: [0.46, -0.20],
        head_radii: [0.20, 0.18],
        frontal: false,
        wing: [([0.16, -0.12], 0.16), ([-0.34, -0.66], 0.05)],
        both_wings: true,
        tail: Tail {
            base: [-0.44, 0.12],
            drop: 12.,
            length: 0.34,
            half_width: 0.10,
        },
        beak: 0.13,
        legs: None,
        breast: ([0.24, 0.02], [0.20, 0.15]),
        common: PLAIN,
        slots: [
            slot(Part::Tail, [1, 0, 3, 2]),
            slot(Part::Bars, [3, 1, 0, 2]),
            slot(Part::Face, [3, 1, 0, 2]),
        ],
    }
}

fn sandpiper() -> Plan {
    Plan {
        name: "sandpiper",
        body: [0.42, 0.30],
        slope: 18.,
        neck: [([0.24, -0.14], 0.19), ([0.34, -0.32], 0.13)],
        head: [0.40, -0.46],
        head_radii: [0.18, 0.16],
        frontal: false,
        wing: [([0.04, -0.10], 0.16), ([-0.48, 0.12], 0.05)],
        both_wings: false,
        tail: Tail {
            base: [-0.38, 0.10],
            drop: 12.,
            length: 0.20,
            half_width: 0.09,
        },
        beak: 0.24,
        legs: Some(Legs {
            hip: [0.02, 0.24],
            length: 0.46,
            apart: 0.14,
        }),
        breast: ([0.24, 0.06], [0.19, 0.22]),
        common: [1, 3, 0, 0, 3, 3, 3],
        slots: [
            slot(Part::Beak, [2, 1, 3, 0]),
            slot(Part::Breast, [3, 0, 2, 1]),
            slot(Part::Crest, [0, 1, 2, 3]),
        ],
    }
}

fn woodpecker() -> Plan {
    Plan {
        name: "woodpecker",
        body: [0.48, 0.25],
        slope: 66.,
        neck: [([0.12, -0.30], 0.20), ([0.16, -0.42], 0.17)],
        head: [0.22, -0.58],
        head_radii: [0.22, 0.19],
        frontal: false,
        wing: [([0.0, -0.20], 0.14), ([-0.22, 0.42], 0.06)],
        both_wings: false,
        tail: Tail {
            base: [-0.18, 0.38],
            drop: 62.,
            length: 0.34,
            half_width: 0.09,
        },
        beak: 0.22,
        legs: Some(Legs {
            hip: [0.10, 0.16],
            length: 0.24,
            apart: 0.14,
        }),
        breast: ([0.2, -0.06], [0.14, 0.24]),
        common: [1, 3, 0, 0, 3, 3, 3],
        slots: [
            slot(Part::Crest, [3, 0, 1, 2]),
            slot(Part::Bars, [1, 0, 3, 2]),
            slot(Part::Face, [1, 0, 2, 3]),
        ],
    }
}

fn quail() -> Plan {
    Plan {
        name: "quail",
        body: [0.50, 0.42],
        slope: 12.,
        neck: [([0.26, -0.22], 0.20), ([0.32, -0.34], 0.16)],
        head: [0.38, -0.46],
        head_radii: [0.20, 0.18],
        frontal: false,
        wing: [([0.0, -0.10], 0.18), ([-0.46, 0.14], 0.08)],
        both_wings: false,
        tail: Tail {
            base: [-0.46, 0.10],
            drop: 25.,
            length: 0.16,
            half_width: 0.10,
        },
        beak: 0.15,
        legs: Some(Legs {
            hip: [0.0, 0.36],
            length: 0.20,
            apart: 0.16,
        }),
        breast: ([0.28, 0.06], [0.20, 0.26]),
        common: PLAIN,
        slots: [
            slot(Part::Crest, [2, 3, 0, 1]),
            slot(Part::Breast, [1, 3, 0, 2]),
            slot(Part::Face, [3, 1, 0, 2]),
        ],
    }
}
