//! A page of headings, paragraphs, tables and figures, as one HTML file that needs nothing else and as Markdown.

use std::fmt::Write;

/// A part of a page.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A heading below the title.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// Points.
    List(Vec<String>),
    /// A table; the first column is flush left, the others flush right.
    Table {
        /// Its columns.
        header: Vec<String>,
        /// Its rows.
        rows: Vec<Vec<String>>,
    },
    /// An SVG document, with the name of its file beside the Markdown.
    Figure {
        /// Such as `law-reasoning.svg`.
        file: String,
        /// What it shows.
        caption: String,
        /// The document.
        svg: String,
    },
    /// Lines to be copied.
    Code(Vec<String>),
}

/// A page.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Its title.
    pub title: String,
    /// Its parts.
    pub blocks: Vec<Block>,
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;\
background:#fff}table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}\
th,td{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}th:first-child,td:first-child{\
text-align:left}figure{margin:1.5rem 0}figure svg{max-width:100%;height:auto}figcaption{color:#555}pre{background:#f4f4f4;\
padding:.8rem;overflow-x:auto}";

impl Page {
    /// The page as HTML; figures are inside of it.
    pub fn html(&self) -> String {
        let title = escaped(&self.title);
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        );
        for block in &self.blocks {
            // Writing to a string cannot fail.
            _ = match block {
                Block::Heading(text) => writeln!(page, "<h2>{}</h2>", escaped(text)),
                Block::Text(text) => writeln!(page, "<p>{}</p>", escaped(text)),
                Block::List(points) => {
                    let points = points.iter().map(|point| format!("<li>{}</li>\n", escaped(point)));
                    writeln!(page, "<ul>\n{}</ul>", points.collect::<String>())
                }
                Block::Table { header, rows } => {
                    let cells = |tag: &str, cells: &[String]| {
                        let cells = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)));
                        format!("<tr>{}</tr>\n", cells.collect::<String>())
                    };
                    let body: String = rows.iter().map(|row| cells("td", row)).collect();
                    writeln!(page, "<table>\n{}{body}</table>", cells("th", header))
                }
                Block::Figure { caption, svg, .. } => {
                    // What stands in front of the element has no place inside of a page.
                    let svg = svg.find("<svg").map_or("", |start| &svg[start..]);
                    writeln!(
                        page,
                        "<figure>\n{svg}\n<figcaption>{}</figcaption>\n</figure>",
                        escaped(caption)
                    )
                }
                Block::Code(lines) => writeln!(page, "<pre>{}</pre>", escaped(&lines.join("\n"))),
            };
        }
        page + "</body>\n</html>\n"
    }

    /// The page as Markdown; figures are files beside it, see [`Page::figures`].
    pub fn markdown(&self) -> String {
        let mut page = format!("# {}\n", self.title);
        for block in &self.blocks {
            page.push('\n');
            _ = match block {
                Block::Heading(text) => writeln!(page, "## {text}"),
                Block::Text(text) => writeln!(page, "{text}"),
                Block::List(points) => {
                    let points = points.iter().map(|point| format!("- {point}\n"));
                    write!(page, "{}", points.collect::<String>())
                }
                Block::Table { header, rows } => {
                    let line = |cells: &[String]| {
                        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
                        format!("| {} |\n", cells.join(" | "))
                    };
                    let rule = format!("|---|{}\n", "---:|".repeat(header.len().saturating_sub(1)));
                    let body: String = rows.iter().map(|row| line(row)).collect();
                    write!(page, "{}{rule}{body}", line(header))
                }
                Block::Figure { file, caption, .. } => writeln!(page, "![{caption}]({file})"),
                Block::Code(lines) => writeln!(page, "```\n{}\n```", lines.join("\n")),
            };
        }
        page
    }

    /// The figures' files beside the Markdown: names and contents.
    pub fn figures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Figure { file, svg, .. } => Some((file.as_str(), svg.as_str())),
            _ => None,
        })
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_hold_the_same_and_no_text_becomes_markup() {
        let table = Block::Table {
            header: vec!["model".into(), "score".into()],
            rows: vec![vec!["<b>|x".into(), "1".into()]],
        };
        let figure = Block::Figure {
            file: "law.svg".into(),
            caption: "a & b".into(),
            svg: "<?xml version=\"1.0\"?>\n<svg><path/></svg>".into(),
        };
        let page = Page {
            title: "a < b".into(),
            blocks: vec![
                Block::Heading("Laws".into()),
                Block::Text("text".into()),
                Block::List(vec!["one".into(), "two".into()]),
                table,
                figure,
                Block::Code(vec!["foveate sweep".into()]),
            ],
        };
        let html = page.html();
        assert!(
            html.contains("<h1>a &lt; b</h1>") && html.contains("<td>&lt;b&gt;|x</td><td>1</td>"),
            "{html}"
        );
        assert!(
            html.contains("<svg><path/></svg>") && !html.contains("<?xml") && !html.contains("http"),
            "{html}"
        );
        let markdown = page.markdown();
        for part in [
            "# a < b",
            "- two",
            "| model | score |\n|---|---:|\n| <b>\\|x | 1 |",
            "![a & b](law.svg)",
            "```\nfoveate",
        ] {
            assert!(markdown.contains(part), "{markdown}");
        }
        assert_eq!(page.figures().count(), 1);
    }
}
