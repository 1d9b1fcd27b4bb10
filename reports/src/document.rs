//! A report as blocks, so that Markdown and HTML say the same.

/// Rows of one table of a report for people: more are kept in the CSV files, and the report says so.
pub(crate) const MOST_ROWS: usize = 2000;

/// One piece of a report, in the order of reading.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Block {
    /// The title of the report.
    Title(String),
    /// Begins a section.
    Heading(String),
    /// A paragraph; backticks enclose code.
    Text(String),
    /// Points; backticks enclose code.
    List(Vec<String>),
    /// Rows under a heading.
    Table(Table),
    /// Lines to type.
    Code(String),
    /// A chart by its name, without an ending, and its title.
    Chart {
        /// Its name in `charts/`.
        name: String,
        /// What it shows.
        title: String,
    },
}

/// Rows of text under headings; a heading that ends with `:` stands over numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    pub(crate) header: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&'static str], rows: Vec<Vec<String>>) -> Self {
        Self {
            header: header.to_vec(),
            rows,
        }
    }

    /// Nothing where there is no row.
    pub(crate) fn unless_empty(header: &[&'static str], rows: Vec<Vec<String>>) -> Option<Self> {
        (!rows.is_empty()).then(|| Self::new(header, rows))
    }

    pub(crate) fn markdown(&self) -> String {
        table(&self.header, &self.rows)
    }
}

/// A Markdown table; numbers are aligned to the right where the heading ends with `:`.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let escape = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(
        header
            .iter()
            .map(|name| name.trim_end_matches(':').to_owned())
            .collect(),
    );
    out.push_str(&line(
        header
            .iter()
            .map(|name| if name.ends_with(':') { "--:" } else { "---" }.to_owned())
            .collect(),
    ));
    for row in rows {
        out.push_str(&line(row.iter().map(|cell| escape(cell)).collect()));
    }
    out
}

/// The blocks with at most [`MOST_ROWS`] rows a table, and a sentence where there were more.
pub(crate) fn bounded(blocks: Vec<Block>) -> Vec<Block> {
    let mut out = Vec::with_capacity(blocks.len());
    for block in blocks {
        match block {
            Block::Table(mut table) if table.rows.len() > MOST_ROWS => {
                let all = table.rows.len();
                table.rows.truncate(MOST_ROWS);
                out.push(Block::Table(table));
                out.push(Block::Text(format!(
                    "The first {MOST_ROWS} of {all} rows; the CSV files of the run have all."
                )));
            }
            block => out.push(block),
        }
    }
    out
}

/// The blocks as Markdown; charts are linked as SVG files in `charts/`.
pub(crate) fn markdown(blocks: &[Block]) -> String {
    let mut out = String::new();
    let mut after_text = false;
    for block in blocks {
        let text = match block {
            Block::Title(title) => format!("# {title}\n\n"),
            Block::Heading(title) => format!("\n## {title}\n\n"),
            // Two paragraphs in a row are told apart by an empty line.
            Block::Text(text) if after_text => format!("\n{text}\n"),
            Block::Text(text) => format!("{text}\n"),
            Block::List(points) if points.is_empty() => String::new(),
            // A paragraph would run on into the first point.
            Block::List(points) => {
                let gap = if after_text { "\n" } else { "" };
                format!("{gap}- {}\n", points.join("\n- "))
            }
            Block::Table(table) => format!("{}\n", table.markdown()),
            Block::Code(code) => format!("```\n{code}\n```\n\n"),
            Block::Chart { name, title } => format!("![{title}](charts/{name}.svg)\n\n"),
        };
        out.push_str(&text);
        after_text = matches!(block, Block::Text(_));
    }
    out
}
