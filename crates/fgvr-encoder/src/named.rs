//! Names of variants, as files and command lines have them.

use crate::export::Format;
use crate::weights::Interpolation;
use crate::{Pooling, Positions, Stem};

/// The name that a settings file has for it.
#[cfg(feature = "serde")]
fn written(value: impl serde::Serialize) -> String {
    let text = serde_json::to_string(&value).unwrap();
    text.trim_matches('"').to_owned()
}

#[test]
#[cfg(feature = "serde")]
fn names_are_those_of_settings_files() {
    for stem in Stem::ALL {
        assert_eq!(written(stem), stem.name());
    }
    for pooling in Pooling::ALL {
        assert_eq!(written(pooling), pooling.name());
    }
    for positions in Positions::ALL {
        assert_eq!(written(positions), positions.name());
    }
    for interpolation in Interpolation::ALL {
        assert_eq!(written(interpolation), interpolation.to_string());
    }
}

#[test]
fn a_format_is_read_by_its_name_and_an_unknown_one_is_answered_with_both() {
    for format in Format::ALL {
        assert_eq!(format.name().parse::<Format>().unwrap(), format);
    }
    let error = "onnx".parse::<Format>().unwrap_err().to_string();
    assert!(
        error.contains(r#"format is "onnx", expected timm or transformers"#),
        "{error}"
    );
}
