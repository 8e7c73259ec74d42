//! A queue of masked views' keys, as long as the base's own.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, bail};

use crate::step::state::{prefixed, under};
use crate::{KeyQueue, Pass, Renumber, Rows};

/// Under what it is saved.
const QUEUE: &str = "queue";

/// Keys of masked views: those of earlier steps in a queue, those of this step beside it until it is taken.
#[derive(Debug, Default)]
pub(super) struct MaskedKeys {
    /// None before the first step.
    queue: Option<KeyQueue>,
    /// The step of the keys that wait, and they with their images.
    waiting: (u64, Vec<(Rows, Vec<u32>)>),
}

impl MaskedKeys {
    /// The queue for `pass`, of the size of the base's own, `like`.
    pub(super) fn held(&mut self, like: &KeyQueue, pass: &Pass) -> Result<&KeyQueue> {
        let (capacity, width) = (like.capacity(), like.width());
        let mut queue = match self.queue.take() {
            None => KeyQueue::new(capacity, width)?,
            Some(queue) if queue.capacity() == capacity => queue,
            Some(queue) => {
                // The set, and with it the base's queue, is of another size than before.
                let state = queue.state()?.into_iter().collect();
                let state = KeyQueue::renumbered(&state, capacity, Some)?;
                let mut queue = KeyQueue::new(capacity, width)?;
                queue.load_state(&state.into_iter().collect())?;
                queue
            }
        };
        if let Some(device) = pass.device() {
            queue.place_on(device)?;
        }
        Ok(self.queue.insert(queue))
    }

    /// Keys of `step` that enter once it is taken.
    pub(super) fn wait(&mut self, step: u64, keys: Rows, images: &[u32]) {
        if self.waiting.0 != step {
            // They are left from a step that was dropped.
            self.waiting = (step, Vec::new());
        }
        self.waiting.1.push((keys, images.to_vec()));
    }

    /// The step has been taken.
    pub(super) fn enter(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting.1);
        if let Some(queue) = &mut self.queue {
            for (keys, images) in waiting {
                queue.push(&keys, &images, false)?;
            }
        }
        Ok(())
    }

    /// The queue under its name, once there is one.
    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        match &self.queue {
            Some(queue) => Ok(prefixed([(QUEUE, queue.state()?)])),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Takes over what [`MaskedKeys::state`] gave.
    pub(super) fn load(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let queue = match state.get(&format!("{QUEUE}.keys")) {
            Some(keys) => {
                let (capacity, width) = keys.dims2()?;
                let mut queue = KeyQueue::new(capacity, width)?;
                queue.load_state(&under(state, QUEUE))?;
                Some(queue)
            }
            None => None,
        };
        let own = match &queue {
            Some(queue) => prefixed([(QUEUE, queue.state()?)]),
            None => BTreeMap::new(),
        };
        if let Some(name) = state.keys().find(|name| !own.contains_key(*name)) {
            bail!("lodisc: {name}: no tensor of its queue");
        }
        *self = Self {
            queue,
            ..Self::default()
        };
        Ok(())
    }

    /// Brings a saved state into line with a set in which images have other numbers.
    pub(super) fn renumber(
        state: &mut HashMap<String, Tensor>,
        number: &Renumber<'_>,
    ) -> Result<Vec<String>> {
        let before = under(state, QUEUE);
        let Some(images) = before.get("images") else {
            return Ok(Vec::new());
        };
        let now = KeyQueue::renumbered(&before, images.elem_count(), number)?;
        let mut queue = KeyQueue::new(images.elem_count(), now["keys"].dim(1)?)?;
        queue.load_state(&now.clone().into_iter().collect())?;
        for (part, tensor) in now {
            state.insert(format!("{QUEUE}.{part}"), tensor);
        }
        Ok(vec![match queue.len() {
            0 => "lodisc.queue: begins empty".to_owned(),
            has => format!(
                "lodisc.queue: goes on with {has} keys, those of photos that are still trained on"
            ),
        }])
    }
}
