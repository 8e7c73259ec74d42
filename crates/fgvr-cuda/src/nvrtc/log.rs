//! What compilers say, with file and line.

use crate::error::Message;

/// The errors of a compiler's log: NVRTC's, its assembler's and GCC's or Clang's. Never empty: a log of
/// which nothing is understood is one message.
#[must_use]
pub fn messages(log: &str) -> Vec<Message> {
    let found: Vec<Message> = log.lines().filter_map(message).collect();
    if !found.is_empty() {
        return found;
    }
    vec![Message {
        place: None,
        text: log.trim().to_owned(),
    }]
}

fn message(line: &str) -> Option<Message> {
    let (place, text) = line
        .split_once(": error: ")
        .or_else(|| line.split_once(": catastrophic error: "))
        .or_else(|| line.split_once(": fatal error: "))
        .or_else(|| line.split_once("fatal   : "))
        .or_else(|| line.split_once("error   : "))?;
    Some(Message {
        place: parenthesised(place).or_else(|| coloned(place)),
        // The assembler's place is a line of PTX: kept in the text until it is translated.
        text: match place.split_once("line ") {
            Some((_, line)) if place.starts_with("ptxas") => {
                format!("PTX line {}: {text}", line.trim_end_matches([';', ' ']))
            }
            _ => text.trim().to_owned(),
        },
    })
}

/// `file.cu(12)`, as NVRTC says it.
fn parenthesised(place: &str) -> Option<(String, usize)> {
    let (file, line) = place.trim().strip_suffix(')')?.rsplit_once('(')?;
    Some((file.to_owned(), line.parse().ok()?))
}

/// `file.cu:12:5`, as GCC and Clang say it.
fn coloned(place: &str) -> Option<(String, usize)> {
    let (file, rest) = place.trim().split_once(':')?;
    let line = rest.split(':').next()?;
    Some((file.to_owned(), line.parse().ok()?))
}

/// The functions that `KERNEL(name)` or `__global__` begin in a source, with their lines from 1.
pub(super) fn kernels_of(text: &str) -> Vec<(&str, usize)> {
    let lines = text.lines().enumerate();
    let starts = lines.filter_map(|(index, line)| {
        let name = match line.strip_prefix("KERNEL(") {
            Some(rest) => rest.split_once(')')?.0,
            None => line
                .split_once("__global__")?
                .1
                .split_once('(')?
                .0
                .split_whitespace()
                .last()?,
        };
        Some((name, index + 1))
    });
    starts.collect()
}

/// Gives a message of the assembler its place in the source: by the `.loc` before its line of PTX, or by
/// the kernel that it names.
pub(super) fn place(message: &mut Message, file: &str, ptx: &str, kernels: &[(String, usize)]) {
    if message.place.is_some() {
        return;
    }
    let rest = message.text.strip_prefix("PTX line ");
    if let Some((number, text)) = rest.and_then(|rest| rest.split_once(": ")) {
        let until = number.trim().parse().unwrap_or(0);
        if let Some(line) = source_line(ptx, until) {
            message.place = Some((file.to_owned(), line));
            message.text = text.to_owned();
            return;
        }
    }
    let named = kernels
        .iter()
        .filter(|(name, _)| message.text.contains(name.as_str()))
        .max_by_key(|(name, _)| name.len());
    if let Some((_, line)) = named {
        message.place = Some((file.to_owned(), *line));
    }
}

/// The source line that PTX up to line `until` speaks of: that of the last `.loc FILE LINE COLUMN`.
fn source_line(ptx: &str, until: usize) -> Option<usize> {
    let lines: Vec<&str> = ptx.lines().take(until).collect();
    let location = lines
        .iter()
        .rev()
        .find_map(|line| line.trim().strip_prefix(".loc"))?;
    location.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(log: &str) -> Message {
        let mut found = messages(log);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn each_compiler_is_understood() {
        let nvrtc = one("norm.cu(12): error: identifier \"xs\" is undefined\n\n1 error detected");
        assert_eq!(nvrtc.place, Some(("norm.cu".into(), 12)));
        assert_eq!(nvrtc.text, "identifier \"xs\" is undefined");
        let gcc = one("norm.cu:7:3: error: 'xs' was not declared in this scope");
        assert_eq!(gcc.place, Some(("norm.cu".into(), 7)));
        let other = one("something else");
        assert_eq!((other.place, other.text.as_str()), (None, "something else"));
    }

    #[test]
    fn a_line_of_ptx_is_one_of_the_source() {
        let ptx = "head\n.loc 1 5 2\nadd\n.loc 1 9 2\nbad\n";
        let mut message =
            one("ptxas application ptx input, line 5; error   : Unknown symbol 'bad'");
        place(&mut message, "norm.cu", ptx, &[]);
        assert_eq!(message.place, Some(("norm.cu".into(), 9)));
        assert_eq!(message.text, "Unknown symbol 'bad'");
    }

    #[test]
    fn too_much_shared_memory_is_placed_at_its_kernel() {
        let text = "// sums\nKERNEL(sum)(float* x) {\n}\nKERNEL(sum_all)(float* x) {\n}\n";
        let starts: Vec<_> = kernels_of(text)
            .iter()
            .map(|(n, l)| ((*n).to_owned(), *l))
            .collect();
        let log = "ptxas error   : Entry function 'sum_all_f32' uses too much shared data (0x10000 bytes, 0xc000 max)";
        let mut message = one(log);
        place(&mut message, "norm.cu", "", &starts);
        assert_eq!(message.place, Some(("norm.cu".into(), 4)));
    }
}
