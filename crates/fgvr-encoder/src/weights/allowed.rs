//! Names that a person gives, one by one or all below one.

/// Whole names, and beginnings: `layer4.*` stands for all that begin with `layer4.`.
pub(super) struct Allowed<'a>(Vec<&'a str>);

impl<'a> Allowed<'a> {
    pub(super) fn new(patterns: &'a [String]) -> Self {
        Self(patterns.iter().map(String::as_str).collect())
    }

    /// Whether a name is among them.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, name))
    }

    /// The first that none of `names` is meant by.
    pub(super) fn idle<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) -> Option<&'a str> {
        let mut patterns = self.0.iter().copied();
        patterns.find(|pattern| !names.clone().any(|name| matches(pattern, name)))
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) if start.ends_with('.') => name.starts_with(start),
        _ => name == pattern,
    }
}
