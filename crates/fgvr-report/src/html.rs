//! One HTML page that opens offline.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fgvr_data::{Existing, write_whole};

use super::{Align, Plot, Table};
use crate::record::tensorboard::png_size;

/// A report: a title, facts to know the run by, and sections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// Names and values, such as ("seed", "7"), shown under the title.
    pub facts: Vec<(String, String)>,
    /// The parts of the report, in order.
    pub sections: Vec<Section>,
}

/// One part of a report. Text comes first, then plots, tables and pictures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// Plain text; an empty line ends a paragraph.
    pub text: String,
    /// Line plots.
    pub plots: Vec<Plot>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Pictures.
    pub pictures: Vec<Picture>,
}

/// A picture, held in the page itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// The bytes of a PNG file.
    pub png: Vec<u8>,
    /// What stands under it.
    pub caption: String,
    /// What it shows, in words, for those who cannot see it; the caption where empty.
    pub alt: String,
}

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A picture is not a PNG file.
    #[error("report: picture {caption:?}: expected a PNG file, found {len} bytes that are none")]
    NotPng {
        /// Its caption.
        caption: String,
        /// How many bytes it has.
        len: usize,
    },
    /// A contact sheet cannot be put together.
    #[error("sheet: {what}: expected {expected}, found {found}")]
    Sheet {
        /// The part of the sheet.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A tensor could not be read.
    #[error("sheet: {0}")]
    Tensor(candle_core::Error),
    /// The file system refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder in question.
        path: PathBuf,
        /// What the system said.
        r#source: io::Error,
    },
}

impl From<candle_core::Error> for ReportError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error)
    }
}

/// Nothing but the page's own style and the pictures in it may load, so that a name in a data set
/// can never make a report reach outside.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

const STYLE: &str = "\
:root{color-scheme:light dark;--text:#1c2024;--quiet:#59626b;--page:#fff;--line:#d5d9dd;--link:#0b5cad}
@media(prefers-color-scheme:dark){:root{--text:#e6e8ea;--quiet:#a3abb3;--page:#15181b;--line:#3a4148;--link:#7ab8f5}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:76rem;background:var(--page);color:var(--text);
font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0 1rem}
h2{font-size:1.25rem;margin:2.5rem 0 .5rem;padding-top:.75rem;border-top:1px solid var(--line)}
p{max-width:70ch}
a{color:var(--link)}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;padding:0;margin:1rem 0}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.5rem 1.5rem;margin:0}
dt{color:var(--quiet);font-size:.85rem}
dd{margin:0;font-variant-numeric:tabular-nums}
figure{margin:1.25rem 0}
figcaption{color:var(--quiet);font-size:.9rem;margin-top:.35rem;max-width:70ch}
img{max-width:100%;height:auto;display:block;image-rendering:pixelated}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,28rem),1fr));gap:1rem}
.plot{width:100%;height:auto;max-width:44rem;display:block}
.wide{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.3rem .9rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:normal}
th{font-size:.85rem;color:var(--quiet)}
.r{text-align:right}
@media print{body{max-width:none}h2{break-after:avoid}figure,tr{break-inside:avoid}}
";

impl Report {
    /// The whole page.
    ///
    /// # Errors
    /// When a picture is not a PNG file.
    pub fn to_html(&self) -> Result<String, ReportError> {
        let title = escape(&self.title);
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        );
        if !self.facts.is_empty() {
            page.push_str("<dl>\n");
            for (name, value) in &self.facts {
                let (name, value) = (escape(name), escape(value));
                let _ = writeln!(page, "<div><dt>{name}</dt><dd>{value}</dd></div>");
            }
            page.push_str("</dl>\n");
        }
        if self.sections.len() > 1 {
            page.push_str("<nav aria-label=\"Sections\"><ul>\n");
            for (index, section) in self.sections.iter().enumerate() {
                let name = escape(&section.title);
                let _ = writeln!(page, "<li><a href=\"#s{index}\">{name}</a></li>");
            }
            page.push_str("</ul></nav>\n");
        }
        for (index, section) in self.sections.iter().enumerate() {
            section.write(&mut page, index)?;
        }
        page.push_str("</main>\n</body>\n</html>\n");
        Ok(page)
    }

    /// Writes the page to `path`; an older one there is replaced whole or not at all.
    ///
    /// # Errors
    /// When a picture is not a PNG file, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        let page = self.to_html()?;
        let failed = |source| ReportError::Io {
            path: path.to_path_buf(),
            source,
        };
        write_whole(path, Existing::Replace, |file| {
            file.write_all(page.as_bytes())
        })
        .map(drop)
        .map_err(failed)
    }
}

impl Section {
    fn write(&self, page: &mut String, index: usize) -> Result<(), ReportError> {
        let title = escape(&self.title);
        let _ = writeln!(
            page,
            "<section aria-labelledby=\"s{index}\">\n<h2 id=\"s{index}\">{title}</h2>"
        );
        for paragraph in self
            .text
            .split("\n\n")
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            let _ = writeln!(page, "<p>{}</p>", escape(paragraph).replace('\n', "<br>"));
        }
        if !self.plots.is_empty() {
            page.push_str("<div class=\"plots\">\n");
            for plot in &self.plots {
                let _ = writeln!(page, "<figure>{}</figure>", plot.to_svg());
            }
            page.push_str("</div>\n");
        }
        for table in &self.tables {
            write_table(page, table, &title);
        }
        for picture in &self.pictures {
            picture.write(page)?;
        }
        page.push_str("</section>\n");
        Ok(())
    }
}

impl Picture {
    fn write(&self, page: &mut String) -> Result<(), ReportError> {
        let (width, height) = png_size(&self.png).ok_or_else(|| ReportError::NotPng {
            caption: self.caption.clone(),
            len: self.png.len(),
        })?;
        let alt = if self.alt.is_empty() {
            &self.caption
        } else {
            &self.alt
        };
        let _ = writeln!(
            page,
            "<figure><img width=\"{width}\" height=\"{height}\" alt=\"{}\" src=\"data:image/png;base64,{}\">\
             <figcaption>{}</figcaption></figure>",
            escape(alt),
            STANDARD.encode(&self.png),
            escape(&self.caption)
        );
        Ok(())
    }
}

fn write_table(page: &mut String, table: &Table, section: &str) {
    let class = |align: Align| {
        if align == Align::Right {
            " class=\"r\""
        } else {
            ""
        }
    };
    // A wide table scrolls by itself; the keyboard must reach it to do so.
    let _ = write!(
        page,
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Table: {section}\">\n<table>\n<thead><tr>"
    );
    for (name, align) in &table.columns {
        let _ = write!(
            page,
            "<th scope=\"col\"{}>{}</th>",
            class(*align),
            escape(name)
        );
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        page.push_str("<tr>");
        for (column, (_, align)) in table.columns.iter().enumerate() {
            let cell = row.get(column).map_or("", String::as_str);
            let _ = write!(page, "<td{}>{}</td>", class(*align), escape(cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n</div>\n");
}

/// `text` as it may stand in HTML and SVG, between tags and in quoted attributes. Control
/// characters, which XML forbids, become spaces.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push('\n'),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Series;

    const PNG_HEAD: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x20rest";

    fn report() -> Report {
        let hostile = "<img src=x onerror=alert(1)> \"quoted\" & 'more'".to_string();
        Report {
            title: hostile.clone(),
            facts: vec![(hostile.clone(), hostile.clone())],
            sections: vec![
                Section {
                    title: hostile.clone(),
                    text: format!("{hostile}\n\nsecond\nline"),
                    plots: vec![Plot {
                        title: hostile.clone(),
                        series: vec![Series {
                            name: hostile.clone(),
                            points: vec![(0.0, 1.0), (1.0, 2.0)],
                        }],
                        ..Plot::default()
                    }],
                    tables: vec![
                        Table::new(&[(hostile.clone(), Align::Right)]).row([hostile.clone()]),
                    ],
                    pictures: vec![Picture {
                        png: PNG_HEAD.to_vec(),
                        caption: hostile,
                        alt: String::new(),
                    }],
                },
                Section::default(),
            ],
        }
    }

    #[test]
    fn hostile_names_stay_text() {
        let page = report().to_html().unwrap();
        assert!(!page.contains("<img src=x"));
        assert!(!page.contains("\"quoted\""));
        assert!(page.contains(
            "&lt;img src=x onerror=alert(1)&gt; &quot;quoted&quot; &amp; &#39;more&#39;"
        ));
        assert_eq!(page.matches("<img ").count(), 1);
    }

    #[test]
    fn the_page_refers_to_nothing_outside_itself() {
        let page = report().to_html().unwrap();
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http:", "https:", "url(", "<script", "<link", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn pictures_carry_their_size_and_words_and_tags_close() {
        let page = report().to_html().unwrap();
        assert!(page.contains("<img width=\"64\" height=\"32\" alt=\"&lt;img"));
        for tag in [
            "html", "head", "body", "main", "section", "table", "figure", "svg", "p", "dl", "nav",
            "td", "th",
        ] {
            let opened = page.matches(&format!("<{tag}>")).count()
                + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert!(page.contains("<p>second<br>line</p>"));
    }

    #[test]
    fn a_picture_that_is_no_png_is_an_error_and_leaves_the_old_page() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        let mut report = report();
        report.write(&path).unwrap();
        let before = std::fs::read(&path).unwrap();
        report.sections[0].pictures[0].png = b"GIF89a".to_vec();
        let error = report.write(&path).unwrap_err();
        assert!(
            matches!(error, ReportError::NotPng { len: 6, .. }),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
