//! Text from outside, made fit for a message.

/// `text` on one line, without what would steer a terminal; longer than `most` characters, it is cut
/// between words and ends in `...`.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut room = most;
    for word in text.split_whitespace() {
        let word: String = word.chars().filter(|c| !c.is_control()).collect();
        let (length, gap) = (word.chars().count(), usize::from(!line.is_empty()));
        if word.is_empty() {
            continue;
        }
        if length + gap > room {
            // A word that would not fit on any line is cut itself.
            if line.is_empty() {
                line.extend(word.chars().take(most));
                line.push_str("...");
            } else {
                line.push_str(" ...");
            }
            return line;
        }
        if gap == 1 {
            line.push(' ');
        }
        line.push_str(&word);
        room -= length + gap;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn a_text_is_cut_between_words_and_says_so() {
        let text = "Name or service not known";
        assert_eq!(shortened(text, 25), text);
        assert_eq!(shortened(text, 24), "Name or service not ...");
        assert_eq!(shortened(text, 3), "Nam...");
        assert_eq!(shortened("  two\n\tlines\u{1b} ", 80), "two lines");
        assert_eq!(shortened("\u{7}", 80), "");
    }
}
