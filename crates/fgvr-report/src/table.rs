//! Tables in plain text.

use std::fmt;

/// On which side the text of a column stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// For words.
    #[default]
    Left,
    /// For numbers.
    Right,
}

/// A table whose columns line up and which fits 100 columns of a terminal: the widest columns wrap
/// at spaces where it would not.
///
/// ```
/// use fgvr_report::{Align, Table};
///
/// let table = Table::new(&[("arm", Align::Left), ("top-1", Align::Right)])
///     .row(["base", "61.2"])
///     .row(["full", "64.0"]);
/// assert_eq!(table.to_string(), "arm   top-1\n----  -----\nbase   61.2\nfull   64.0\n");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub(super) columns: Vec<(String, Align)>,
    pub(super) rows: Vec<Vec<String>>,
}

const WIDTH: usize = 100;
const GAP: usize = 2;
/// No column is wrapped to fewer characters than this.
const NARROWEST: usize = 6;

impl Table {
    /// An empty table with these headings.
    pub fn new<S: AsRef<str>>(columns: &[(S, Align)]) -> Self {
        Self {
            columns: columns
                .iter()
                .map(|(name, align)| (name.as_ref().to_string(), *align))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// The table with one more row. Missing cells are blank; cells beyond the headings get a blank
    /// heading.
    #[must_use]
    pub fn row<S: Into<String>>(mut self, cells: impl IntoIterator<Item = S>) -> Self {
        self.push(cells);
        self
    }

    /// Adds a row, as [`Table::row`] does.
    pub fn push<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        while self.columns.len() < cells.len() {
            self.columns.push((String::new(), Align::Left));
        }
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
    }

    /// The table in Markdown, for documents.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let line = |cells: Vec<&str>| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let heads = self.columns.iter().map(|(name, _)| name.as_str());
        let mut text = line(heads.collect());
        let rules = self.columns.iter().map(|(_, align)| match align {
            Align::Left => "---",
            Align::Right => "---:",
        });
        text += &line(rules.collect());
        for row in &self.rows {
            text += &line(row.iter().map(String::as_str).collect());
        }
        text
    }

    /// Width of each column, in characters.
    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let cells = cells.chain([&self.columns[column].0]);
                cells
                    .flat_map(|cell| cell.lines().map(|line| line.chars().count()))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let gaps = GAP * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > WIDTH {
            match widths.iter_mut().max() {
                Some(widest) if *widest > NARROWEST => *widest -= 1,
                _ => break,
            }
        }
        widths
    }

    fn write_row(
        &self,
        f: &mut fmt::Formatter<'_>,
        cells: &[String],
        widths: &[usize],
    ) -> fmt::Result {
        let cells: Vec<Vec<String>> = widths
            .iter()
            .enumerate()
            .map(|(column, &width)| wrap(cells.get(column).map_or("", String::as_str), width))
            .collect();
        for line in 0..cells.iter().map(Vec::len).max().unwrap_or(0).max(1) {
            let mut text = String::new();
            for (column, &width) in widths.iter().enumerate() {
                let cell = cells[column].get(line).map_or("", String::as_str);
                if column > 0 {
                    text.push_str(&" ".repeat(GAP));
                }
                match self.columns[column].1 {
                    Align::Left => text.push_str(&format!("{cell:<width$}")),
                    Align::Right => text.push_str(&format!("{cell:>width$}")),
                }
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let headings: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        self.write_row(f, &headings, &widths)?;
        let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        self.write_row(f, &rules, &widths)?;
        for row in &self.rows {
            self.write_row(f, row, &widths)?;
        }
        Ok(())
    }
}

/// `text` in lines of at most `width` characters, broken at spaces, and within a word only where the
/// word alone is too long.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        let mut used = 0;
        for word in paragraph.split_whitespace() {
            let mut word: Vec<char> = word.chars().collect();
            let gap = usize::from(used > 0);
            if used + gap + word.len() > width && used > 0 {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            while word.len() > width {
                lines.push(word.drain(..width).collect());
            }
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            used += word.len();
            line.extend(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_line_up_on_the_right_and_words_on_the_left() {
        let table = Table::new(&[("arm", Align::Left), ("loss", Align::Right)])
            .row(["random mask", "0.5"])
            .row(["full", "12.25"]);
        assert_eq!(
            table.to_string(),
            "arm           loss\n-----------  -----\nrandom mask    0.5\nfull         12.25\n"
        );
    }

    #[test]
    fn a_wide_table_wraps_its_widest_column_to_fit_100_characters() {
        let words = "several plain words ".repeat(12);
        let table = Table::new(&[("name", Align::Left), ("note", Align::Left)])
            .row(["short", words.as_str()])
            .row(["long", "x".repeat(150).as_str()]);
        let text = table.to_string();
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{text}");
        assert_eq!(text.matches("several").count(), 12);
        assert_eq!(text.matches('x').count(), 150);
        assert!(
            text.lines()
                .nth(3)
                .is_some_and(|line| line.starts_with("       "))
        );
    }

    #[test]
    fn rows_of_another_length_than_the_headings_lose_nothing() {
        let table = Table::new(&[("a", Align::Left)])
            .row(["1", "2"])
            .row(Vec::<String>::new());
        assert_eq!(table.to_string(), "a\n-  -\n1  2\n\n");
    }

    #[test]
    fn wrapping_keeps_every_word_and_empty_text_has_no_line() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 5), ["abcde", "fgh", "ij"]);
        assert!(wrap("", 5).is_empty());
    }
}
