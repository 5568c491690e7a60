//! Logs on stderr: one event per step, ours only, since what libraries log may hold headers and bodies.

use std::sync::OnceLock;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::cli::{LogFormat, LogLevel};
use crate::error::Failed;

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Starts logging.
pub fn start(format: LogFormat, level: LogLevel) {
    let _ = FORMAT.set(format);
    let level = match level {
        LogLevel::Off => return,
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let ours = Targets::new().with_target("idkeep", level);
    let layer = fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry();
    let _ = match format {
        LogFormat::Text => registry.with(layer.with_target(false).with_ansi(false).with_filter(ours)).try_init(),
        LogFormat::Json => registry
            .with(layer.json().flatten_event(true).with_span_list(false).with_target(false).with_filter(ours))
            .try_init(),
    };
}

/// True where log lines are JSON.
#[must_use]
pub fn is_json() -> bool {
    FORMAT.get() == Some(&LogFormat::Json)
}

/// A panic says where it happened and nothing else: its message may quote data.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place =
            info.location().map_or_else(|| "an unknown place".to_owned(), |at| format!("{}:{}", at.file(), at.line()));
        write(&format!("idkeep: a mistake of idkeep itself, at {place}\n"));
    }));
}

/// The failures that ended the command, each with what to do about it; JSON lines where the logs are.
pub fn failures(failures: &[(String, Failed)]) {
    for (scope, failed) in failures {
        if is_json() {
            let line = serde_json::json!({
                "timestamp": jiff::Timestamp::now().to_string(),
                "level": "ERROR",
                "scope": scope,
                "message": failed.message,
                "hint": failed.hint,
                "exit_code": failed.fault.exit_code(),
            });
            write(&format!("{line}\n"));
        } else {
            let colon = if scope.is_empty() { "" } else { ": " };
            let hint = failed.hint.as_ref().map(|hint| format!("hint: {}\n", printable(hint))).unwrap_or_default();
            // A configuration's mistakes have a line each.
            let lines: Vec<String> = failed.message.split('\n').map(printable).collect();
            write(&format!("idkeep: {}{colon}{}\n{hint}", printable(scope), lines.join("\n")));
        }
    }
}

/// The text without what a terminal would take for a command, or a reader for another line.
#[must_use]
pub fn printable(text: &str) -> String {
    let is_odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if is_odd(c) { '\u{fffd}' } else { c }).collect()
}

/// The same for a text of several lines.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    let lines: Vec<String> =
        text.split('\n').map(|line| line.split('\t').map(printable).collect::<Vec<_>>().join("\t")).collect();
    lines.join("\n")
}

fn write(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
