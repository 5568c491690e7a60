//! The state as Prometheus reads it: text format 0.0.4.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::status::{BackupStatus, Counts, IdentityStatus, Status};

/// Every metric of this instant.
#[must_use]
pub fn render(status: &Status, now: Timestamp) -> String {
    let mut page = Page::default();
    page.family("idkeep_build_info", "gauge", "The idkeep that runs.");
    page.sample(&[("version", status.version)], 1.0);
    page.family("idkeep_schedule_interval_seconds", "gauge", "The longest stretch between two starts of a task.");
    for (task, seconds) in &status.schedule {
        page.sample(&[("task", task)], *seconds);
    }
    page.family("idkeep_config_reload_total", "counter", "Times the configuration was read again.");
    page.outcomes(&[], &status.reload.total, &["done", "failed"]);
    page.family(
        "idkeep_config_last_reload_successful",
        "gauge",
        "0 where the configuration in force is not the file's.",
    );
    page.sample(&[], f64::from(u8::from(status.reload.is_current)));
    page.family("idkeep_heartbeat_total", "counter", "Calls of the heartbeat.");
    page.outcomes(&[], &status.heartbeats, &["done", "failed"]);
    identities(&mut page, status);
    backups(&mut page, status, now);
    page.text
}

/// One gauge: its name, its help, and how it is taken from a node.
type Gauge<T> = (&'static str, &'static str, fn(&T) -> Option<f64>);

/// One counter of a node's sets: its name, its help, how it is taken, and the outcomes that it counts.
type Counter = (&'static str, &'static str, fn(&BackupStatus) -> &Counts, &'static [&'static str]);

const IDENTITY_GAUGES: [Gauge<IdentityStatus>; 3] = [
    ("idkeep_sync_last_success_timestamp_seconds", "When the identities were last known to be stored.", |status| {
        status.last_success_at.map(unix)
    }),
    ("idkeep_sync_duration_seconds", "How long the last pass took.", |status| {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of one pass")]
        status.elapsed_ms.map(|millis| millis as f64 / 1000.0)
    }),
    ("idkeep_identity_bytes", "Size of the last dump of identities.", |status| {
        #[expect(clippy::cast_precision_loss, reason = "at most 1 MiB")]
        status.bytes.map(|bytes| bytes as f64)
    }),
];

fn identities(page: &mut Page, status: &Status) {
    let nodes = || status.nodes.iter().map(|(name, node)| (name.as_str(), &node.identities));
    page.family("idkeep_sync_total", "counter", "Passes over a node's identities.");
    for (node, status) in nodes() {
        page.outcomes(&[("node", node)], &status.total, &["written", "unchanged", "repaired", "failed"]);
    }
    page.family("idkeep_sync_refused_total", "counter", "Passes whose identities are not to be stored (exit code 65).");
    for (node, status) in nodes() {
        page.count(&[("node", node)], status.refused);
    }
    for (name, help, value) in IDENTITY_GAUGES {
        page.family(name, "gauge", help);
        for (node, status) in nodes() {
            page.known(&[("node", node)], value(status));
        }
    }
    page.family("idkeep_identity_info", "gauge", "Whose identities are stored, and what is known of their keys.");
    for (node, status) in nodes() {
        let IdentityStatus { participant_id: Some(id), key_kind: Some(kind), key_proof: Some(proof), .. } = status
        else {
            continue;
        };
        let labels = [("node", node), ("participant_id", id), ("key_kind", kind), ("key_proof", proof)];
        page.sample(&labels, 1.0);
    }
    page.family("idkeep_store_write_total", "counter", "What became of each store in each pass.");
    for (node, status) in nodes() {
        for (store, status) in &status.stores {
            let labels = [("node", node), ("store", store)];
            page.outcomes(&labels, &status.total, &["written", "unchanged", "repaired", "failed"]);
        }
    }
    page.family("idkeep_store_fill_ratio", "gauge", "The part of one secret's limit that the identities fill.");
    for (node, status) in nodes() {
        for (store, status) in &status.stores {
            page.known(&[("node", node), ("store", store)], status.fill_ratio);
        }
    }
}

const BACKUP_COUNTERS: [Counter; 3] = [
    ("idkeep_backup_total", "Runs for a set.", |status| &status.total, &["published", "rejected", "failed"]),
    (
        "idkeep_verify_total",
        "Verifications of the newest set; `failed` could not look.",
        |status| &status.verified,
        &["pass", "warn", "unknown", "fail", "failed"],
    ),
    ("idkeep_expire_total", "Expiries of sets.", |status| &status.expired, &["done", "failed"]),
];

const BACKUP_GAUGES: [Gauge<BackupStatus>; 5] = [
    (
        "idkeep_backup_last_success_timestamp_seconds",
        "When the newest set's first snapshot was taken, the validator's.",
        |status| Some(unix(status.newest()?.snapshot_at)),
    ),
    ("idkeep_backup_offset_lag", "The participant's ledger end less what the validator had ingested.", |status| {
        #[expect(clippy::cast_precision_loss, reason = "a difference of offsets")]
        Some(status.newest()?.offset_lag? as f64)
    }),
    ("idkeep_backup_objective_seconds", "The age at which the newest set is too old.", |status| {
        status.objective_seconds
    }),
    ("idkeep_backup_pruning_retention_seconds", "What the gap between two sets must stay below.", |status| {
        status.pruning_retention_seconds
    }),
    ("idkeep_verify_last_success_timestamp_seconds", "When a set last passed verification.", |status| {
        status.sets.as_ref()?.verified_at.map(unix)
    }),
];

fn backups(page: &mut Page, status: &Status, now: Timestamp) {
    let nodes = || status.nodes.iter().filter_map(|(name, node)| Some((name.as_str(), node.backups.as_ref()?)));
    for (name, help, counts, outcomes) in BACKUP_COUNTERS {
        page.family(name, "counter", help);
        for (node, status) in nodes() {
            page.outcomes(&[("node", node)], counts(status), outcomes);
        }
    }
    for (name, help, value) in BACKUP_GAUGES {
        page.family(name, "gauge", help);
        for (node, status) in nodes() {
            page.known(&[("node", node)], value(status));
        }
    }
    page.family("idkeep_backup_gap_seconds", "gauge", "The longest stretch without a set, up to now.");
    for (node, status) in nodes() {
        page.known(&[("node", node)], status.sets.as_ref().and_then(|sets| sets.gap(now)));
    }
    let dumps = || {
        let newest = nodes().filter_map(|(node, status)| Some((node, status.newest()?)));
        newest.flat_map(|(node, newest)| newest.databases.iter().map(move |database| (node, database)))
    };
    page.family("idkeep_backup_bytes", "gauge", "Size of the newest set's dumps as stored.");
    for (node, database) in dumps() {
        page.count(&[("node", node), ("database", &database.name)], database.bytes);
    }
    page.family("idkeep_backup_duration_seconds", "gauge", "How long the newest set's dumps took.");
    for (node, database) in dumps() {
        page.known(&[("node", node), ("database", &database.name)], database.seconds);
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970, to the millisecond")]
fn unix(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

#[derive(Default)]
struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.labels(labels);
        let _ = writeln!(self.text, " {value}");
    }

    fn known(&mut self, labels: &[(&str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            self.sample(labels, value);
        }
    }

    fn count(&mut self, labels: &[(&str, &str)], count: u64) {
        self.labels(labels);
        let _ = writeln!(self.text, " {count}");
    }

    /// One series for each outcome, also those that have not come yet: a counter that starts at one has no increase.
    fn outcomes(&mut self, labels: &[(&str, &str)], counts: &Counts, outcomes: &[&'static str]) {
        for outcome in outcomes {
            self.count(&[labels, &[("outcome", outcome)]].concat(), counts.get(outcome).copied().unwrap_or(0));
        }
    }

    fn labels(&mut self, labels: &[(&str, &str)]) {
        self.text.push_str(self.family);
        for (at, (name, value)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{name}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_numbers_are_whole_where_they_are() {
        let mut page = Page::default();
        page.family("idkeep_test", "gauge", "A test.");
        page.sample(&[("a", "b\"\\\n")], 1.5);
        page.sample(&[], 1_800_000_000.0);
        page.count(&[("a", "b")], u64::MAX);
        let expected = "# HELP idkeep_test A test.\n# TYPE idkeep_test gauge\nidkeep_test{a=\"b\\\"\\\\\\n\"} 1.5\n\
                        idkeep_test 1800000000\nidkeep_test{a=\"b\"} 18446744073709551615\n";
        assert_eq!(page.text, expected);
    }
}
