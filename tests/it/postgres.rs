//! Dumps of real servers: the snapshot and its facts, every refusal, and what becomes of a dump that does not end well.

mod credentials;
mod endings;
mod exec;
mod facts;
mod names;
mod refusals;
mod secrecy;

use std::future::Future;
use std::io::Read as _;
use std::rc::Rc;
use std::thread::JoinHandle;

use idkeep::backup::facts::{Facts, ParticipantFacts, ValidatorFacts};
use idkeep::backup::postgres::{Cause, Dump, Error, Session, Target};
use idkeep::config::{Database, Role};
use idkeep::error::{Failure as _, chain};

use crate::support::postgres::{Cluster, Network};

/// The name of a run, as the program makes them.
const RUN: &str = "idkeep/node-1/database/0123abcd";

/// As in the program: one thread.
fn on_one_thread<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// A packaged server with both databases of a network.
fn node() -> (Cluster, Network) {
    node_of(Network::new())
}

fn node_of(network: Network) -> (Cluster, Network) {
    let cluster = Cluster::packaged();
    cluster.node(&network);
    (cluster, network)
}

async fn target(database: &Database) -> Target {
    Target::resolve(database, None, &Rc::default()).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

async fn session(target: &Target) -> Session {
    Session::open(target, RUN).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// Why no session comes about.
async fn refusal(database: &Database) -> Error {
    match Target::resolve(database, None, &Rc::default()).await {
        Ok(target) => match Session::open(&target, RUN).await {
            Ok(_) => panic!("{} let us in", target.at()),
            Err(error) => error,
        },
        Err(error) => error,
    }
}

/// What a session is refused for, with the exit code; the message names where, the hint what to do.
fn assert_refused(error: &Error, cause: Cause, code: u8) {
    assert_eq!((error.cause(), error.fault().exit_code()), (Some(cause), code), "{}", chain(error));
    assert!(!error.hint().unwrap().is_empty());
}

/// Reads a dump to its end, beside the runtime.
fn reading(dump: &mut Dump) -> JoinHandle<Vec<u8>> {
    let mut stdout = dump.stdout().unwrap();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

async fn validator_facts(session: &mut Session) -> ValidatorFacts {
    match session.facts(Role::Validator).await.unwrap_or_else(|error| panic!("{}", chain(&error))) {
        Facts::Validator(facts) => facts,
        other => panic!("{other:?}"),
    }
}

async fn participant_facts(session: &mut Session) -> ParticipantFacts {
    match session.facts(Role::Participant).await.unwrap_or_else(|error| panic!("{}", chain(&error))) {
        Facts::Participant(facts) => facts,
        other => panic!("{other:?}"),
    }
}
