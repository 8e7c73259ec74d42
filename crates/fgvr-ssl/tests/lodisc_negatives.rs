//! Which keys LoDisc's masked positives are told from on MoCo v2: whole images', or masked ones in a queue of its own.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::HashMap;

use candle_core::Tensor;
use fgvr_ssl::{
    Addon, AddonConfig, AddonParts, Base, BaseKind, KeyQueue, LoDisc, LoDiscConfig, LocalNegatives,
    MethodConfig, Negatives, Regions, RunLength, StepOutput, Trunk, info_nce, l2_normalise, masked,
    random_mask, step,
};
use fgvr_testkit::assert_close;
use toy::{WIDTH, batch, descend, input, settings};

const N: usize = 8;
const RUN: RunLength = RunLength {
    steps: 20,
    steps_per_epoch: 5,
};

/// What sets draws of regions apart from others.
const REGION: u64 = 0x6c6f_6469_7363;

fn choices(negatives: LocalNegatives) -> LoDiscConfig {
    LoDiscConfig {
        negatives,
        ..LoDiscConfig::default()
    }
}

fn lodisc(negatives: LocalNegatives) -> LoDisc {
    LoDisc::new(&choices(negatives), AddonParts::new(WIDTH, 2, RUN)).unwrap()
}

/// A base whose keys depend on no shuffle.
fn base(kind: BaseKind) -> Box<dyn Base> {
    let mut settings = settings();
    settings.moco.groups = 1;
    toy::base(kind, &settings, 1)
}

fn pass(base: &mut dyn Base, addon: &mut LoDisc, number: u64) -> StepOutput {
    let ([first, second], images) = batch(number, N);
    let input = input([&first, &second], &images, number);
    step(base, &mut [addon], input).unwrap()
}

/// A step at the rate 0.1, and its local loss.
fn take(base: &mut dyn Base, addon: &mut LoDisc, number: u64) -> f64 {
    let output = pass(base, addon, number);
    descend(&base.trainable(), &output.gradients, 0.1);
    base.after_step().unwrap();
    addon.after_step().unwrap();
    output.losses.get("loss_local").unwrap()
}

fn state(addon: &LoDisc) -> HashMap<String, Tensor> {
    addon.state().unwrap().into_iter().collect()
}

fn held(addon: &LoDisc) -> KeyQueue {
    let state = state(addon);
    let (capacity, width) = state["queue.keys"].dims2().unwrap();
    let mut queue = KeyQueue::new(capacity, width).unwrap();
    let own = |(name, tensor): (String, Tensor)| {
        let name = name.strip_prefix("queue.")?.to_owned();
        Some((name, tensor))
    };
    queue
        .load_state(&state.into_iter().filter_map(own).collect())
        .unwrap();
    queue
}

#[test]
fn the_loss_is_that_of_masked_keys_of_earlier_steps_written_out() {
    let mut base = base(BaseKind::MOCO_V2);
    let cfg = LoDiscConfig {
        regions: Regions::Random,
        ..choices(LocalNegatives::Masked)
    };
    let mut addon = LoDisc::new(&cfg, AddonParts::new(WIDTH, 2, RUN)).unwrap();
    let mut expected_keys = Vec::new();
    for number in 0..3 {
        let ([first, second], images) = batch(number, N);
        let mask = random_mask(&images, (4, 4), 0.3, [3, number, REGION + 1]);
        let local = masked(&second, &mask.unwrap()).unwrap();
        let negatives = expected_keys.clone();
        let output = pass(base.as_mut(), &mut addon, number);
        let found = output.losses.get("loss_local").unwrap();
        let mut again = self::base(BaseKind::MOCO_V2);
        again
            .load_state(&base.state().unwrap().into_iter().collect())
            .unwrap();
        let pass = again.real([&first, &second].into(), &images).unwrap();
        let empty = KeyQueue::new(20, 6).unwrap();
        let keys = again.against_held(&pass, [&first, &local], &images, &empty);
        let keys = keys.unwrap().keys.to_host().unwrap();
        let (held, of): (Vec<Tensor>, Vec<Vec<u32>>) = negatives.into_iter().unzip();
        let of = of.concat();
        let expected = match held.is_empty() {
            true => 0.,
            false => {
                let held = Tensor::cat(&held, 0).unwrap();
                let negatives = Negatives {
                    keys: &held,
                    images: &of,
                };
                let query = l2_normalise(&pass.query.to_host().unwrap()).unwrap();
                let found = info_nce(&query, &keys, &images, Some(negatives), 0.2).unwrap();
                f64::from(found.loss.to_scalar::<f32>().unwrap())
            }
        };
        assert!(
            (found - expected).abs() < 1e-5,
            "{number}: {found} {expected}"
        );
        descend(&base.trainable(), &output.gradients, 0.1);
        base.after_step().unwrap();
        addon.after_step().unwrap();
        let (kept, kept_of) = {
            let queue = self::held(&addon);
            let (kept, kept_of) = queue.keys().unwrap().unwrap();
            (kept, kept_of.to_vec())
        };
        assert_eq!(kept_of.len(), (N * (number as usize + 1)).min(20));
        // The third batch takes the places of the first keys.
        if number < 2 {
            let rows = kept.narrow(0, N * number as usize, N).unwrap();
            assert_eq!(kept_of[N * number as usize..], images);
            expected_keys.push((rows, images));
        }
    }
    assert_eq!(held(&addon).capacity(), 20);
    // The base's own queue holds whole images' keys all the same.
    let own = base.negatives().unwrap().keys().unwrap().unwrap().0;
    let ours = held(&addon).keys().unwrap().unwrap().0;
    assert_ne!(
        own.to_vec2::<f32>().unwrap(),
        ours.to_vec2::<f32>().unwrap()
    );
}

#[test]
fn a_loaded_queue_goes_on_bit_for_bit() {
    let (mut saved, mut addon) = (base(BaseKind::MOCO_V2), lodisc(LocalNegatives::Masked));
    assert!(state(&addon).is_empty());
    (0..2).for_each(|number| {
        take(saved.as_mut(), &mut addon, number);
    });
    let (of_base, of_addon) = (saved.state().unwrap(), state(&addon));
    let rest = [2, 3].map(|number| take(saved.as_mut(), &mut addon, number));
    let (mut loaded, mut again) = (base(BaseKind::MOCO_V2), lodisc(LocalNegatives::Masked));
    loaded.load_state(&of_base.into_iter().collect()).unwrap();
    again.load_state(&of_addon).unwrap();
    let same = [2, 3].map(|number| take(loaded.as_mut(), &mut again, number));
    assert_eq!(rest.map(f64::to_bits), same.map(f64::to_bits));
    for (name, tensor) in state(&addon) {
        assert_close(&name, &tensor, &state(&again)[&name], 0.);
    }
    // A queue of none is a state too, and what is not the queue's is refused.
    again.load_state(&HashMap::new()).unwrap();
    assert!(state(&again).is_empty());
    let mut other = of_addon;
    other.insert("queue.other".to_owned(), other["queue.keys"].clone());
    let error = again.load_state(&other).unwrap_err().to_string();
    assert!(error.contains("queue.other"), "{error}");
}

#[test]
fn a_dropped_step_leaves_no_key_and_accumulated_batches_all_theirs() {
    let (mut base, mut addon) = (base(BaseKind::MOCO_V2), lodisc(LocalNegatives::Masked));
    pass(base.as_mut(), &mut addon, 0);
    base.forget_step();
    pass(base.as_mut(), &mut addon, 1);
    let ([first, second], images) = batch(2, N);
    let again = input([&first, &second], &images, 1);
    step(base.as_mut(), &mut [&mut addon], again).unwrap();
    base.after_step().unwrap();
    addon.after_step().unwrap();
    let (_, of) = (batch(1, N).1, images);
    let queue = held(&addon);
    let found = queue.keys().unwrap().unwrap().1.to_vec();
    assert_eq!(found, [batch(1, N).1, of].concat());
}

#[test]
fn keys_go_with_their_images_and_the_queue_takes_the_length_of_the_bases() {
    let (mut base, mut addon) = (base(BaseKind::MOCO_V2), lodisc(LocalNegatives::Masked));
    (0..2).for_each(|number| {
        take(base.as_mut(), &mut addon, number);
    });
    let mut saved = state(&addon);
    // The first batch has the images 0 to 7, the second 7 to 14.
    let number = |image: u32| (image >= 7).then_some(image + 100);
    let said = choices(LocalNegatives::Masked)
        .renumber(&mut saved, &number)
        .unwrap();
    assert!(
        said[0].contains("lodisc.queue: goes on with 9 keys"),
        "{said:?}"
    );
    addon.load_state(&saved).unwrap();
    let queue = held(&addon);
    let of = queue.keys().unwrap().unwrap().1;
    assert_eq!(of, [107, 107, 108, 109, 110, 111, 112, 113, 114]);

    let mut settings = settings();
    settings.moco.queue = 8;
    let mut shorter = toy::base(BaseKind::MOCO_V2, &settings, 1);
    pass(shorter.as_mut(), &mut addon, 3);
    assert_eq!(held(&addon).capacity(), 8);
    let none = choices(LocalNegatives::Masked).renumber(&mut HashMap::new(), &number);
    assert!(none.unwrap().is_empty());
}

#[test]
fn whole_images_are_the_default_of_old_settings_and_masked_ones_of_new_runs() {
    assert_eq!(LoDiscConfig::default().negatives, LocalNegatives::Whole);
    let mut new = LoDiscConfig::default();
    new.default_for(Trunk::ResNet, &|_| false);
    assert_eq!(new.negatives, LocalNegatives::Masked);
    let mut chosen = LoDiscConfig::default();
    chosen.default_for(Trunk::ResNet, &|field| field == "negatives");
    assert_eq!(chosen.negatives, LocalNegatives::Whole);

    let of = |kind, negatives| {
        let (mut base, mut addon) = (base(kind), lodisc(negatives));
        let losses = [0, 1, 2].map(|number| take(base.as_mut(), &mut addon, number).to_bits());
        (losses, state(&addon).len())
    };
    // Without a queue of the base's there is no choice.
    for kind in [BaseKind::MOCO_V3, BaseKind::BYOL, BaseKind::SIMSIAM] {
        let (whole, masked) = (
            of(kind, LocalNegatives::Whole),
            of(kind, LocalNegatives::Masked),
        );
        assert_eq!(whole, masked, "{kind}");
        assert_eq!(whole.1, 0);
        assert!(base(kind).negatives().is_none());
    }
    let [whole, masked] =
        [LocalNegatives::Whole, LocalNegatives::Masked].map(|n| of(BaseKind::MOCO_V2, n));
    assert_ne!(whole.0[1..], masked.0[1..]);
    assert_eq!((whole.1, masked.1), (0, 3));
}
