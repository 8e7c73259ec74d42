//! What is staged beside the launches arrives whole.

mod support;

use std::sync::mpsc::sync_channel;
use std::thread;

use fgvr_cuda::emulator::Emulator;
use fgvr_cuda::ops::layout;
use fgvr_cuda::{Array, DType, Machine, Result};
use support::{on_each_machine, on_each_shared_machine};

/// Values of what is staged, in turn: growing and shrinking, none, and more than one thread copies at a time.
const LENGTHS: &[usize] = &[7, 4096, 1, 0, 30_001, 12, 1_100_003, 65_536, 3];

/// Something to tell one from another by, and each value from the next.
fn values(turn: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| (turn * 31 + i % 1009) as f32).collect()
}

#[test]
fn what_is_received_is_what_another_thread_staged() {
    on_each_shared_machine(|machine, _| {
        let (sender, receiver) = sync_channel(1);
        thread::scope(|scope| -> Result<()> {
            scope.spawn(move || {
                for turn in 0..2 * LENGTHS.len() {
                    let mut of_turn = values(turn, LENGTHS[turn % LENGTHS.len()]);
                    let staged = Array::stage_f32(machine, &of_turn);
                    // Its own again at once.
                    of_turn.fill(f32::NAN);
                    if sender.send(staged).is_err() {
                        return;
                    }
                }
            });
            for (turn, staged) in receiver.iter().enumerate() {
                let len = LENGTHS[turn % LENGTHS.len()];
                let staged = staged?;
                assert_eq!(staged.bytes(), 4 * len);
                let array = Array::receive_f32(machine, staged)?;
                // Read by a kernel, by a copy, and freed while the next is staged.
                let same = layout::cast(machine, &array, DType::F32)?;
                layout::fill(machine, &array, -1.)?;
                assert!(same.to_f32(machine)? == values(turn, len), "turn {turn}");
                assert_eq!(array.to_f32(machine)?, vec![-1.; len]);
            }
            Ok(())
        })?;
        assert_eq!(machine.memory()?.held, 0);
        Ok(())
    });
}

#[test]
fn several_threads_may_stage_at_a_time() {
    on_each_shared_machine(|machine, _| {
        thread::scope(|scope| {
            let stage = |thread: usize| {
                move || -> Result<()> {
                    for turn in 0..20 {
                        let expected = values(thread + turn, 1000 * (turn % 3) + thread);
                        let staged = Array::stage_f32(machine, &expected)?;
                        let array = Array::receive_f32(machine, staged)?;
                        assert!(array.to_f32(machine)? == expected, "turn {turn}");
                    }
                    Ok(())
                }
            };
            let threads: Vec<_> = (0..4).map(|i| scope.spawn(stage(i))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
        })
    });
}

#[test]
fn what_is_staged_counts_as_held_and_goes_back_unreceived() {
    on_each_machine(|machine, _| {
        let before = machine.memory()?.held;
        for turn in 0..10 {
            let first = machine.stage(&[1; 1000])?;
            let second = machine.stage(&[2; 500])?;
            assert_eq!(machine.memory()?.held - before, 1500, "turn {turn}");
            drop(first);
            let received = machine.receive(second)?;
            assert_eq!(received.bytes(), 500);
            assert_eq!(machine.memory()?.held - before, 500);
            drop(received);
            assert_eq!(machine.memory()?.held, before);
        }
        Ok(())
    });
}

#[test]
fn what_is_staged_on_another_machine_is_refused() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (Ok(first), Ok(second)) = (Emulator::new(folder), Emulator::new(folder)) else {
        return support::skipped(&"no C++ compiler");
    };
    let error = |staged| {
        let refused: Result<_> = second.receive(staged);
        refused
            .map(drop)
            .expect_err("another machine's")
            .to_string()
    };
    let expected =
        "receive: staged bytes: expected bytes staged on this machine, found bytes of another";
    let staged = first.stage(&[0; 8]).expect("memory");
    assert_eq!(error(staged), expected);
    assert_eq!(error(fgvr_cuda::Staged::new(8, Box::new(()))), expected);
    assert_eq!(first.memory().expect("a count").held, 0);
}

#[test]
fn staging_more_than_memory_holds_says_how_much_is_free() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Ok(emulator) = Emulator::new(folder) else {
        return support::skipped(&"no C++ compiler");
    };
    let emulator = emulator.with_memory(1000);
    let held = emulator.stage(&[0; 600]).expect("memory");
    let error = emulator.stage(&[0; 600]).map(drop).expect_err("no memory");
    assert_eq!(
        error.to_string(),
        "out of GPU memory: 600 more bytes wanted, 400 of 1000 free"
    );
    drop(held);
    assert!(emulator.stage(&[0; 600]).is_ok());
}
