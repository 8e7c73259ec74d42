//! The warning that judged images look like training images.

use fgvr_data::check::Leaks;
use fgvr_data::shown;

use crate::JudgedOn;

/// What a person should know where images that were loaded to be judged look like training images.
pub(crate) fn leak_warning(leaks: &Leaks, judged_on: JudgedOn) -> Option<String> {
    let leak = match judged_on {
        JudgedOn::Test => leaks.of_test(),
        JudgedOn::Validation => leaks.of_val(),
    }?;
    let verb = match leak.images {
        1 => "looks",
        _ => "look",
    };
    Some(format!(
        "warning: evaluation: {} of {} {} images {verb} like a training image (the first: {} and {}); figures \
         may flatter; `fgvr data check` shows them",
        leak.images,
        leak.of,
        judged_on.name(),
        shown(&leak.first),
        shown(&leak.like)
    ))
}

#[cfg(test)]
mod tests {
    use fgvr_data::check::watch;
    use fgvr_data::{DataConfig, open};

    use super::*;

    #[test]
    fn a_test_image_that_is_trained_on_is_told_once_it_was_loaded() {
        let mut splits = open("builtin:lookalikes", &DataConfig::default()).unwrap();
        splits.test = Some(splits.train.clone());
        let (watched, leaks) = watch(&splits);
        assert_eq!(leak_warning(&leaks, JudgedOn::Test), None);
        let test = watched.test.unwrap();
        for set in [&watched.train, &test] {
            set.load(3).unwrap();
        }
        let warning = leak_warning(&leaks, JudgedOn::Test).unwrap();
        let id = test.id(3);
        assert!(
            warning.contains("1 of 1 test images looks like a training image"),
            "{warning}"
        );
        assert!(
            warning.contains(&format!("(the first: {id} and {id})")),
            "{warning}"
        );
        assert_eq!(leak_warning(&leaks, JudgedOn::Validation), None);
    }
}
