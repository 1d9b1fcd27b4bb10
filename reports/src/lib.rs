//! Rows to summaries, comparisons, charts and reports.
