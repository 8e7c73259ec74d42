//! Ranges in braces, as WebDataset writes sets of shards: `train-{000000..000146}.tar`.

use crate::Error;

/// The most shards that a name may stand for.
const MOST: u64 = 1_000_000;

/// The names that `spec` stands for, in order; `None` where it has no range in it.
///
/// # Errors
/// [`Error::Setting`] for a range that is none, counts down, or stands for too many.
pub(super) fn expanded(spec: &str) -> Result<Option<Vec<String>>, Error> {
    let mut names = vec![String::new()];
    let (mut rest, mut found) = (spec, false);
    while let Some((before, (inner, after))) = rest
        .split_once('{')
        .and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        let Some((first, last)) = inner.split_once("..") else {
            break;
        };
        found = true;
        let wrong = |expected: &str| Error::Setting {
            setting: "the range of shards",
            found: format!("{{{inner}}}"),
            expected: expected.to_owned(),
        };
        let number = |text: &str| -> Option<u64> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        let (Some(from), Some(to)) = (number(first), number(last)) else {
            return Err(wrong("two numbers, such as {000000..000009}"));
        };
        if from > to {
            return Err(wrong("a range that counts up"));
        }
        let count = (to - from).saturating_add(1);
        if count.saturating_mul(names.len() as u64) > MOST {
            return Err(wrong("at most 1,000,000 shards"));
        }
        // As in a shell: as many digits as the longer end, where an end has zeros in front.
        let padded = [first, last]
            .iter()
            .any(|end| end.len() > 1 && end.starts_with('0'));
        let width = if padded {
            first.len().max(last.len())
        } else {
            0
        };
        names = names
            .iter()
            .flat_map(|name| (from..=to).map(move |n| format!("{name}{before}{n:0width$}")))
            .collect();
        rest = after;
    }
    names.iter_mut().for_each(|name| name.push_str(rest));
    Ok(found.then_some(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_a_shell() {
        let names = |spec| expanded(spec).unwrap();
        assert_eq!(
            names("a/train-{008..010}.tar").unwrap(),
            ["a/train-008.tar", "a/train-009.tar", "a/train-010.tar"]
        );
        assert_eq!(
            names("{1..2}-{9..10}.tar").unwrap().join(" "),
            "1-9.tar 1-10.tar 2-9.tar 2-10.tar"
        );
        assert_eq!(names("a.tar"), None);
        assert_eq!(names("{a}.tar"), None);
        for wrong in [
            "{a..b}.tar",
            "{3..1}.tar",
            "{..}.tar",
            "{-1..2}.tar",
            "{0..99999999}.tar",
            "{0..18446744073709551615}.tar",
            "{0..9999}{0..9999}.tar",
            "{0..99999999999999999999}.tar",
        ] {
            assert!(
                matches!(expanded(wrong), Err(Error::Setting { .. })),
                "{wrong}"
            );
        }
    }
}
