//! How a command that failed says so.

use std::io;

/// What a person can mend: settings, paths, data, a checkpoint, what the system refuses.
pub(crate) const BAD_INPUT: u8 = 2;
/// Anything else: an operation that failed, an alarm that ended a run.
const FAILED: u8 = 1;

/// The error and its causes on one line, none of them twice: some libraries put a cause into their
/// own text and name it as the cause as well.
pub(crate) fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = words.join(" ");
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line
}

/// The exit code for `error`.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    let mendable = match error.downcast_ref::<fgvr_train::Error>() {
        Some(error) => error.is_bad_input(),
        None => error.chain().any(|cause| cause.is::<io::Error>()),
    };
    if mendable { BAD_INPUT } else { FAILED }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use anyhow::Context as _;

    use super::*;

    /// Says its cause and names it too.
    #[derive(Debug)]
    struct Wordy(io::Error);

    impl fmt::Display for Wordy {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a.csv:\n  {}", self.0)
        }
    }

    impl std::error::Error for Wordy {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_cause_is_said_once_on_one_line() {
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let said = refused.to_string();
        let error = Err::<(), _>(Wordy(refused)).context("nothing is written");
        let error = error.unwrap_err();
        assert_eq!(line(&error), format!("nothing is written: a.csv: {said}"));
        assert_eq!(code(&error), BAD_INPUT);
        assert_eq!(code(&anyhow::anyhow!("a bug")), FAILED);
    }
    #[test]
    fn no_error_of_any_crate_names_a_cause_that_it_says() {
        let file = || std::path::PathBuf::from("a.csv");
        let source = || io::Error::from(io::ErrorKind::PermissionDenied);
        let io = |error: fgvr_train::Error| anyhow::Error::from(error);
        let (encoder, hub) = (
            fgvr_encoder::Error::Io {
                file: file(),
                source: source(),
            },
            fgvr_encoder::hub::HubError::Io {
                path: file(),
                source: source(),
            },
        );
        let tensor = candle_core::Error::Io(source());
        let errors = [
            io(fgvr_train::Error::Io {
                path: file(),
                source: source(),
            }),
            io(fgvr_data::Error::Io {
                path: file(),
                source: source(),
            }
            .into()),
            io(encoder.into()),
            io(fgvr_encoder::Error::from(hub).into()),
            io(fgvr_report::record::RecordError::Io {
                path: file(),
                source: source(),
            }
            .into()),
            io(fgvr_report::ReportError::Io {
                path: file(),
                source: source(),
            }
            .into()),
            io(fgvr_report::ReportError::from(candle_core::Error::Io(source())).into()),
            io(tensor.into()),
        ];
        for error in errors {
            let said = source().to_string();
            assert_eq!(format!("{error:#}").matches(&said).count(), 1, "{error:#}");
            assert_eq!(line(&error), format!("{error:#}"));
        }
    }
}
