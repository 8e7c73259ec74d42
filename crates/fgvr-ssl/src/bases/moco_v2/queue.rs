//! A ring of past keys and the images they came from.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, bail};
use fgvr_nn::cuda::Array;
use fgvr_nn::cuda::ops::finite::all_finite;
use fgvr_nn::cuda::ops::queue::Queue;

use crate::Rows;
use crate::losses::contrast::{DeviceHeld, Held};
use crate::step::state::{counters, take, words};
use crate::step::values::DeviceRows;

/// The last `capacity` keys, each with the index of its image.
///
/// The capacity need not be a multiple of the batch. A queue longer than half the set holds more than
/// one stale key for many images: the caller caps it.
pub struct KeyQueue {
    keys: Keys,
    /// The image of each slot.
    images: Vec<u32>,
    width: usize,
    /// Slot that the next key goes to.
    next: usize,
    /// Slots filled so far; they are always the first ones.
    filled: usize,
}

/// Where the keys are.
enum Keys {
    /// All slots (K, D).
    Host(Vec<f32>),
    Device(fgvr_nn::Device, Queue),
}

impl KeyQueue {
    /// An empty queue of `capacity` keys (D = `width`).
    ///
    /// # Errors
    /// A capacity or width of zero, or an image index space that u32 cannot hold.
    pub fn new(capacity: usize, width: usize) -> Result<Self> {
        if capacity == 0 || width == 0 || u32::try_from(capacity).is_err() {
            bail!("key queue: capacity {capacity} and width {width}, expected both in 1..2^32");
        }
        Ok(Self {
            keys: Keys::Host(vec![0.; capacity * width]),
            images: vec![0; capacity],
            width,
            next: 0,
            filled: 0,
        })
    }

    /// How many keys it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.images.len()
    }

    /// D, the width of a key.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many keys it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether it holds no key yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The keys (filled, D) and the image of each; `None` while empty.
    ///
    /// # Errors
    /// None in practice: candle checks the element count.
    pub fn keys(&self) -> Result<Option<(Tensor, &[u32])>> {
        if self.is_empty() {
            return Ok(None);
        }
        let keys = Tensor::from_vec(self.values()?, (self.filled, self.width), &Device::Cpu)?;
        Ok(Some((keys, &self.images[..self.filled])))
    }

    /// The keys in filled slots (filled, D).
    fn values(&self) -> Result<Vec<f32>> {
        match &self.keys {
            Keys::Host(keys) => Ok(keys[..self.filled * self.width].to_vec()),
            Keys::Device(device, queue) => {
                let keys = queue.keys().map_err(candle_core::Error::wrap)?;
                device.values(&keys)
            }
        }
    }

    /// From now on its keys are on `device`.
    ///
    /// # Errors
    /// What the device says.
    pub(crate) fn place_on(&mut self, device: &fgvr_nn::Device) -> Result<()> {
        if matches!(self.keys, Keys::Device(..)) {
            return Ok(());
        }
        let mut queue = device.run(|m| Queue::new(m, self.capacity(), self.width))?;
        let (keys, images) = (self.values()?, &self.images[..self.filled]);
        device.run(|m| {
            let (keys, images) = (Array::from_f32(m, &keys)?, Array::from_u32(m, images)?);
            queue.restore(m, &keys, &images, self.next)
        })?;
        self.keys = Keys::Device(device.clone(), queue);
        Ok(())
    }

    /// The keys as the negatives of queries that are on `device`, or on the host.
    ///
    /// # Errors
    /// Queries on a device of a queue on the host; what a device says.
    pub(crate) fn held(&self, device: Option<&fgvr_nn::Device>) -> Result<Held<'_>> {
        match (&self.keys, device) {
            (_, None) => self.keys().map(Held::Host),
            (Keys::Device(own, queue), Some(_)) => {
                let (keys, images) = own.run(|_| Ok((queue.keys()?, queue.images()?)))?;
                Ok(Held::Device(DeviceHeld {
                    keys,
                    images,
                    count: self.filled,
                }))
            }
            (Keys::Host(_), Some(device)) => {
                bail!("key queue: it is on the host, and its queries on {device:?}")
            }
        }
    }

    fn step(&mut self) {
        self.next = (self.next + 1) % self.capacity();
        self.filled = (self.filled + 1).min(self.capacity());
    }

    /// Puts `keys` (N, D) of `images` in, over the oldest ones once it is full. From a batch larger
    /// than the queue the last keys stay.
    ///
    /// # Errors
    /// Shapes that do not agree, and a key that is not finite, which would spoil every loss until it
    /// has left the queue; nothing is changed then.
    pub fn enqueue(&mut self, keys: &Tensor, images: &[u32]) -> Result<()> {
        self.push(&Rows::Host(keys.clone()), images, false)
    }

    /// [`KeyQueue::enqueue`] of keys in either place. A device is waited for to see whether they are finite, unless that
    /// is `known`.
    pub(crate) fn push(&mut self, keys: &Rows, images: &[u32], known: bool) -> Result<()> {
        let [n, d] = keys.shape()?;
        if d != self.width || images.len() != n {
            bail!(
                "key queue: keys are [{n}, {d}] with {} image indices, expected [N, {}] with N",
                images.len(),
                self.width
            );
        }
        match (&mut self.keys, keys) {
            (Keys::Device(device, queue), Rows::Device(DeviceRows { array, .. })) => {
                let finite = || device.run(|m| all_finite(m, &[array])?.to_u32(m));
                if !known && finite()? != [1] {
                    bail!("key queue: a key is not finite");
                }
                device.run(|m| queue.push(m, array, &Array::from_u32(m, images)?))?;
            }
            (Keys::Device(device, queue), Rows::Host(keys)) => {
                let keys = finite(keys, images)?;
                device.run(|m| {
                    let keys = Array::from_f32(m, &keys)?;
                    queue.push(m, &keys, &Array::from_u32(m, images)?)
                })?;
            }
            (Keys::Host(slots), keys) => {
                let (capacity, mut next) = (self.images.len(), self.next);
                for key in finite(&keys.to_host()?, images)?.chunks_exact(d) {
                    slots[next * d..][..d].copy_from_slice(key);
                    next = (next + 1) % capacity;
                }
            }
        }
        for image in images {
            self.images[self.next] = *image;
            self.step();
        }
        Ok(())
    }

    /// Everything it holds, as tensors: `keys` (K, D), `images` (K), `position` (2: next, filled).
    ///
    /// # Errors
    /// None in practice.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        // Slots that hold nothing are zero.
        let mut keys = self.values()?;
        keys.resize(self.capacity() * self.width, 0.);
        let keys = Tensor::from_vec(keys, (self.capacity(), self.width), &Device::Cpu)?;
        let images = Tensor::from_slice(&self.images, self.capacity(), &Device::Cpu)?;
        let position = words(&[self.next as u64, self.filled as u64])?;
        Ok(BTreeMap::from([
            ("keys".to_owned(), keys),
            ("images".to_owned(), images),
            ("position".to_owned(), position),
        ]))
    }

    /// What [`KeyQueue::state`] gave, for a queue of `capacity` keys over a set in which images have other numbers:
    /// `number` gives that of an image, or `None` for one that is gone, whose keys go with it. Where more are left than
    /// fit, the newest stay.
    ///
    /// # Errors
    /// A missing tensor, shapes that do not agree, or a position outside the queue.
    pub fn renumbered(
        state: &HashMap<String, Tensor>,
        capacity: usize,
        number: impl Fn(u32) -> Option<u32>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let (k, d) = match state.get("keys") {
            Some(keys) => keys.dims2()?,
            None => bail!("key queue: keys are missing"),
        };
        let mut old = Self::new(k, d)?;
        old.load_state(state)?;
        let oldest = if old.filled < k { 0 } else { old.next };
        let kept = (0..old.filled)
            .map(|age| (oldest + age) % k)
            .filter_map(|slot| Some((slot, number(old.images[slot])?)));
        let kept: Vec<(usize, u32)> = kept.collect();
        let kept = &kept[kept.len().saturating_sub(capacity)..];
        let (values, mut new) = (old.values()?, Self::new(capacity, d)?);
        let keys: Vec<f32> = (kept.iter())
            .flat_map(|(slot, _)| values[slot * d..][..d].iter().copied())
            .collect();
        let images: Vec<u32> = kept.iter().map(|(_, image)| *image).collect();
        new.enqueue(
            &Tensor::from_vec(keys, (images.len(), d), &Device::Cpu)?,
            &images,
        )?;
        new.state()
    }

    /// Takes over what [`KeyQueue::state`] gave.
    ///
    /// # Errors
    /// A missing tensor, another capacity or width, or a position outside the queue; nothing is
    /// changed then.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let (k, d) = (self.capacity(), self.width);
        let keys = take(state, "keys", &[k, d])?.to_dtype(DType::F32)?;
        let images = take(state, "images", &[k])?.to_dtype(DType::U32)?;
        let position = counters(take(state, "position", &[2])?)?;
        let (next, filled) = (position[0] as usize, position[1] as usize);
        // Until it is full, the next slot is the one after the filled ones.
        if next >= k || filled > k || (filled < k && next != filled) {
            bail!("key queue: position ({next}, {filled}) does not fit a queue of {k}");
        }
        let keys = Keys::Host(keys.flatten_all()?.to_vec1()?);
        let before = std::mem::replace(&mut self.keys, keys);
        self.images = images.to_vec1()?;
        (self.next, self.filled) = (next, filled);
        match before {
            Keys::Host(_) => Ok(()),
            Keys::Device(device, _) => self.place_on(&device),
        }
    }
}

impl std::fmt::Debug for KeyQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match &self.keys {
            Keys::Host(_) => "the CPU".to_owned(),
            Keys::Device(device, _) => format!("{device:?}"),
        };
        write!(
            f,
            "KeyQueue({} of {} keys of {} on {place})",
            self.filled,
            self.capacity(),
            self.width
        )
    }
}

/// The values of `keys` (N, D) of `images`, or which is not finite.
fn finite(keys: &Tensor, images: &[u32]) -> Result<Vec<f32>> {
    let d = keys.dim(1)?;
    let keys = keys.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    let keys = keys.flatten_all()?.to_vec1::<f32>()?;
    match keys.iter().position(|v| !v.is_finite()) {
        Some(at) => bail!(
            "key queue: the key of image {} is not finite",
            images[at / d]
        ),
        None => Ok(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(first: f32, n: usize) -> Tensor {
        let values: Vec<f32> = (0..n * 2).map(|v| first + (v / 2) as f32).collect();
        Tensor::from_vec(values, (n, 2), &Device::Cpu).unwrap()
    }

    fn contents(queue: &KeyQueue) -> Vec<(f32, u32)> {
        let (keys, images) = queue.keys().unwrap().unwrap();
        let keys = keys.to_vec2::<f32>().unwrap();
        keys.iter()
            .map(|key| key[0])
            .zip(images.iter().copied())
            .collect()
    }

    #[test]
    fn an_empty_queue_gives_no_keys_and_a_partly_filled_one_only_its_own() {
        let mut queue = KeyQueue::new(5, 2).unwrap();
        assert!(queue.keys().unwrap().is_none());
        queue.enqueue(&keys(1., 3), &[7, 8, 9]).unwrap();
        assert_eq!(contents(&queue), [(1., 7), (2., 8), (3., 9)]);
    }

    #[test]
    fn the_ring_wraps_over_the_oldest() {
        let mut queue = KeyQueue::new(5, 2).unwrap();
        queue.enqueue(&keys(1., 3), &[1, 2, 3]).unwrap();
        queue.enqueue(&keys(4., 3), &[4, 5, 6]).unwrap();
        assert_eq!(
            contents(&queue),
            [(6., 6), (2., 2), (3., 3), (4., 4), (5., 5)]
        );
        queue.enqueue(&keys(7., 6), &[7, 8, 9, 10, 11, 12]).unwrap();
        assert_eq!(
            contents(&queue),
            [(11., 11), (12., 12), (8., 8), (9., 9), (10., 10)]
        );
    }

    #[test]
    fn a_loaded_state_goes_on_as_the_saved_queue_does() {
        let mut saved = KeyQueue::new(4, 2).unwrap();
        saved.enqueue(&keys(1., 3), &[1, 2, 3]).unwrap();
        let state: HashMap<_, _> = saved.state().unwrap().into_iter().collect();
        let mut loaded = KeyQueue::new(4, 2).unwrap();
        loaded.load_state(&state).unwrap();
        for queue in [&mut saved, &mut loaded] {
            queue.enqueue(&keys(4., 2), &[4, 5]).unwrap();
        }
        assert_eq!(contents(&saved), contents(&loaded));
    }

    #[test]
    fn keys_stay_with_images_that_have_other_numbers_and_the_newest_fit() {
        let mut queue = KeyQueue::new(4, 2).unwrap();
        queue.enqueue(&keys(1., 6), &[1, 2, 3, 4, 5, 6]).unwrap();
        let state: HashMap<_, _> = queue.state().unwrap().into_iter().collect();
        // 4 is gone, and so is its key; the others move up by ten.
        let moved = |image: u32| (image != 4).then_some(image + 10);
        for (capacity, expected) in [
            (5, vec![(3., 13), (5., 15), (6., 16)]),
            (2, vec![(5., 15), (6., 16)]),
        ] {
            let state = KeyQueue::renumbered(&state, capacity, moved).unwrap();
            let mut loaded = KeyQueue::new(capacity, 2).unwrap();
            loaded.load_state(&state.into_iter().collect()).unwrap();
            assert_eq!(contents(&loaded), expected);
        }
        let empty = KeyQueue::renumbered(&state, 3, |_| None).unwrap();
        let mut loaded = KeyQueue::new(3, 2).unwrap();
        loaded.load_state(&empty.into_iter().collect()).unwrap();
        assert!(loaded.is_empty());
    }

    #[test]
    fn a_state_of_another_size_is_refused_and_changes_nothing() {
        let mut small = KeyQueue::new(3, 2).unwrap();
        small.enqueue(&keys(1., 1), &[1]).unwrap();
        let state: HashMap<_, _> = KeyQueue::new(4, 2)
            .unwrap()
            .state()
            .unwrap()
            .into_iter()
            .collect();
        let error = small.load_state(&state).unwrap_err().to_string();
        assert!(error.contains("keys"), "{error}");
        assert_eq!(contents(&small), [(1., 1)]);
        let mut state: HashMap<_, _> = small.state().unwrap().into_iter().collect();
        state.insert("position".to_owned(), words(&[2, 1]).unwrap());
        let error = small.load_state(&state).unwrap_err().to_string();
        assert!(error.contains("position (2, 1)"), "{error}");
    }

    #[test]
    fn keys_of_another_width_are_refused() {
        let mut queue = KeyQueue::new(3, 4).unwrap();
        let error = queue
            .enqueue(&keys(1., 2), &[1, 2])
            .unwrap_err()
            .to_string();
        assert!(error.contains("[2, 2]"), "{error}");
        assert!(KeyQueue::new(0, 4).is_err());
    }

    #[test]
    fn a_key_that_is_not_finite_is_refused_and_changes_nothing() {
        let mut queue = KeyQueue::new(3, 2).unwrap();
        queue.enqueue(&keys(1., 1), &[1]).unwrap();
        let broken = Tensor::new(&[[2f32, 2.], [3., f32::NAN]], &Device::Cpu).unwrap();
        let error = queue.enqueue(&broken, &[2, 3]).unwrap_err().to_string();
        assert!(error.contains("image 3"), "{error}");
        assert_eq!(contents(&queue), [(1., 1)]);
    }
}
