//! How long the measurement may be.

use super::case::Group;

/// Seconds of a repetition from which one is enough to warm up.
const LONG: f64 = 1.5;
/// Repetitions on a device after the first that do not count.
const SETTLE: usize = 4;
/// Repetitions in one turn, at most.
const MOST: usize = 200;

/// How often everything is repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Turns of each side.
    pub(super) rounds: usize,
    /// One repetition a turn.
    pub(super) quick: bool,
    /// Not on the CPU: its first repetitions compile, and look for algorithms.
    pub(super) device: bool,
}

impl Effort {
    /// How many more repetitions should go uncounted after the first, which took `seconds`.
    pub(super) fn warms_up_more(self, seconds: f64) -> usize {
        match self {
            Self { quick: true, .. } => 0,
            Self { device: true, .. } => SETTLE,
            _ => usize::from(seconds < LONG),
        }
    }

    /// Repetitions in a turn, where one takes `seconds`: some two seconds of work for a step, a
    /// tenth of one for a convolution, of which there are many.
    pub(super) fn repetitions(self, group: Group, seconds: f64) -> usize {
        let turn = if group == Group::Micro { 0.1 } else { 2. };
        if self.quick {
            return 1;
        }
        ((turn / seconds).ceil() as usize).clamp(1, MOST)
    }

    /// Units of progress that a case takes with so many modes of PyTorch.
    pub(super) fn units(self, group: Group, modes: usize) -> usize {
        let sides = 1 + modes;
        let turns = match group {
            Group::Memory | Group::Gradients => 1,
            _ => 1 + self.rounds,
        };
        sides * turns * unit(group)
    }
}

/// What a turn counts for: about a tenth of a second.
pub(super) fn unit(group: Group) -> usize {
    match group {
        Group::Train | Group::Embed | Group::Judge => 25,
        Group::Memory => 75,
        Group::Gradients => 100,
        Group::Micro => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_repetitions_are_many_in_a_turn_and_long_ones_few() {
        let effort = Effort {
            rounds: 7,
            quick: false,
            device: false,
        };
        assert_eq!(effort.warms_up_more(0.3), 1);
        assert_eq!(effort.warms_up_more(3.), 0);
        assert_eq!(effort.repetitions(Group::Train, 0.3), 7);
        assert_eq!(effort.repetitions(Group::Train, 3.), 1);
        assert_eq!(effort.repetitions(Group::Micro, 1e-9), MOST);
        assert_eq!(effort.units(Group::Train, 4), 5 * 8 * 25);
        assert_eq!(effort.units(Group::Memory, 0), 75);
        let quick = Effort {
            rounds: 1,
            quick: true,
            device: true,
        };
        assert_eq!(quick.repetitions(Group::Micro, 1e-9), 1);
        assert_eq!(quick.warms_up_more(0.3), 0);
        let device = Effort {
            quick: false,
            ..quick
        };
        assert_eq!(device.warms_up_more(100.), SETTLE);
    }
}
