//! `infeed job report` as CSV: one row a recipient.

/// A row of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Row {
    pub address: String,
    /// `accepted`, `refused`, `deferred`, …
    pub outcome: String,
    pub reply_code: Option<u16>,
    pub reply_text: Option<String>,
    pub queue_id: Option<String>,
    pub attempts: u32,
    /// RFC 3339, UTC; none while nothing was tried.
    pub time: Option<String>,
    pub possible_repeat: bool,
}

/// Reads a report, header line and all.
///
/// # Panics
/// On a row that is none, naming it.
pub fn parse_report(csv: &str) -> Vec<Row> {
    ::csv::Reader::from_reader(csv.as_bytes())
        .deserialize()
        .map(|row| row.unwrap_or_else(|e| panic!("the report: {e}")))
        .collect()
}
