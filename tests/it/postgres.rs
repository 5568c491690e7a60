//! Dumps of real servers: the snapshot and its facts, every refusal, and what becomes of a dump that does not end well.

mod facts;

use std::future::Future;

use idkeep::backup::postgres::{Error, Target};
use idkeep::config::Database;

/// As in the program: one thread.
fn on_one_thread<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let output = local.block_on(&runtime, future);
    // Children that are killed are waited for.
    runtime.shutdown_background();
    output
}

async fn target(database: &Database) -> Target {
    Target::resolve(database, None).await.unwrap_or_else(|error| panic!("{}", said(&error)))
}

fn said(error: &Error) -> String {
    idkeep::error::chain(error)
}
