//! Tables for people: on the terminal, and in Markdown.

/// Columns of text; the first is aligned to the left, the others to the right.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            head: head.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; columns that it lacks are empty.
    pub(crate) fn row(&mut self, mut row: Vec<String>) {
        row.resize(self.head.len(), String::new());
        self.rows.push(row);
    }

    /// For a terminal: columns as wide as they must be, two blanks apart.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for row in self.lines() {
            text.push_str(self.aligned(row, "  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// For a page.
    pub(crate) fn markdown(&self) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for (at, row) in self.lines().enumerate() {
            text.push_str(&format!("| {} |\n", self.aligned(row, " | ")));
            if at == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let line = "-".repeat(width + 1);
                    text.push_str(&if column == 0 {
                        format!("|:{line}")
                    } else {
                        format!("|{line}:")
                    });
                }
                text.push_str("|\n");
            }
        }
        text
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.head).chain(&self.rows)
    }

    fn widths(&self) -> Vec<usize> {
        let widest = |column: usize| {
            let widths = self.lines().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        };
        (0..self.head.len()).map(widest).collect()
    }

    fn aligned(&self, row: &[String], between: &str) -> String {
        let cells = row.iter().zip(self.widths()).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        cells.join(between)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_on_the_terminal_and_in_markdown() {
        let mut table = Table::new(&["case", "±", "ms"]);
        table.row(vec!["a".into(), "1".into(), "1234.5".into()]);
        table.row(vec!["long".into(), "10".into()]);
        assert_eq!(
            table.text(),
            "case   ±      ms\na      1  1234.5\nlong  10\n"
        );
        assert_eq!(
            table.markdown(),
            "| case |  ± |     ms |\n|:-----|---:|-------:|\n| a    |  1 | 1234.5 |\n| long | 10 |        |\n"
        );
    }
}
