//! Results for people: an aligned table on a terminal, plain lines elsewhere.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use crate::receipt::Report;

/// The report of a pass.
#[must_use]
pub fn report(report: &Report) -> String {
    let is_terminal = std::io::stdout().is_terminal();
    let mut rows = vec![["NODE", "STORE", "OUTCOME", "VERSION", "PROOF", "DIGEST", "PARTICIPANT"].map(str::to_owned)];
    for node in &report.nodes {
        let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let about = &node.about;
        // Enough of the digest to tell two apart; scripts get all of it.
        let digest = about.digest.as_deref().map(|digest| digest.get(..19).filter(|_| is_terminal).unwrap_or(digest));
        let mut row = |store: &str, outcome: &str, version: Option<&str>| {
            rows.push([
                node.node.clone(),
                store.to_owned(),
                outcome.to_owned(),
                or_dash(version),
                or_dash(about.key_proof),
                or_dash(digest),
                or_dash(about.participant_id.as_deref()),
            ]);
        };
        if node.stores.is_empty() {
            row("-", "failed", None);
        }
        for store in &node.stores {
            row(&store.store, store.outcome, store.version.as_deref());
        }
    }
    if is_terminal { table(&rows) } else { lines(&rows) }
}

/// Columns as wide as their widest cell.
#[must_use]
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// Cells separated by tabs, without the heading.
fn lines<const N: usize>(rows: &[[String; N]]) -> String {
    rows.iter().skip(1).map(|row| row.join("\t") + "\n").collect()
}
