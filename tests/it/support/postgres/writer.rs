//! A node at work: the participant goes ahead, the app follows, and is never ahead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;

use super::schema::hexadecimal;
use super::{Client, Cluster};

/// Advances both databases, step by step, until it is dropped.
pub struct Writer {
    is_stopped: Arc<AtomicBool>,
    at: Arc<AtomicI64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// From this offset on, in the newest migration (3) of [`super::Network::new`].
    pub fn start(validator: (&Cluster, &str), participant: (&Cluster, &str), from: i64) -> Self {
        let mut app = validator.0.client(validator.1);
        let mut node = participant.0.client(participant.1);
        let (is_stopped, at) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(from)));
        let (stop, progress) = (is_stopped.clone(), at.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let offset = progress.load(Ordering::Relaxed) + 1;
                step(&mut node, &mut app, offset);
                progress.store(offset, Ordering::Relaxed);
            }
        });
        Self { is_stopped, at, thread: Some(thread) }
    }

    /// How far both are.
    pub fn at(&self) -> i64 {
        self.at.load(Ordering::Relaxed)
    }

    /// Stops, and says how far it came.
    pub fn stop(mut self) -> i64 {
        self.end();
        self.at()
    }

    fn end(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the writer failed");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn step(node: &mut Client, app: &mut Client, offset: i64) {
    node.run(&format!(
        "begin; insert into participant.par_contracts(contract_id, instance) \
         values (decode(md5('w{offset}'), 'hex'), decode(repeat(md5('{offset}'), 8), 'hex')) on conflict do nothing; \
         update participant.lapi_parameters set ledger_end = {offset}; commit"
    ));
    app.run(&format!(
        "begin; insert into validator.update_history_transactions(update_id) values (md5('{offset}')); \
         update validator.store_last_ingested_offsets set last_ingested_offset = '{}' where migration_id = 3; commit",
        hexadecimal(offset)
    ));
}
