//! The mask's kernels against ranks that are sorted on the host.

mod support;

use fgvr_cuda::ops::mask::{Config, Control, Key, Mask, Rule, non_discriminative_mask};
use fgvr_cuda::{Array, Machine, Result};
use support::{Random, on_each_machine};

const RULES: [Rule; 6] = [
    Rule::Union,
    Rule::Intersection,
    Rule::Variance,
    Rule::Importance,
    Rule::All,
    Rule::None,
];

/// Numbers of channels that are a power of two and that are not.
const SHAPES: [(usize, usize); 6] = [(1, 1), (2, 5), (3, 64), (4, 100), (2, 513), (1, 2048)];

fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn tie(key: Key, image: u64, channel: usize) -> u64 {
    let words = [key.step, image, channel as u64];
    words.into_iter().fold(mix(key.seed), |h, w| mix(h ^ w))
}

/// The rank of each value, equal ones by their hash.
fn ranks(values: &[f64], key: Key, image: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| {
        // Adding zero makes -0 the equal of 0.
        let by_value = (values[*a] + 0.).total_cmp(&(values[*b] + 0.));
        by_value.then(tie(key, image, *a).cmp(&tie(key, image, *b)))
    });
    let mut ranks = vec![0; values.len()];
    for (rank, channel) in order.into_iter().enumerate() {
        ranks[channel] = rank;
    }
    ranks
}

/// Values of which many are equal, some of them zeros of both signs.
fn values(random: &mut Random, count: usize) -> Vec<f32> {
    let value = |v: f32| match (v * 4.).round() / 4. {
        v if v < -1. => v * 1e-30,
        v if v.abs() < 0.3 => 0. * v,
        v => v,
    };
    let normals = random.normals(count, 0., 1.);
    normals.into_iter().map(value).collect()
}

struct Case {
    rows: usize,
    channels: usize,
    variance: Vec<f32>,
    importance: Vec<f32>,
    images: Vec<u32>,
    /// A shuffle of the channels for each row.
    random: Vec<u32>,
    key: Key,
}

impl Case {
    fn new(random: &mut Random, rows: usize, channels: usize) -> Self {
        let shuffle = |random: &mut Random| {
            let mut order: Vec<u32> = (0..channels as u32).collect();
            for at in 0..channels {
                let other = at + random.indices(1, (channels - at) as u32)[0] as usize;
                order.swap(at, other);
            }
            order
        };
        let [seed, step] = [0; 2].map(|_| u64::from(random.indices(1, u32::MAX)[0]) << 13 | 5);
        Self {
            rows,
            channels,
            variance: values(random, channels),
            importance: values(random, rows * channels),
            // Different images, in no order.
            images: (0..rows as u32)
                .map(|i| (i * 7919 + 3) % 10007 + (i % 2) * 20000)
                .collect(),
            random: (0..rows).flat_map(|_| shuffle(random)).collect(),
            key: Key { seed, step },
        }
    }

    /// Rows by their images' indices.
    fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.rows as u32).collect();
        order.sort_by_key(|row| self.images[*row as usize]);
        order
    }

    fn made(
        &self,
        machine: &dyn Machine,
        rho: [f64; 2],
        rule: Rule,
        control: Control<'_>,
        by_batch: Option<&Array>,
    ) -> Result<Mask> {
        let config = Config {
            rho_variance: rho[0],
            rho_importance: rho[1],
            rule,
            control,
            by_batch,
        };
        non_discriminative_mask(
            machine,
            &Array::from_f32(machine, &self.variance)?,
            &Array::from_f32(machine, &self.importance)?,
            &Array::from_u32(machine, &self.images)?,
            config,
            self.key,
        )
    }

    /// Each row's ranks by importance.
    fn importance_ranks(&self, by_batch: bool) -> Vec<Vec<usize>> {
        let row = |row: usize| &self.importance[row * self.channels..][..self.channels];
        if by_batch {
            let mean = |c: usize| {
                let of = |at: &u32| f64::from(row(*at as usize)[c]) / self.rows as f64;
                self.order().iter().map(of).fold(0., |sum, v| sum + v)
            };
            let mean: Vec<f64> = (0..self.channels).map(mean).collect();
            return vec![ranks(&mean, self.key, u64::MAX); self.rows];
        }
        let own = |at: usize| {
            let values: Vec<f64> = row(at).iter().map(|v| f64::from(*v)).collect();
            ranks(&values, self.key, u64::from(self.images[at]))
        };
        (0..self.rows).map(own).collect()
    }

    /// The mask and its counts.
    fn expected(
        &self,
        taken: [usize; 2],
        rule: Rule,
        control: Control<'_>,
        by_batch: bool,
    ) -> (Vec<f32>, Vec<u32>) {
        let variances: Vec<f64> = self.variance.iter().map(|v| f64::from(*v)).collect();
        let by_variance = ranks(&variances, self.key, u64::MAX);
        let (mut masks, mut counts) = (Vec::new(), Vec::new());
        for (row, by_importance) in self.importance_ranks(by_batch).into_iter().enumerate() {
            let low = |c: usize| [by_variance[c] < taken[0], by_importance[c] < taken[1]];
            let chosen = |c: &usize| match (rule, low(*c)) {
                (Rule::Union, [a, b]) => a || b,
                (Rule::Intersection, [a, b]) => a && b,
                (Rule::Variance, [a, _]) => a,
                (Rule::Importance, [_, b]) => b,
                (Rule::All, _) => true,
                (Rule::None, _) => false,
            };
            let size = (0..self.channels).filter(chosen).count();
            let mut order: Vec<usize> = (0..self.channels).collect();
            match control {
                Control::None => order.retain(chosen),
                Control::Random(_) => {
                    let own = &self.random[row * self.channels..][..self.channels];
                    order = own.iter().map(|c| *c as usize).collect();
                }
                Control::Inverted => {
                    let joint = |c: usize| {
                        let part = |rank: usize, taken: usize| (rank as f64 + 0.5) / taken as f64;
                        let (a, b) = (
                            part(by_variance[c], taken[0]),
                            part(by_importance[c], taken[1]),
                        );
                        match rule {
                            Rule::Union => a.min(b),
                            Rule::Intersection => a.max(b),
                            Rule::Variance => a,
                            Rule::Importance => b,
                            Rule::All => 0.,
                            Rule::None => f64::INFINITY,
                        }
                    };
                    let image = u64::from(self.images[row]);
                    let tie = |c: usize| tie(self.key, image, c);
                    order.sort_by(|a, b| {
                        let highest_first = joint(*b).total_cmp(&joint(*a));
                        highest_first.then(tie(*a).cmp(&tie(*b)))
                    });
                }
            }
            let mut mask = vec![0.; self.channels];
            order[..size].iter().for_each(|c| mask[*c] = 1.);
            let constant = (0..self.channels).filter(|c| mask[*c] == 1. && variances[*c] == 0.);
            let both = (0..self.channels).filter(|c| low(*c) == [true; 2]).count();
            let either = (0..self.channels).filter(|c| low(*c) != [false; 2]).count();
            counts.extend([size, constant.count(), both, either].map(|count| count as u32));
            masks.extend(mask);
        }
        (masks, counts)
    }
}

#[test]
fn masks_are_those_of_the_ranks() {
    on_each_machine(|machine, random| {
        for (rows, channels) in SHAPES {
            let case = Case::new(random, rows, channels);
            let order = Array::from_u32(machine, &case.order())?;
            let shuffled = Array::from_u32(machine, &case.random)?;
            let controls = [Control::None, Control::Random(&shuffled), Control::Inverted];
            for (at, rule) in RULES.into_iter().enumerate() {
                // Large ones with one rule and control each.
                for (which, control) in controls.into_iter().enumerate() {
                    if channels > 100 && (at + which) % 3 != 0 {
                        continue;
                    }
                    for by_batch in [false, true] {
                        let order = by_batch.then_some(&order);
                        let made = case.made(machine, [0.25, 0.4], rule, control, order)?;
                        let taken = [0.25, 0.4].map(|rho| (rho * channels as f64 + 1e-9) as usize);
                        let (mask, counts) = case.expected(taken, rule, control, by_batch);
                        let name = format!("{rule:?} {which} {by_batch} {rows}x{channels}");
                        assert_eq!(made.mask.to_f32(machine)?, mask, "{name}");
                        assert_eq!(made.counts.to_u32(machine)?, counts, "{name}");
                    }
                }
            }
        }
        Ok(())
    });
}

#[test]
fn the_mean_over_the_batch_is_added_up_in_the_given_order() {
    on_each_machine(|machine, random| {
        let mut case = Case::new(random, 3, 2);
        // In this order the first channel's mean is 1/3, in that of the rows it is 0.
        case.images = vec![1, 3, 2];
        case.importance = vec![1e30, 0.5, 1., 0., -1e30, 0.];
        let order = Array::from_u32(machine, &case.order())?;
        let rule = Rule::Importance;
        let made = case.made(machine, [0.5; 2], rule, Control::None, Some(&order))?;
        assert_eq!(made.mask.to_f32(machine)?, [0., 1., 0., 1., 0., 1.]);
        let rows = Array::from_u32(machine, &[0, 1, 2])?;
        let made = case.made(machine, [0.5; 2], rule, Control::None, Some(&rows))?;
        assert_eq!(made.mask.to_f32(machine)?, [1., 0., 1., 0., 1., 0.]);
        Ok(())
    });
}

#[test]
fn rates_of_nothing_and_of_all_and_products_that_just_miss() {
    on_each_machine(|machine, random| {
        let case = Case::new(random, 2, 100);
        for (rho, taken) in [
            ([0., 0.], [0, 0]),
            ([1., 0.], [100, 0]),
            ([0., 1.], [0, 100]),
            ([0.29, 0.57], [29, 57]),
        ] {
            for control in [Control::None, Control::Inverted] {
                for rule in [Rule::Union, Rule::Intersection] {
                    let made = case.made(machine, rho, rule, control, None)?;
                    let (mask, counts) = case.expected(taken, rule, control, false);
                    assert_eq!(made.mask.to_f32(machine)?, mask, "{rho:?}");
                    assert_eq!(made.counts.to_u32(machine)?, counts, "{rho:?}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_value_that_is_no_number_makes_a_mask_of_none() {
    on_each_machine(|machine, random| {
        let nans = |mask: &[f32]| mask.iter().filter(|v| v.is_nan()).count();
        let mut case = Case::new(random, 3, 20);
        let order = Array::from_u32(machine, &case.order())?;
        case.importance[25] = f32::INFINITY;
        let made = case.made(machine, [0.5; 2], Rule::Union, Control::None, None)?;
        let found = made.mask.to_f32(machine)?;
        assert_eq!((nans(&found), nans(&found[20..40])), (20, 20));
        let counts = made.counts.to_u32(machine)?;
        assert!(counts[4..8] == [0; 4] && counts[0] >= 10, "{counts:?}");
        let made = case.made(machine, [0.5; 2], Rule::Union, Control::None, Some(&order))?;
        assert_eq!(nans(&made.mask.to_f32(machine)?), 60);
        case.importance[25] = 1.;
        case.variance[3] = f32::NAN;
        let made = case.made(machine, [0.5; 2], Rule::Union, Control::Inverted, None)?;
        assert_eq!(nans(&made.mask.to_f32(machine)?), 60);
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_each_machine(|machine, random| {
        let mut case = Case::new(random, 2, 6);
        let text = |found: Result<Mask>| found.err().map(|e| e.to_string()).unwrap_or_default();
        let short = Array::from_u32(machine, &[0; 3])?;
        let made = case.made(machine, [0.5, 1.5], Rule::Union, Control::None, None);
        assert_eq!(
            text(made),
            "non-discriminative mask: rho_importance: expected a value in [0, 1], found 1.5"
        );
        let random = Control::Random(&short);
        let made = case.made(machine, [0.5; 2], Rule::Union, random, None);
        assert_eq!(
            text(made),
            "non-discriminative mask: random order: expected 12 of U32, found 3 of U32"
        );
        let made = case.made(machine, [0.5; 2], Rule::Union, Control::None, Some(&short));
        assert_eq!(
            text(made),
            "non-discriminative mask: order of the rows: expected 2 of U32, found 3 of U32"
        );
        case.variance = vec![0.; 2049];
        let made = case.made(machine, [0.5; 2], Rule::Union, Control::None, None);
        assert_eq!(
            text(made),
            "non-discriminative mask: channels: expected 1 to 2048, found 2049"
        );
        Ok(())
    });
}
