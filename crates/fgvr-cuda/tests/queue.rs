//! The key queue's slots against a ring of the same pushes.

mod support;

use fgvr_cuda::ops::queue::Queue;
use fgvr_cuda::{Array, Machine, Result};
use support::{Random, on_each_machine};

type Keys = Vec<(Vec<f32>, u32)>;

fn keys(random: &mut Random, count: usize, width: usize) -> Keys {
    let images = random.indices(count, 1000);
    let key = |image| (random.normals(width, 0., 1.), image);
    images.into_iter().map(key).collect()
}

fn arrays(machine: &dyn Machine, keys: &Keys) -> Result<[Array; 2]> {
    let values: Vec<f32> = keys.iter().flat_map(|(key, _)| key.clone()).collect();
    let images: Vec<u32> = keys.iter().map(|(_, image)| *image).collect();
    Ok([
        Array::from_f32(machine, &values)?,
        Array::from_u32(machine, &images)?,
    ])
}

fn compare(machine: &dyn Machine, queue: &Queue, slots: &Keys, next: usize) -> Result<()> {
    assert_eq!((queue.len(), queue.position()), (slots.len(), next));
    let values: Vec<f32> = slots.iter().flat_map(|(key, _)| key.clone()).collect();
    let images: Vec<u32> = slots.iter().map(|(_, image)| *image).collect();
    assert_eq!(queue.keys()?.to_f32(machine)?, values);
    assert_eq!(queue.images()?.to_u32(machine)?, images);
    Ok(())
}

/// The slots after a push, and the next one.
fn push(slots: &mut Keys, next: &mut usize, capacity: usize, keys: &Keys) {
    for key in keys {
        match slots.get_mut(*next) {
            Some(slot) => slot.clone_from(key),
            None => slots.push(key.clone()),
        }
        *next = (*next + 1) % capacity;
    }
}

#[test]
fn the_last_keys_stay_with_their_images() {
    on_each_machine(|machine, random| {
        // (capacity, width, keys of each push): not yet full, around the end, more than all at once.
        let cases: &[(usize, usize, &[usize])] = &[
            (40, 5, &[7, 0]),
            (10, 128, &[4, 4, 4]),
            (7, 8, &[3, 20, 1]),
            (12, 3, &[12, 12]),
            (1, 1, &[1, 1]),
            (70, 132, &[50, 33]),
        ];
        for (capacity, width, pushes) in cases {
            let mut queue = Queue::new(machine, *capacity, *width)?;
            assert!(queue.is_empty() && queue.capacity() == *capacity);
            let (mut slots, mut next) = (Vec::new(), 0);
            for count in *pushes {
                let keys = keys(random, *count, *width);
                let [values, images] = arrays(machine, &keys)?;
                queue.push(machine, &values, &images)?;
                push(&mut slots, &mut next, *capacity, &keys);
                compare(machine, &queue, &slots, next)?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_restored_queue_goes_on_as_before() {
    on_each_machine(|machine, random| {
        for counts in [[4, 3], [8, 3]] {
            let pushes = counts.map(|count| keys(random, count, 5));
            let mut queue = Queue::new(machine, 6, 5)?;
            let [values, images] = arrays(machine, &pushes[0])?;
            queue.push(machine, &values, &images)?;
            let mut other = Queue::new(machine, 6, 5)?;
            other.restore(machine, &queue.keys()?, &queue.images()?, queue.position())?;
            let (mut slots, mut next) = (Vec::new(), 0);
            push(&mut slots, &mut next, 6, &pushes[0]);
            push(&mut slots, &mut next, 6, &pushes[1]);
            let [values, images] = arrays(machine, &pushes[1])?;
            for queue in [&mut queue, &mut other] {
                queue.push(machine, &values, &images)?;
                compare(machine, queue, &slots, next)?;
            }
        }
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_each_machine(|machine, random| {
        let text = |found: Result<()>| found.err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(
            text(Queue::new(machine, 0, 3).map(|_| ())),
            "key queue: capacity and width: expected both above 0, found 0 and 3"
        );
        let mut queue = Queue::new(machine, 2, 3)?;
        let [one, image] = arrays(machine, &keys(random, 1, 3))?;
        let [three, images] = arrays(machine, &keys(random, 3, 3))?;
        assert_eq!(
            text(queue.push(machine, &three, &image)),
            "key queue: keys: expected 3 of F32, found 9 of F32"
        );
        assert_eq!(
            text(queue.restore(machine, &three, &images, 0)),
            "key queue: images: expected at most 2, found 3"
        );
        queue.push(machine, &one, &image)?;
        assert_eq!(
            text(queue.restore(machine, &one, &image, 0)),
            "key queue: position: expected one that fits 1 of 2 keys, found 0"
        );
        assert_eq!((queue.len(), queue.position()), (1, 1));
        Ok(())
    });
}
