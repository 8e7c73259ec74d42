//! Names of variants, as files and command lines have them.

use crate::adapt::Answer;
use crate::{JudgedOn, OptimizerKind, Which};

#[test]
fn all_variants_stand_in_their_order_and_are_shown_by_their_names() {
    assert_eq!(Which::ALL, [Which::Last, Which::BestVal]);
    assert_eq!(
        Answer::ALL.map(|a| a.to_string()),
        ["open", "shut", "cannot tell"]
    );
    assert_eq!(format!("{:>6}", OptimizerKind::Sgd), "   sgd");
}

#[test]
fn names_are_those_of_files() {
    for kind in OptimizerKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
    for split in JudgedOn::ALL {
        assert_eq!(serde_json::to_value(split).unwrap(), split.name());
    }
}
