use std::io::Read as _;

use idkeep::backup::facts::Facts;
use idkeep::backup::postgres::{Dump, Session};
use idkeep::config::Role;

use super::{on_one_thread, said, target};
use crate::support::postgres::{Cluster, Network};

#[test]
fn smoke() {
    let cluster = Cluster::packaged();
    let network = Network::new();
    cluster.node(&network);
    let database = cluster.database("participant", "participant", "participant");
    on_one_thread(async {
        let target = target(&database).await;
        let mut session =
            Session::open(&target, "idkeep/n/participant/0123abcd").await.unwrap_or_else(|e| panic!("{}", said(&e)));
        let server = session.server().await.unwrap();
        println!("{server:?} {:?}", target.check_client(&server).await.unwrap());
        let snapshot = session.snapshot().await.unwrap();
        println!("{snapshot:?}");
        let facts = session.facts(Role::Participant).await.unwrap();
        println!("{facts:?}");
        assert!(matches!(facts, Facts::Participant(_)));
        let mut dump = Dump::start(&target, "idkeep/n/participant/0123abcd", &snapshot).unwrap();
        let mut stdout = dump.stdout().unwrap();
        let thread = std::thread::spawn(move || {
            let mut all = Vec::new();
            stdout.read_to_end(&mut all).unwrap();
            all
        });
        dump.finish().await.unwrap_or_else(|e| panic!("{}", said(&e)));
        let all = thread.join().unwrap();
        println!("{}", all.len());
        session.commit().await.unwrap();
        session.close().await;
    });
}
