//! Patches against indices written out.

mod support;

use fgvr_cuda::ops::patches::{self, Patches};
use fgvr_cuda::{Array, Real};
use support::{on_each_machine, pairs, rounded};

/// Packs and not, several runs of a row with a shorter last one, patches larger than shared memory, of one.
const SHAPES: &[Patches] = &[
    of([2, 8, 16, 3], 4),
    of([1, 32, 160, 3], 16),
    of([1, 28, 112, 3], 14),
    of([2, 6, 9, 3], 3),
    of([1, 5, 35, 2], 5),
    of([1, 40, 80, 3], 40),
    of([1, 2, 3, 8], 1),
    of([0, 4, 4, 3], 4),
];

const fn of(map: [usize; 4], patch: usize) -> Patches {
    Patches { map, patch }
}

#[test]
fn patches_become_rows_and_rows_patches() {
    on_each_machine(|machine, random| {
        for (real, patches) in pairs(Real::ALL, SHAPES) {
            let ([n, h, w, c], p) = (patches.map, patches.patch);
            let x = random.normals(n * h * w * c, 0., 1.);
            let array = Array::from_reals(machine, real, &x)?;
            let x = rounded(real, &x);
            let y = patches::cut(machine, &array, &patches)?;
            let found = y.to_f32(machine)?;
            for (i, value) in x.iter().enumerate() {
                let (channel, column, row, image) =
                    (i % c, i / c % w, i / c / w % h, i / c / w / h);
                let patch = (image * (h / p) + row / p) * (w / p) + column / p;
                let at = ((patch * c + channel) * p + row % p) * p + column % p;
                assert_eq!(found[at], *value, "{patches:?} {i}");
            }
            let back = patches::join(machine, &y, &patches)?;
            assert_eq!(back.to_f32(machine)?, x, "{patches:?}");
        }
        Ok(())
    });
}

#[test]
fn maps_of_no_whole_patches_are_refused() {
    on_each_machine(|machine, _| {
        let x = Array::from_f32(machine, &[0.; 60])?;
        for patches in [
            of([1, 4, 5, 3], 4),
            of([1, 4, 5, 3], 0),
            of([1, 4, 4, 3], 4),
        ] {
            assert!(patches::cut(machine, &x, &patches).is_err(), "{patches:?}");
            assert!(patches::join(machine, &x, &patches).is_err(), "{patches:?}");
        }
        Ok(())
    });
}
