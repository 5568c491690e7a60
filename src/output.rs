//! Results for people: an aligned table on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

use crate::backup;
use crate::backup::manifest::Invariant;
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
    show(&rows)
}

/// The report of `backup`.
#[must_use]
pub fn sets_taken(report: &backup::receipt::Report) -> String {
    let mut rows = vec![["NODE", "OUTCOME", "SET", "DATABASE", "STORED", "DUMPED", "INVARIANTS"].map(str::to_owned)];
    for node in &report.nodes {
        let set = node.set.map_or_else(|| "-".to_owned(), |set| set.to_string());
        let mut row = |database: &str, stored: String, dumped: String| {
            let invariants = invariants(&node.invariants);
            rows.push([
                node.node.clone(),
                node.outcome.to_owned(),
                set.clone(),
                database.to_owned(),
                stored,
                dumped,
                invariants,
            ]);
        };
        if node.databases.is_empty() {
            row("-", "-".into(), "-".into());
        }
        for database in &node.databases {
            row(&database.name, size(database.bytes), size(database.plain_bytes));
        }
    }
    show(&rows)
}

/// `I1=pass I2=pass I3=unknown I4=pass`.
#[must_use]
pub fn invariants(invariants: &BTreeMap<String, Invariant>) -> String {
    let words: Vec<String> =
        invariants.iter().map(|(name, invariant)| format!("{name}={}", invariant.result.as_str())).collect();
    if words.is_empty() { "-".into() } else { words.join(" ") }
}

/// Bytes as they are for scripts, in units for people.
#[must_use]
pub fn size(bytes: u64) -> String {
    if std::io::stdout().is_terminal() { indicatif::HumanBytes(bytes).to_string() } else { bytes.to_string() }
}

/// A table on a terminal, plain lines elsewhere; the first row is the heading.
#[must_use]
pub fn show<const N: usize>(rows: &[[String; N]]) -> String {
    if std::io::stdout().is_terminal() { table(rows) } else { lines(rows) }
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
