//! `verify`: checks backup sets as they are stored, and with a key what is inside.

use serde::Serialize;
use tokio::task::LocalSet;

use super::backup::{folders, with_backups};
use super::{Done, json, made, protect, runtime};
use crate::backup::catalog::{Catalog, Entry};
use crate::backup::examine::Examination;
use crate::backup::verify::{Grade, SetReport, contents};
use crate::cli::{Cli, Output, Verify};
use crate::config::{self, Config, Name};
use crate::error::{Failed, Fault};
use crate::receipt::gravest;
use crate::retry::Deadline;
use crate::secret::Secrets;
use crate::sync::{Pass, Subject};
use crate::{backup, log, output};

/// What was found of all sets.
#[derive(Default, Serialize)]
struct Report {
    sets: Vec<SetReport>,
    #[serde(skip)]
    failures: Vec<(String, Failed)>,
}

/// Verifies the sets and reports what was found.
#[must_use]
pub fn run(cli: &Cli, arguments: &Verify) -> Done {
    match verified(cli, arguments) {
        Ok(report) => done(&report, cli.output),
        Err(failed) => Done::failed(failed),
    }
}

fn verified(cli: &Cli, arguments: &Verify) -> Result<Report, Failed> {
    let config = config::load(&cli.config).map_err(|error| Failed::from(&error))?;
    let named: Vec<String> = arguments.node.iter().cloned().collect();
    let nodes = with_backups(&config, &named)?;
    if let Some(key) = &arguments.key {
        // A key that is none is said before gigabytes are read.
        let loaded = contents::load_key(key).map(drop);
        crate::secret::scrub_stack();
        loaded.map_err(|error| Failed::from(&error))?;
    }
    protect(&config, &made(folders(&config, &nodes)), false)?;
    Ok(runtime()?.block_on(LocalSet::new().run_until(all(&config, &nodes, arguments))))
}

async fn all(config: &Config, nodes: &[Name], arguments: &Verify) -> Report {
    let pass = Pass::new(config, nodes);
    let mut report = Report::default();
    for (subject, _) in pass.subjects() {
        if let Err(failed) = node(config, subject, pass.secrets(), arguments, &mut report).await {
            report.failures.push((subject.name.to_string(), failed));
        }
    }
    pass.close().await;
    crate::secret::scrub_stack();
    report
}

/// Verifies the newest set of a node: what was found, and the failure that it is, if it is one.
pub(crate) async fn newest(
    config: &Config,
    subject: &Subject,
    secrets: &Secrets,
) -> Result<(SetReport, Option<Failed>), Failed> {
    let arguments = Verify { node: None, set: None, latest: true, all: false, key: None };
    let mut report = Report::default();
    node(config, subject, secrets, &arguments, &mut report).await?;
    let set = report.sets.into_iter().max_by_key(|set| set.result).ok_or_else(Failed::bug)?;
    let failed = verdict(&set);
    Ok((set, failed))
}

async fn node(
    config: &Config,
    subject: &Subject,
    secrets: &Secrets,
    arguments: &Verify,
    report: &mut Report,
) -> Result<(), Failed> {
    let (Some(configured), Some(repository)) = (&subject.config.backup, backup::repository_of(config, subject)) else {
        return Ok(());
    };
    let repository = repository.map_err(|error| Failed::from(&error))?;
    let (sign, signers) = (backup::sign(config, subject), backup::signers(config, subject));
    let patience = subject.config.identity.deadline.0;
    let can_sign = backup::can_sign(secrets, sign, signers, Deadline::after(patience)).await;
    can_sign.map_err(|error| Failed::from(&error))?;
    let node = subject.name.as_str();
    let catalog = Catalog::read(&repository, node, signers).await.map_err(|error| Failed::from(&error))?;
    let examination = Examination {
        repository: &repository,
        node,
        catalog: &catalog,
        key: arguments.key.as_deref(),
        encryption: configured.encryption,
        pruning_retention: configured.pruning_retention,
        sign,
        secrets,
        patience,
        signers,
    };
    for entry in chosen(&catalog, arguments)? {
        let set = examination.set(entry).await;
        report.sets.push(set.map_err(|error| Failed::from(&error))?);
    }
    Ok(())
}

/// The sets of the command line.
fn chosen<'c>(catalog: &'c Catalog, arguments: &Verify) -> Result<Vec<&'c Entry>, Failed> {
    if let Some(set) = arguments.set {
        let entry = catalog.sets.iter().find(|entry| entry.id == set);
        return entry.map(|entry| vec![entry]).ok_or_else(|| {
            let message = format!("there is no set {set}");
            Failed::new(Fault::Usage, message, "`idkeep list` shows the sets there are")
        });
    }
    let sets: Vec<&Entry> = match catalog.sets.last() {
        // One that cannot be believed does not hide the newest that can: whoever may write there may have planted it.
        Some(latest) if !arguments.all => {
            let newest_whole = catalog.whole().next_back().filter(|whole| whole.id != latest.id);
            newest_whole.into_iter().chain([latest]).collect()
        }
        _ => catalog.sets.iter().collect(),
    };
    if sets.is_empty() {
        let hint = "`idkeep backup` takes one; `idkeep list` shows what is there";
        return Err(Failed::new(Fault::Inconsistent, "there is no backup set to verify", hint));
    }
    Ok(sets)
}

fn done(report: &Report, format: Output) -> Done {
    let mut failures = report.failures.clone();
    for set in &report.sets {
        failures.extend(verdict(set).map(|failed| (format!("{}: set {}", set.node, set.set), failed)));
    }
    let exit_code = gravest(failures.iter().map(|(_, failed)| failed)).map_or(0, |failed| failed.fault.exit_code());
    let stdout = match format {
        Output::Json => json(report),
        Output::Text => text(report),
    };
    Done { stdout, failures, exit_code }
}

/// The set's failure, as the exit code and the last line tell it.
fn verdict(set: &SetReport) -> Option<Failed> {
    let named = |grade| set.with(grade).map(|check| check.check.as_str()).collect::<Vec<_>>().join(", ");
    match set.result {
        Grade::Fail => {
            let message = format!("fails: {}", named(Grade::Fail));
            Some(Failed::new(
                Fault::Inconsistent,
                message,
                "do not restore it before you know why; see the checks above",
            ))
        }
        Grade::Unknown => {
            let message = format!("undecided: {}", named(Grade::Unknown));
            Some(Failed::new(Fault::Undecided, message, "each undecided check says what evidence would resolve it"))
        }
        Grade::Pass | Grade::Warn => None,
    }
}

fn text(report: &Report) -> String {
    let mut rows = vec![["NODE", "SET", "CHECK", "RESULT", "REASON", "RESOLVE"].map(str::to_owned)];
    for set in &report.sets {
        for check in &set.checks {
            rows.push([
                set.node.clone(),
                set.set.to_string(),
                check.check.clone(),
                check.result.as_str().to_owned(),
                check.reason.clone(),
                check.resolve.clone().unwrap_or_else(|| "-".into()),
            ]);
        }
    }
    log::printable_lines(&output::show(&rows))
}
