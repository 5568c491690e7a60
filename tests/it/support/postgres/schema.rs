//! The two databases of a node as Splice lays them out, as far as a backup looks at them, with bulk around it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Cluster;

/// How far one store of the app has read.
#[derive(Debug, Clone, Copy)]
pub struct Store {
    pub id: i64,
    pub migration: i64,
    /// `None` writes a null.
    pub offset: Option<i64>,
}

/// What both databases say, made up.
#[derive(Debug, Clone)]
pub struct Network {
    /// `identifier::namespace`.
    pub participant: String,
    pub ledger_end: i64,
    pub pruned: Option<i64>,
    pub stores: Vec<Store>,
    /// The private keys by their ids. None is real.
    pub keys: Vec<(String, Vec<u8>)>,
    /// The ids of keys that a KMS holds.
    pub kms: Vec<String>,
    /// Bulk rows in the participant's database, of about 1 kB each.
    pub rows: u32,
}

impl Network {
    /// A participant whose namespace key is among its keys, with two stores of the app at 66 and a ledger at 100.
    pub fn new() -> Self {
        let namespace: String = (0..32).map(|_| format!("{:02x}", fastrand::u8(..))).collect();
        let namespace = format!("1220{namespace}");
        let key = |id: &str| (id.to_owned(), (0..120).map(|_| fastrand::u8(..)).collect());
        Self {
            participant: format!("acme::{namespace}"),
            ledger_end: 100,
            pruned: Some(10),
            stores: vec![
                Store { id: 1, migration: 3, offset: Some(66) },
                Store { id: 2, migration: 3, offset: Some(66) },
                Store { id: 1, migration: 2, offset: Some(40) },
            ],
            keys: vec![key(&namespace), key("1220aa"), key("1220bb")],
            kms: Vec::new(),
            rows: 200,
        }
    }

    pub fn namespace(&self) -> &str {
        self.participant.split_once("::").unwrap().1
    }
}

impl Cluster {
    /// Both databases, by their usual names.
    pub fn node(&self, network: &Network) {
        self.validator("validator", network);
        self.participant("participant", network);
    }

    /// The validator app's database.
    pub fn validator(&self, database: &str, network: &Network) {
        let mut sql = String::from(
            "create schema validator;\n\
             create table validator.store_descriptors(id serial primary key, descriptor jsonb not null);\n\
             create table validator.store_last_ingested_offsets(store_id integer not null, migration_id bigint not null, \
               last_ingested_offset text, primary key (store_id, migration_id));\n\
             create table validator.update_history_transactions(row_id bigserial primary key, update_id text not null, \
               record_time timestamptz not null default now(), workflow_id text);\n\
             insert into validator.store_descriptors(descriptor) select jsonb_build_object('party', md5(n::text)) \
               from generate_series(1, 5) n;\n\
             insert into validator.update_history_transactions(update_id, workflow_id) \
               select md5(n::text), md5((n * 7)::text) from generate_series(1, 500) n;\n",
        );
        for store in &network.stores {
            let offset = store.offset.map_or_else(|| "null".into(), |offset| format!("'{}'", hexadecimal(offset)));
            let _ = writeln!(
                sql,
                "insert into validator.store_last_ingested_offsets values ({}, {}, {offset});",
                store.id, store.migration
            );
        }
        self.create(database, &sql);
    }

    /// The participant's database.
    pub fn participant(&self, database: &str, network: &Network) {
        let mut sql = String::from(
            "create schema participant;\n\
             create table participant.lapi_parameters(participant_id varchar not null, ledger_end bigint, \
               ledger_end_sequential_id bigint, participant_pruned_up_to_inclusive bigint);\n\
             create table participant.common_node_id(identifier varchar not null, namespace varchar not null, \
               primary key (identifier, namespace));\n\
             create table participant.common_crypto_private_keys(key_id varchar primary key, wrapper_key_id varchar, \
               purpose char(1) not null, private_key bytea not null, name varchar);\n\
             create table participant.common_kms_metadata_store(fingerprint varchar primary key, \
               kms_key_id varchar not null, purpose char(1) not null);\n\
             create table participant.par_contracts(contract_id bytea primary key, instance bytea not null, \
               package_id varchar, template_id varchar);\n\
             create index on participant.par_contracts(package_id);\n",
        );
        if self.major != super::NEWEST {
            sql.push_str("create extension pgcrypto;\n");
        }
        let end = network.ledger_end;
        let pruned = network.pruned.map_or_else(|| "null".into(), |offset| offset.to_string());
        let (identifier, namespace) = network.participant.split_once("::").unwrap();
        let _ = writeln!(
            sql,
            "insert into participant.lapi_parameters values ('{}', {end}, {end}, {pruned});\n\
             insert into participant.common_node_id values ('{identifier}', '{namespace}');\n\
             insert into participant.par_contracts select decode(md5(n::text), 'hex'), \
               decode((select string_agg(md5((n * 1000 + m)::text), '') from generate_series(1, 64) m), 'hex'), \
               md5((n % 20)::text), 'Splice.Amulet:Amulet' from generate_series(1, {}) n;",
            network.participant, network.rows
        );
        for (id, key) in &network.keys {
            let key = STANDARD.encode(key);
            let _ = writeln!(
                sql,
                "insert into participant.common_crypto_private_keys values \
                 ('{id}', null, 'S', decode('{key}', 'base64'), 'namespace');"
            );
        }
        for id in &network.kms {
            let _ = writeln!(sql, "insert into participant.common_kms_metadata_store values ('{id}', 'kms-1', 'S');");
        }
        self.create(database, &sql);
    }

    /// A database, and what is in it, made in one go.
    pub fn create(&self, database: &str, sql: &str) {
        self.sql("postgres", &format!("create database \"{database}\""));
        self.sql(database, sql);
    }
}

/// An offset as the app writes it.
pub fn hexadecimal(offset: i64) -> String {
    format!("{offset:018x}")
}
