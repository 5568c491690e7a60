//! Progress of a dump: a bar on a terminal, a line every ten seconds elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, interval_at};

use super::stream::Progress;
use crate::log;

/// Between two lines of the log.
const LINE: Duration = Duration::from_secs(10);

/// Between two looks of the bar.
const LOOK: Duration = Duration::from_millis(200);

/// How long a dump may stand still. One part of the largest size may take half an hour, and be sent twice.
pub const PATIENCE: Duration = Duration::from_hours(1);

/// Returns once neither the dump nor what becomes of it has moved for [`PATIENCE`]: a frozen container, storage that
/// hangs below a server that still answers. Nothing else would ever end it.
pub async fn stalled(progress: &Progress) {
    still(|| (progress.plain_bytes(), progress.stored_bytes())).await;
}

async fn still(seen: impl Fn() -> (u64, u64)) {
    let mut ticks = interval_at(Instant::now() + LINE, LINE);
    let mut moved = (seen(), Instant::now());
    while moved.1.elapsed() < PATIENCE {
        ticks.tick().await;
        let now = seen();
        if now != moved.0 {
            moved = (now, Instant::now());
        }
    }
}

/// Shows how far a dump is until it is dropped. `size` is the database's, in bytes: what is written is about as much.
pub async fn show(progress: &Progress, node: &str, database: &str, size: u64) {
    if std::io::stderr().is_terminal() && !log::is_json() {
        bar(progress, database, size).await;
    } else {
        lines(progress, node, database, size).await;
    }
}

async fn lines(progress: &Progress, node: &str, database: &str, size: u64) {
    let started = Instant::now();
    let mut ticks = interval_at(started + LINE, LINE);
    loop {
        ticks.tick().await;
        let plain_bytes = progress.plain_bytes();
        let elapsed = started.elapsed();
        let bytes_per_second = per_second(plain_bytes, elapsed);
        let eta_s = eta(plain_bytes, size, bytes_per_second);
        let stored_bytes = progress.stored_bytes();
        tracing::info!(node, database, plain_bytes, stored_bytes, size, bytes_per_second, eta_s, "dumping");
    }
}

async fn bar(progress: &Progress, database: &str, size: u64) {
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr());
    let style = "{prefix:12} [{bar:32}] {bytes} of about {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(database.to_owned());
    let bar = Shown(bar);
    let mut ticks = interval_at(Instant::now(), LOOK);
    loop {
        ticks.tick().await;
        let plain_bytes = progress.plain_bytes();
        // The estimate was too low: a bar beyond its end would say nothing.
        if plain_bytes > bar.0.length().unwrap_or(0) {
            bar.0.set_length(plain_bytes);
        }
        bar.0.set_position(plain_bytes);
    }
}

/// Takes the bar off the terminal, however the dump ends.
struct Shown(ProgressBar);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn per_second(bytes: u64, elapsed: Duration) -> u64 {
    u64::try_from(u128::from(bytes) * 1000 / elapsed.as_millis().max(1)).unwrap_or(u64::MAX)
}

/// Seconds left, as far as the database's size tells.
fn eta(plain_bytes: u64, size: u64, bytes_per_second: u64) -> Option<u64> {
    size.saturating_sub(plain_bytes).checked_div(bytes_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dump_that_moves_now_and_then_is_left_alone_and_one_that_stands_still_is_not() {
        let started = Instant::now();
        // It moves for two hours, once in three quarters of one.
        let seen = || (started.elapsed().as_secs().min(2 * 3600) / (45 * 60), 7);
        still(seen).await;
        let took = started.elapsed();
        let last_move = Duration::from_mins(90);
        assert!(took >= last_move + PATIENCE && took <= last_move + PATIENCE + LINE * 2, "{took:?}");
    }

    #[test]
    fn rate_and_time_left_follow_from_what_was_written() {
        assert_eq!(per_second(3_000, Duration::from_millis(1_500)), 2_000);
        assert_eq!(eta(3_000, 7_000, 2_000), Some(2));
        assert_eq!(eta(9_000, 7_000, 2_000), Some(0), "more than was expected");
        assert_eq!(eta(0, 7_000, 0), None, "nothing came yet");
    }
}
