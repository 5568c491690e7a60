use idkeep::backup::facts::{Facts, NamespaceKey, StoreOffset, ValidatorFacts};
use idkeep::backup::postgres::{Dump, Session};
use idkeep::config::Role;
use idkeep::error::{Failure as _, Fault, chain};

use super::{RUN, node, node_of, on_one_thread, participant_facts, reading, session, target, validator_facts};
use crate::support::postgres::{Client, Cluster, NEWEST, Network, OLDEST, Store, Writer, binary, packaged};

#[test]
fn facts_are_those_of_the_dump_although_the_node_goes_on_writing() {
    let (cluster, network) = node();
    let validator = cluster.database("validator", "validator", "validator");
    let participant = cluster.database("participant", "participant", "participant");
    let writer = Writer::start((&cluster, "validator"), (&cluster, "participant"), network.ledger_end);
    for run in 0..5 {
        let (app, node) = on_one_thread(async {
            let mut dumps = Vec::new();
            for database in [&validator, &participant] {
                let target = target(database).await;
                let mut session = session(&target).await;
                let snapshot = session.snapshot().await.unwrap();
                // The node is ahead of the snapshot when it is read, and further ahead when it is dumped.
                wait_for_writes(&writer);
                let facts = session.facts(database.role).await.unwrap();
                wait_for_writes(&writer);
                let mut dump = Dump::start(&target, RUN, &snapshot).await.unwrap();
                let reading = reading(&mut dump);
                dump.finish().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
                session.commit().await.unwrap();
                session.close().await;
                dumps.push((facts, reading.join().unwrap()));
            }
            let node = dumps.pop().unwrap();
            (dumps.pop().unwrap(), node)
        });
        for (name, (facts, dump)) in [("validator", app), ("participant", node)] {
            let restored = format!("{name}-{run}");
            cluster.restore(&dump, &restored);
            let role: Role = if name == "validator" { Role::Validator } else { Role::Participant };
            assert_eq!(facts, facts_of(&cluster, &restored, role), "run {run}");
        }
    }
    assert!(writer.stop() > network.ledger_end + 20);
}

fn wait_for_writes(writer: &Writer) {
    let before = writer.at();
    crate::support::wait_for("the writer", std::time::Duration::from_secs(60), || (writer.at() > before).then_some(()));
}

fn facts_of(cluster: &Cluster, database: &str, role: Role) -> Facts {
    let name = if role == Role::Validator { "validator" } else { "participant" };
    let database = cluster.database(name, name, database);
    on_one_thread(async {
        let mut session = session(&target(&database).await).await;
        session.snapshot().await.unwrap();
        session.facts(role).await.unwrap()
    })
}

#[test]
fn every_major_version_that_the_network_uses_is_read_and_dumped() {
    for major in [OLDEST, packaged(), NEWEST] {
        let cluster = Cluster::start(major);
        let network = Network::new();
        cluster.participant("participant", &network);
        let database = cluster.database("participant", "participant", "participant");
        let (server, dump) = on_one_thread(async {
            let target = target(&database).await;
            let mut session = session(&target).await;
            let server = session.server().await.unwrap();
            assert!(target.check_client(&server).await.is_ok());
            let snapshot = session.snapshot().await.unwrap();
            let facts = participant_facts(&mut session).await;
            assert_eq!((facts.ledger_end, facts.pruned_up_to), (Some(100), Some(10)), "{major}");
            assert_eq!(facts.namespace_key, NamespaceKey::Software);
            assert_eq!(facts.full_id(), Some(format!("PAR::{}", network.participant)));
            let mut dump = Dump::start(&target, RUN, &snapshot).await.unwrap();
            let reading = reading(&mut dump);
            dump.finish().await.unwrap_or_else(|error| panic!("{major}: {}", chain(&error)));
            (server, reading.join().unwrap())
        });
        assert_eq!(server.major(), major);
        assert!(!server.is_standby && !server.is_superuser && server.database_bytes > 1 << 20);
        cluster.restore(&dump, "again");
        assert_eq!(cluster.sql("again", "select count(*) from participant.par_contracts"), "200");
    }
}

#[test]
fn the_server_is_named_by_its_own_identifier_and_timeline() {
    let cluster = Cluster::packaged();
    let database = cluster.database_at("other", "other", &cluster.socket_url("postgres", "postgres"));
    let server = on_one_thread(async { session(&target(&database).await).await.server().await.unwrap() });
    let mut control = std::process::Command::new(binary(cluster.major, "pg_controldata"));
    let control = control.env("LC_ALL", "C").arg(cluster.folder().join("data")).output().unwrap();
    let control = String::from_utf8(control.stdout).unwrap();
    let line = format!("Database system identifier:           {}\n", server.system_identifier);
    assert!(control.contains(&line), "{server:?}\n{control}");
    assert_eq!(server.timeline, 1);
    assert!(server.is_superuser, "`check --live` warns of it");
}

#[test]
fn a_table_that_is_missing_makes_its_part_unknown_and_no_other() {
    let (cluster, network) = node();
    cluster.sql("validator", "drop table validator.store_last_ingested_offsets");
    assert_eq!(facts_of(&cluster, "validator", Role::Validator), Facts::Validator(ValidatorFacts { stores: None }));
    let read = || match facts_of(&cluster, "participant", Role::Participant) {
        Facts::Participant(facts) => facts,
        other => panic!("{other:?}"),
    };
    cluster.sql("participant", "drop table participant.lapi_parameters");
    let facts = read();
    assert!(!facts.has_parameters && facts.ledger_end.is_none() && facts.participant_id.is_none());
    assert_eq!((facts.node_id, facts.namespace_key), (Some(network.participant.clone()), NamespaceKey::Software));
    cluster.sql("participant", "drop table participant.common_crypto_private_keys");
    assert_eq!(read().namespace_key, NamespaceKey::Unknown);
    cluster.sql("participant", "drop schema participant cascade");
    let facts = read();
    assert_eq!((facts.node_id, facts.namespace_key), (None, NamespaceKey::Unknown));
    // The other role's database has none of it either.
    assert_eq!(facts_of(&cluster, "participant", Role::Validator), Facts::Validator(ValidatorFacts { stores: None }));
}

#[test]
fn a_column_that_is_missing_or_a_right_makes_its_part_unknown() {
    let (cluster, _) = node();
    cluster
        .sql("participant", "alter table participant.lapi_parameters drop column participant_pruned_up_to_inclusive");
    cluster.sql("postgres", "revoke pg_read_all_data from idkeep_backup");
    cluster.sql(
        "participant",
        "grant usage on schema participant to idkeep_backup; \
         grant select on participant.lapi_parameters, participant.common_node_id to idkeep_backup",
    );
    let Facts::Participant(facts) = facts_of(&cluster, "participant", Role::Participant) else { panic!() };
    assert!(!facts.has_parameters && facts.namespace.is_some());
    assert_eq!(facts.namespace_key, NamespaceKey::Unknown, "the tables of keys may not be read");
    assert_eq!(facts_of(&cluster, "validator", Role::Validator), Facts::Validator(ValidatorFacts { stores: None }));
}

#[test]
fn offsets_are_numbers_or_nothing_with_or_without_a_store() {
    let mut network = Network::new();
    network.stores = vec![
        Store { id: 7, migration: 3, offset: Some(66) },
        Store { id: 8, migration: 3, offset: None },
        Store { id: 9, migration: 2, offset: Some(0) },
    ];
    let (cluster, _) = node_of(network);
    cluster.sql(
        "validator",
        "update validator.store_last_ingested_offsets set last_ingested_offset = '' where store_id = 9",
    );
    let row = |store_id, migration_id, offset| StoreOffset { store_id, migration_id, offset };
    let read = || match facts_of(&cluster, "validator", Role::Validator) {
        Facts::Validator(ValidatorFacts { stores: Some(mut stores) }) => {
            stores.sort_by_key(|store| (store.store_id, store.migration_id));
            stores
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(read(), [row(Some(7), 3, Some(66)), row(Some(8), 3, None), row(Some(9), 2, None)]);
    cluster.sql("validator", "alter table validator.store_last_ingested_offsets drop column store_id");
    assert_eq!(read(), [row(None, 2, None), row(None, 3, Some(66)), row(None, 3, None)].map(|row| row));
}

#[test]
fn an_offset_that_is_none_is_an_error_and_never_a_fact() {
    let (cluster, _) = node();
    let database = cluster.database("validator", "validator", "validator");
    for offset in ["66x", "-1", "00000000000000008000000000000000", "0x42", " ", "00000000000000004A"] {
        let sql = format!(
            "update validator.store_last_ingested_offsets set last_ingested_offset = '{offset}' where store_id = 2"
        );
        cluster.sql("validator", &sql);
        on_one_thread(async {
            let mut session = session(&target(&database).await).await;
            session.snapshot().await.unwrap();
            let error = session.facts(Role::Validator).await.unwrap_err();
            assert_eq!(error.fault(), Fault::Config, "{offset:?}");
            let message = chain(&error);
            assert!(message.contains("store_last_ingested_offsets") && !message.contains("4A"), "{message}");
        });
    }
}

#[test]
fn the_namespace_key_is_looked_for_where_it_can_be() {
    let cluster = Cluster::packaged();
    let software = Network::new();
    let kms = Network { keys: Network::new().keys, kms: vec![software.namespace().to_owned()], ..software.clone() };
    let neither = Network { keys: Network::new().keys, kms: vec!["1220cc".into()], ..software.clone() };
    let wanted = [NamespaceKey::Software, NamespaceKey::Kms, NamespaceKey::Absent];
    for (index, (network, wanted)) in [&software, &kms, &neither].into_iter().zip(wanted).enumerate() {
        let name = format!("participant-{index}");
        cluster.participant(&name, network);
        let Facts::Participant(facts) = facts_of(&cluster, &name, Role::Participant) else { panic!() };
        assert_eq!(facts.namespace_key, wanted);
    }
    // Without the name of its fingerprint nothing can be said about a KMS; a key among the others still counts.
    for name in ["participant-0", "participant-2"] {
        cluster.sql(name, "alter table participant.common_kms_metadata_store rename column fingerprint to print");
    }
    for (name, wanted) in [("participant-0", NamespaceKey::Software), ("participant-2", NamespaceKey::Unknown)] {
        let Facts::Participant(facts) = facts_of(&cluster, name, Role::Participant) else { panic!() };
        assert_eq!(facts.namespace_key, wanted);
    }
}

#[test]
fn a_null_that_says_nothing_was_pruned_is_told_from_a_row_that_is_missing() {
    let network = Network { pruned: None, ..Network::new() };
    let (cluster, _) = node_of(network);
    let Facts::Participant(facts) = facts_of(&cluster, "participant", Role::Participant) else { panic!() };
    assert!(facts.has_parameters && facts.pruned_up_to.is_none() && facts.ledger_end == Some(100));
    cluster.sql("participant", "delete from participant.lapi_parameters");
    let Facts::Participant(facts) = facts_of(&cluster, "participant", Role::Participant) else { panic!() };
    assert!(!facts.has_parameters);
}

#[test]
fn a_standby_says_that_it_is_one_and_how_far_it_has_replayed() {
    let (cluster, network) = node();
    let standby = cluster.standby();
    standby.pause_replay();
    let database = standby.database("participant", "participant", "participant");
    cluster.sql("participant", "update participant.lapi_parameters set ledger_end = 200");
    on_one_thread(async {
        let target = target(&database).await;
        let mut session = session(&target).await;
        let server = session.server().await.unwrap();
        assert!(server.is_standby);
        let replayed = || standby.sql("postgres", "select pg_last_wal_replay_lsn()");
        let snapshot = session.snapshot().await.unwrap();
        assert_eq!(snapshot.wal_lsn, replayed());
        assert_eq!(participant_facts(&mut session).await.ledger_end, Some(network.ledger_end), "it lags");
        let mut dump = Dump::start(&target, RUN, &snapshot).await.unwrap();
        let reading = reading(&mut dump);
        dump.finish().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert!(!reading.join().unwrap().is_empty());
        session.commit().await.unwrap();
        // Asked again, the same session sees what has been replayed meanwhile.
        standby.resume_replay();
        let mut last = None;
        while last != Some(200) {
            session.snapshot().await.unwrap();
            last = participant_facts(&mut session).await.ledger_end;
            session.commit().await.unwrap();
        }
    });
}

#[test]
fn a_session_outlives_the_timeouts_of_its_server() {
    let cluster = Cluster::with_settings(
        "idle_in_transaction_session_timeout = 1000\nidle_session_timeout = 1000\nstatement_timeout = 60000\n",
    );
    cluster.validator("validator", &Network::new());
    let database = cluster.database("validator", "validator", "validator");
    on_one_thread(async {
        let mut session = session(&target(&database).await).await;
        session.snapshot().await.unwrap();
        // Others are ended meanwhile.
        let mut other: Client = cluster.client("postgres");
        other.send("begin");
        other.rows();
        crate::support::wait_for("the server to end an idle session", std::time::Duration::from_secs(60), || {
            cluster.log().contains("idle-in-transaction timeout").then_some(())
        });
        assert!(validator_facts(&mut session).await.stores.is_some());
        session.commit().await.unwrap();
    });
}

#[test]
fn a_role_of_which_nothing_is_known_has_no_facts() {
    let (cluster, _) = node();
    assert_eq!(facts_of_other(&cluster), Facts::None);
}

fn facts_of_other(cluster: &Cluster) -> Facts {
    let database = cluster.database("sv", "sv", "validator");
    on_one_thread(async {
        let mut session: Session = session(&target(&database).await).await;
        session.snapshot().await.unwrap();
        session.facts(Role::Sv).await.unwrap()
    })
}

#[test]
fn nothing_that_the_owner_puts_in_the_way_runs_with_our_rights() {
    let (cluster, _) = node();
    cluster.sql(
        "validator",
        "create schema evil; grant usage on schema evil to public; create table evil.calls(n int); \
         grant all on evil.calls to public; \
         create function evil.pg_is_in_recovery() returns boolean language plpgsql as \
           'begin insert into evil.calls values (1); return true; end'; \
         alter role idkeep_backup in database validator set search_path = evil, pg_catalog",
    );
    let database = cluster.database("validator", "validator", "validator");
    on_one_thread(async {
        let mut session = session(&target(&database).await).await;
        assert!(!session.server().await.unwrap().is_standby);
    });
    cluster.sql(
        "validator",
        "drop table validator.store_last_ingested_offsets; \
         create view validator.store_last_ingested_offsets as \
           select 1 as store_id, 3 as migration_id, evil.pg_is_in_recovery()::text as last_ingested_offset",
    );
    assert_eq!(facts_of(&cluster, "validator", Role::Validator), Facts::Validator(ValidatorFacts { stores: None }));
    assert_eq!(cluster.sql("validator", "select count(*) from evil.calls"), "0");
}

/// A type of the owner's, which PostgreSQL would make into JSON by a function of the owner's.
#[test]
fn no_cast_of_the_owners_runs_with_our_rights() {
    let (cluster, _) = node();
    for name in ["validator", "participant"] {
        cluster.sql(
            name,
            "create schema evil; grant usage on schema evil to public; create type evil.number as enum ('2', '3', '100'); \
             create function evil.made(evil.number) returns json language plpgsql as \
               'begin raise exception ''with rights of %'', current_user; end'; \
             create cast (evil.number as json) with function evil.made(evil.number)",
        );
    }
    let change = |database: &str, table: &str, column: &str| {
        let alter = format!("alter table {table} alter {column} type evil.number using {column}::text::evil.number");
        cluster.sql(database, &alter);
    };
    let Facts::Validator(before) = facts_of(&cluster, "validator", Role::Validator) else { panic!() };
    cluster.sql(
        "validator",
        "alter table validator.store_last_ingested_offsets drop constraint if exists store_last_ingested_offsets_pkey",
    );
    change("validator", "validator.store_last_ingested_offsets", "migration_id");
    assert_eq!(facts_of(&cluster, "validator", Role::Validator), Facts::Validator(before));
    change("participant", "participant.lapi_parameters", "ledger_end");
    let Facts::Participant(facts) = facts_of(&cluster, "participant", Role::Participant) else { panic!() };
    assert_eq!(facts.ledger_end, Some(100));
}

#[test]
fn no_policy_of_the_owners_runs_with_our_rights_nor_hides_a_row() {
    let (cluster, _) = node();
    cluster.sql(
        "validator",
        "create schema evil; grant usage on schema evil to public; \
         create function evil.shown() returns boolean language plpgsql as \
           'begin raise exception ''with rights of %'', current_user; end'; \
         alter table validator.store_last_ingested_offsets enable row level security; \
         create policy evil on validator.store_last_ingested_offsets using (evil.shown())",
    );
    assert_eq!(facts_of(&cluster, "validator", Role::Validator), Facts::Validator(ValidatorFacts { stores: None }));
}
