//! The chart: rendered by the real Helm engine over a matrix of values, and held against what its words promise.

mod alerts;
mod counters;
mod matrix;
mod modes;
mod monitoring;
mod network;
mod parent;
mod pods;
mod recipes;
mod rights;
mod said;
mod schema;
mod secrets;

use std::path::Path;

/// Every configuration under `docs/examples`, with its file's name.
fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let configurations = files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    let mut found: Vec<_> = configurations
        .map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&file).unwrap()))
        .collect();
    found.sort();
    found
}

fn example(name: &str) -> String {
    examples().into_iter().find(|(file, _)| file == name).unwrap().1
}

/// The same with a schedule, which a daemon wants; one that is there stays.
fn scheduled(config: &str) -> String {
    if config.contains("\nschedule:") {
        return config.to_owned();
    }
    // What there is nothing to do for is a mistake.
    let backups = if config.contains("    backup:") { ", backups: {every: 3h}, verify: {every: 24h}" } else { "" };
    format!("{config}\nschedule: {{identities: {{every: 10m}}{backups}}}\n")
}
