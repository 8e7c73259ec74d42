//! A loader that another thread stops.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::*;

/// Images that are read when they are let.
struct Gated {
    images: Colours,
    /// One is taken by each image.
    leave: Mutex<Receiver<()>>,
}

impl Dataset for Gated {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn load(&self, index: usize) -> Result<Image, Error> {
        self.leave.lock().unwrap().recv().unwrap();
        self.images.load(index)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.images.label(index)
    }

    fn id(&self, index: usize) -> String {
        self.images.id(index)
    }

    fn classes(&self) -> &[String] {
        self.images.classes()
    }
}

#[test]
fn a_loader_stopped_from_elsewhere_gives_the_batch_in_the_making_up() {
    let (give, leave) = channel();
    let gated = Gated {
        images: Colours::of(100),
        leave: Mutex::new(leave),
    };
    let start = Position::default();
    let mut loader = Loader::new(Arc::new(gated), config(50), telling(), start).unwrap();
    let stopper = loader.stopper();
    assert!(!stopper.is_stopped());
    stopper.stop();
    // For those that two threads may have begun; for the whole batch it would not do. Nobody takes them where the
    // loader was stopped before it began.
    (0..2).for_each(|_| give.send(()).unwrap_or_default());
    let error = loader.next().unwrap_err().to_string();
    assert!(error.contains("stopped"), "{error}");
    assert!(stopper.is_stopped());
}
