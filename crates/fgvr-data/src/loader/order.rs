//! The order of images in an epoch.

use crate::keyed::{Stream, generator, shuffle};

/// How many batches `images` make.
pub(super) fn batches_per_epoch(images: usize, batch: usize, drop_last: bool) -> u64 {
    let batches = if drop_last {
        images / batch
    } else {
        images.div_ceil(batch)
    };
    batches as u64
}

/// The images of an epoch in the order drawn for it.
pub(super) fn epoch_order(images: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..images).collect();
    shuffle(
        &mut generator([seed, epoch, 0, 0], Stream::Shuffle),
        &mut order,
    );
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_has_an_order_of_its_own() {
        let order = |seed, epoch| epoch_order(50, seed, epoch);
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }

    #[test]
    fn the_last_batch_is_dropped_or_smaller() {
        assert_eq!(
            [
                batches_per_epoch(10, 4, true),
                batches_per_epoch(10, 4, false)
            ],
            [2, 3]
        );
        assert_eq!(
            [
                batches_per_epoch(3, 4, true),
                batches_per_epoch(0, 4, false)
            ],
            [0, 0]
        );
    }
}
