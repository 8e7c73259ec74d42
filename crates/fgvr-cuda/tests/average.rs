//! The moving average's kernel against its equation in f64.

mod support;

use fgvr_cuda::ops::average::{Averages, Pair};
use fgvr_cuda::{Array, Result};
use support::{close, on_each_machine};

#[test]
fn the_target_moves_by_the_momentum_or_is_a_copy() {
    on_each_machine(|machine, random| {
        let (mut pairs, mut expected) = (Vec::new(), Vec::new());
        for (at, len) in [1, 6, 0, 4096, 4099, 8200].into_iter().enumerate() {
            let copied = at % 2 == 1;
            let (mut target, online) = (random.normals(len, 1., 1.), random.normals(len, 0., 1.));
            if copied {
                target[0] = f32::NAN;
            }
            let one = |(t, o): (&f32, &f32)| match copied {
                true => f64::from(*o),
                false => 0.996 * f64::from(*t) + 0.004 * f64::from(*o),
            };
            expected.push(target.iter().zip(&online).map(one).collect::<Vec<_>>());
            pairs.push(Pair {
                target: Array::from_f32(machine, &target)?,
                online: Array::from_f32(machine, &online)?,
                copied,
            });
        }
        Averages::new(machine, &pairs)?.update(machine, 0.996)?;
        for (pair, expected) in pairs.iter().zip(&expected) {
            let tolerance = if pair.copied { 0. } else { 2e-7 };
            close("target", &pair.target.to_f32(machine)?, expected, tolerance);
        }
        Ok(())
    });
}

#[test]
fn a_momentum_of_one_changes_nothing() {
    on_each_machine(|machine, random| {
        let before = random.normals(77, 0., 1.);
        let pair = Pair {
            target: Array::from_f32(machine, &before)?,
            online: Array::from_f32(machine, &random.normals(77, 0., 1.))?,
            copied: false,
        };
        Averages::new(machine, std::slice::from_ref(&pair))?.update(machine, 1.)?;
        assert_eq!(pair.target.to_f32(machine)?, before);
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_each_machine(|machine, _| {
        let array = |len: usize| Array::from_f32(machine, &vec![0.; len]);
        let pair = |target: &Array, online: usize| -> Result<Pair> {
            Ok(Pair {
                target: target.clone(),
                online: array(online)?,
                copied: false,
            })
        };
        let text = |found: Result<()>| found.err().map(|e| e.to_string()).unwrap_or_default();
        let target = array(3)?;
        let made = Averages::new(machine, &[pair(&target, 4)?]);
        assert_eq!(
            text(made.map(|_| ())),
            "average: array of a tensor: expected 3 of F32, found 4 of F32"
        );
        let made = Averages::new(machine, &[pair(&target, 3)?, pair(&target, 3)?]);
        assert!(text(made.map(|_| ())).contains("one of tensor 1 again"));
        let averages = Averages::new(machine, &[pair(&target, 3)?])?;
        assert_eq!(
            text(averages.update(machine, 1.5)),
            "average: momentum: expected 0 to 1, found 1.5"
        );
        Averages::new(machine, &[])?.update(machine, 0.5)
    });
}
