//! Every layer on the emulator and on the CPU: the same values, gradients and running statistics.

mod convolutional;
mod frozen;
mod living;
mod staged;
mod support;
#[path = "../shared/trained.rs"]
mod trained;
mod transformer;

use fgvr_nn::Tape;
use fgvr_testkit::normal;

#[test]
fn the_values_of_a_map_on_a_device_are_not_at_hand() {
    for (device, _) in support::devices() {
        let mut tape = Tape::inference().on(Some(&device));
        let x = tape.input(&normal(1, (2, 3, 4, 4)), false).unwrap();
        let error = x.data().unwrap_err().to_string();
        assert!(error.contains("on the CPU alone"), "{error}");
        assert_eq!(x.to_tensor().unwrap().dims(), [2, 3, 4, 4]);
    }
}
