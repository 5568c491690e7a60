//! `expire`: removes the sets that retention does not keep.

use jiff::Timestamp;
use serde::Serialize;
use tokio::task::LocalSet;

use super::backup::{folders, with_backups};
use super::{Done, json, made, protect, runtime};
use crate::backup::expire::{self, Configured, NodeReceipt, Options};
use crate::cli::{Cli, Expire, Output};
use crate::config::{self, Config, Name};
use crate::error::Failed;
use crate::receipt::gravest;
use crate::sync::Pass;
use crate::{backup, output};

/// What became of all nodes' sets.
#[derive(Serialize)]
struct Report {
    nodes: Vec<NodeReceipt>,
}

/// Judges the sets, and removes those that are not kept.
#[must_use]
pub fn run(cli: &Cli, arguments: &Expire) -> Done {
    match expired(cli, arguments) {
        Ok(report) => done(&report, cli.output),
        Err(failed) => Done::failed(failed),
    }
}

fn expired(cli: &Cli, arguments: &Expire) -> Result<Report, Failed> {
    let config = config::load(&cli.config).map_err(|error| Failed::from(&error))?;
    let named: Vec<String> = arguments.node.iter().cloned().collect();
    let nodes = with_backups(&config, &named)?;
    protect(&config, &made(folders(&config, &nodes)), false)?;
    let options = Options { dry_run: arguments.dry_run, yes: arguments.yes };
    Ok(runtime()?.block_on(LocalSet::new().run_until(all(&config, &nodes, options))))
}

async fn all(config: &Config, nodes: &[Name], options: Options) -> Report {
    let pass = Pass::new(config, nodes);
    let mut report = Report { nodes: Vec::new() };
    for (subject, _) in pass.subjects() {
        let node = subject.name.as_str();
        let Some(backup) = &subject.config.backup else { continue };
        report.nodes.push(match backup::repository_of(config, subject) {
            None => continue,
            Some(Ok(repository)) => {
                let configured = Configured { backup, signers: backup::signers(config, subject) };
                expire::run(&repository, node, configured, options, Timestamp::now()).await
            }
            Some(Err(error)) => {
                let failed = Failed::from(&error);
                NodeReceipt {
                    node: node.to_owned(),
                    error: Some(failed.message.clone()),
                    failed: Some(failed),
                    ..NodeReceipt::default()
                }
            }
        });
    }
    report
}

fn done(report: &Report, format: Output) -> Done {
    let failed = |node: &NodeReceipt| node.failed.clone().map(|failed| (node.node.clone(), failed));
    let failures: Vec<_> = report.nodes.iter().filter_map(failed).collect();
    let exit_code = gravest(failures.iter().map(|(_, failed)| failed)).map_or(0, |failed| failed.fault.exit_code());
    let stdout = match format {
        Output::Json => json(report),
        Output::Text => text(report),
    };
    Done { stdout, failures, exit_code }
}

fn text(report: &Report) -> String {
    let mut rows = vec![["NODE", "SET", "VERDICT", "OUTCOME", "REASON"].map(str::to_owned)];
    for node in &report.nodes {
        for set in &node.sets {
            let (verdict, outcome) = (set.verdict.to_owned(), set.outcome.to_owned());
            rows.push([node.node.clone(), set.set.to_string(), verdict, outcome, set.reason.clone()]);
        }
    }
    output::show(&rows)
}
