//! MoCo v2 where its networks live on a device.

use candle_core::{Result, bail};
use fgvr_nn::cuda::Array;
use fgvr_nn::cuda::ops::Rows;
use fgvr_nn::cuda::ops::gather::gather_rows;
use fgvr_nn::cuda::ops::unit_rows::unit_rows;
use fgvr_nn::{Device, Encoder, Map, NormMode, ParameterGradients, Tape};

use super::{Keys, MoCoV2};
use crate::head::SHORTEST;
use crate::on_device::{BaseOnDevice, BranchOnDevice, Held, PassOnDevice, contrast, vectors};
use crate::{RunningStatistics, Shuffle};

impl<E: Encoder> MoCoV2<E> {
    /// Where the networks live, if both do and on one device.
    pub(super) fn place(&self) -> Option<Device> {
        let (online, key) = (
            self.online.parameters.device()?,
            self.key.parameters.device()?,
        );
        let runs_there = self.online.encoder.device()?.is(&online);
        (online.is(&key) && runs_there).then_some(online)
    }

    /// Takes heads and queues to where the networks live.
    fn settle(&mut self) -> Result<Device> {
        let Some(device) = self.place() else {
            bail!("moco: the networks are on the CPU, expected them on a device");
        };
        for head in [&self.head_parameters, &self.key_head_parameters] {
            if head.device().is_none() {
                head.live_on(&device)?;
            }
        }
        self.queue.live_on(&device)?;
        self.pair_queue.live_on(&device)?;
        Ok(device)
    }

    /// Rows of `map` in another order.
    fn reordered(device: &Device, map: &Map, order: &[u32]) -> Result<Map> {
        let [n, h, w, c] = map.shape();
        let (array, rows) = (map.array()?, Rows::new(n, h * w * c));
        let rows = device.run(|m| gather_rows(m, array, &Array::from_u32(m, order)?, rows))?;
        Map::new(device, map.shape(), rows)
    }

    /// As [`MoCoV2::keys`]: pooled features and keys (N, D) of length one.
    fn keys_there(&self, device: &Device, images: &Map, which: Keys) -> Result<(Map, Array)> {
        let n = images.shape()[0];
        let norm = NormMode::Split {
            groups: self.groups(n),
            update: matches!(which, Keys::Real)
                && self.cfg.running_statistics == RunningStatistics::Own,
        };
        let shuffle = Shuffle::new(n, [self.cfg.seed, self.step, which as u64, 0])?;
        let shuffled = Self::reordered(device, images, shuffle.order())?;
        let mut tape = Tape::inference().on(Some(device));
        let images = tape.constant(&shuffled)?;
        let features = self.key.encoder.apply(&mut tape, &images, norm)?;
        let pooled = Self::reordered(device, &features.pooled, &shuffle.inverse())?;
        let mut tape = Tape::inference().on(Some(device));
        let h = tape.constant(&pooled)?;
        let z = self.key_head.apply(&mut tape, &h)?;
        let [n, d] = vectors(&z)?;
        let z = z.array()?;
        let keys = device.run(|m| unit_rows(m, z, Rows::new(n, d), SHORTEST))?;
        Ok((pooled, keys.rows))
    }

    fn pass_there(
        &mut self,
        [first, second]: [&Map; 2],
        (images, which): (&[u32], Keys),
        weight: f64,
        gradients: &mut ParameterGradients,
    ) -> Result<PassOnDevice> {
        let device = self.settle()?;
        let norm = match which {
            Keys::Real => NormMode::Train,
            Keys::Generated | Keys::Other => NormMode::NoUpdate,
        };
        let mut tape = Tape::recording().on(Some(&device));
        let seen = tape.constant(first)?;
        let features = self.online.encoder.apply(&mut tape, &seen, norm)?;
        let mut of_head = Tape::recording().on(Some(&device));
        let h = of_head.enter(&features.pooled)?;
        let z = self.head.apply(&mut of_head, &h)?;
        let (key_pooled, keys) = self.keys_there(&device, second, which)?;
        let queue = match which {
            Keys::Generated => &self.pair_queue,
            Keys::Real | Keys::Other => &self.queue,
        };
        let there = device.run(|m| Array::from_u32(m, images))?;
        let queue = queue.there()?;
        let (held, of) = device.run(|_| Ok((queue.keys()?, queue.images()?)))?;
        let held = Held {
            keys: &held,
            images: &of,
            count: queue.len(),
        };
        let temperature = self.cfg.temperature;
        let (found, at_z) = contrast(&device, &z, &keys, &there, held, temperature, weight)?;
        let Some(at_pooled) = of_head.backward_from(&[(&z, &at_z)], gradients)? else {
            bail!("moco: the head's tape returned no gradient at the features");
        };
        Ok(PassOnDevice {
            first: BranchOnDevice {
                tape,
                features,
                at_pooled,
            },
            second: None,
            found,
            key_pooled,
        })
    }
}

impl<E: Encoder + Send> BaseOnDevice for MoCoV2<E> {
    fn device(&self) -> Result<Device> {
        match self.place() {
            Some(device) => Ok(device),
            None => bail!("moco: the networks are on the CPU, expected them on a device"),
        }
    }

    fn real_there(
        &mut self,
        views: [&Map; 2],
        images: &[u32],
        gradients: &mut ParameterGradients,
    ) -> Result<PassOnDevice> {
        self.enough("queue", &self.queue, images)?;
        let pass = self.pass_there(views, (images, Keys::Real), 1., gradients)?;
        self.pending_there
            .push((pass.found.keys.clone(), images.to_vec()));
        Ok(pass)
    }

    fn generated_there(
        &mut self,
        pair: [&Map; 2],
        weight: f64,
        images: &[u32],
        gradients: &mut ParameterGradients,
    ) -> Result<PassOnDevice> {
        self.enough("pair_queue", &self.pair_queue, images)?;
        let pass = self.pass_there(pair, (images, Keys::Generated), weight, gradients)?;
        self.pending_pair_there
            .push((pass.found.keys.clone(), images.to_vec()));
        Ok(pass)
    }
}
