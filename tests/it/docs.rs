//! The documentation is true where a machine can tell: examples are accepted, references are complete, links lead somewhere.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::support::chart::{Case, render};
use crate::support::idkeep::Idkeep;

const REPOSITORY: &str = "https://github.com/idkeep/idkeep/blob/main/";

#[test]
fn every_configuration_in_the_documentation_is_accepted() {
    let mut count = 0;
    for page in pages() {
        for block in blocks(&read(&page)).into_iter().filter(|block| block.info == "yaml") {
            let outcome = Idkeep::configured(&block.text).run(&["check", "--offline"]);
            let place = format!("{}:{}", page.display(), block.line);
            assert_eq!(outcome.code, 0, "{place} is no configuration, and not marked `yaml,fragment`\n{outcome}");
            count += 1;
        }
    }
    assert!(count > 5, "only {count} configurations were found");
}

#[test]
fn the_chart_takes_every_block_of_values_in_the_documentation() {
    let mut cases = Vec::new();
    for page in pages() {
        let found = blocks(&read(&page)).into_iter().filter(|block| block.info == "yaml,values");
        cases.extend(found.map(|block| Case::new(format!("{}:{}", page.display(), block.line), block.text)));
    }
    assert!(cases.len() > 4, "only {} blocks of values were found", cases.len());
    for rendered in render(cases) {
        rendered.assert_good();
        let outcome = Idkeep::configured(rendered.config()).run(&["check", "--offline"]);
        assert_eq!(outcome.code, 0, "{}\n{outcome}", rendered.name);
    }
}

#[test]
fn every_key_of_the_configuration_stands_in_the_reference() {
    let reference = prose(&read(&root().join("docs/src/reference/configuration.md")));
    let schema = Idkeep::new().expect(0, &["schema"]).json();
    let mut keys = BTreeSet::new();
    collect_properties(&schema, &mut keys);
    assert!(keys.len() > 40, "only {} keys were found in the schema", keys.len());
    let missing: Vec<_> = keys.iter().filter(|key| !reference.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "not in configuration.md: {missing:?}");
}

#[test]
fn every_command_and_flag_stands_in_the_reference() {
    let reference = prose(&read(&root().join("docs/src/reference/cli.md")));
    let idkeep = Idkeep::new();
    let help = idkeep.expect(0, &["--help"]).stdout;
    let commands = commands(&help);
    assert!(commands.len() > 3, "no commands were found in\n{help}");
    let mut missing = BTreeSet::new();
    let mut texts = vec![help];
    for command in commands {
        texts.push(idkeep.expect(0, &[&command, "--help"]).stdout);
        if !reference.contains(&format!("`{command}`")) {
            missing.insert(command);
        }
    }
    for flag in texts.iter().flat_map(|text| long_flags(text)) {
        let is_there = ['`', ' ', '='].iter().any(|end| reference.contains(&format!("`{flag}{end}")));
        if !is_there && !reference.contains(&format!("`{flag}[")) {
            missing.insert(flag);
        }
    }
    assert!(missing.is_empty(), "not in cli.md: {missing:?}");
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        for target in links(&prose(&read(&page))) {
            // A file outside the book is named where everybody finds it.
            let target = match target.strip_prefix(REPOSITORY) {
                Some(path) => root().join(path).to_str().unwrap().to_owned(),
                None if target.contains("://") => continue,
                None => target,
            };
            let (path, anchor) = target.split_once('#').map_or((target.as_str(), None), |(path, at)| (path, Some(at)));
            let file = if path.is_empty() { page.clone() } else { normal(&page.parent().unwrap().join(path)) };
            let leads = file.exists() && anchor.is_none_or(|anchor| headings(&read(&file)).contains(anchor));
            if !leads {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}

#[test]
fn the_configuration_beside_a_compose_node_is_the_one_that_is_handed_out() {
    let handed_out = read(&root().join("docs/examples/compose/idkeep.yaml"));
    let page = read(&root().join("docs/src/how-to/compose.md"));
    assert!(blocks(&page).iter().any(|block| block.text == handed_out));
}

#[test]
fn every_page_of_the_book_stands_in_its_summary() {
    let folder = root().join("docs/src");
    let summary = folder.join("SUMMARY.md");
    let listed: BTreeSet<PathBuf> = links(&read(&summary)).iter().map(|target| folder.join(target)).collect();
    let there: BTreeSet<PathBuf> = markdown(&folder).into_iter().filter(|page| *page != summary).collect();
    assert_eq!(there, listed);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The book, and what stands at the root.
fn pages() -> Vec<PathBuf> {
    let mut pages = markdown(&root().join("docs/src"));
    pages.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|name| root().join(name)));
    pages
}

fn markdown(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut pages = Vec::new();
    for path in entries {
        if path.is_dir() {
            pages.extend(markdown(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `a/../b` as `b`, without asking the file system.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// A fenced block: the words after the fence, the text, the line where it starts.
pub struct Block {
    pub info: String,
    pub text: String,
    line: usize,
}

pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in markdown.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { info: info.trim().to_owned(), text: String::new(), line: index + 1 });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}

/// The text outside fenced blocks.
fn prose(markdown: &str) -> String {
    let mut is_fenced = false;
    let mut prose = String::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

/// Targets of `[text](target)`.
fn links(prose: &str) -> Vec<String> {
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The anchors of a page's headings, as mdBook and GitHub make them.
fn headings(markdown: &str) -> BTreeSet<String> {
    let prose = prose(markdown);
    let titles = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    let anchor = |title: &str| title.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-");
    titles.map(anchor).collect()
}

/// Every name under `properties`, however deep.
fn collect_properties(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            object.values().for_each(|value| collect_properties(value, keys));
        }
        Value::Array(list) => list.iter().for_each(|value| collect_properties(value, keys)),
        _ => {}
    }
}

/// The names under `Commands:`.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// `--flag` of the lines that describe one.
fn long_flags(help: &str) -> Vec<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.flat_map(str::split_whitespace).filter(|word| word.starts_with("--"));
    words.map(|word| word.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect()).collect()
}
