//! The units in `docs/examples/systemd`, read by systemd's own tools and held against what the program does.

mod calls;
mod units;

use std::path::{Path, PathBuf};

/// The units that start the program.
const SERVICES: [&str; 3] = ["idkeep.service", "idkeep-sync.service", "idkeep-backup.service"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/systemd")
}

/// What a unit says under a key, in the order of its lines.
fn settings(unit: &str, key: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(unit)).unwrap();
    let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}
