//! Rules of what the daemon answers, and of whom it tells.

use super::super::document::Findings;
use super::super::{Config, Heartbeat, Period, StatusFor};
use super::{judge_period, judge_tls};

pub(super) fn judge(config: &Config, findings: &mut Findings) {
    let server = &config.server;
    if !server.listen.ip().to_canonical().is_loopback() {
        let pages = match server.status {
            StatusFor::Loopback => "`/metrics` and `/readyz`",
            StatusFor::All => "`/metrics`, `/readyz` and `/status`",
        };
        findings.warning(
            "server.listen",
            format!(
                "whoever reaches this port reads the names of nodes, stores and participants, and how they fare \
                 ({pages}), though no secret"
            ),
            "listen on 127.0.0.1, or let nobody but the monitoring reach it",
        );
    }
    if let Some(heartbeat) = &config.heartbeat {
        judge_heartbeat(heartbeat, findings);
        judge_caller(config, findings);
    }
}

/// Only identities that are stored lead to a call.
fn judge_caller(config: &Config, findings: &mut Findings) {
    if config.schedule.identities.is_none() && config.schedule.tasks().next().is_some() {
        findings.warning(
            "heartbeat",
            "`run` calls it once all identities were stored, and they are not scheduled",
            "add `schedule.identities`; `idkeep sync` over all nodes calls it too",
        );
    }
}

/// Its address is a secret: whether it is encrypted is seen when it is read.
fn judge_heartbeat(heartbeat: &Heartbeat, findings: &mut Findings) {
    judge_tls(&heartbeat.tls, "heartbeat.tls", findings);
    judge_period(heartbeat.timeout, Period::seconds(1), "heartbeat.timeout", findings);
}
