//! What a session's role may do in its database, for `check --live`.

use serde::Deserialize;

use super::Session;
use crate::backup::postgres::Error;

/// The role's rights over tables and sequences, system schemas left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rights {
    /// How many it may not read; a dump ends at the first.
    pub unreadable: u64,
    /// How many it may write, which a dump never does.
    pub writable: u64,
}

impl Session {
    /// Asks for them.
    pub async fn rights(&mut self) -> Result<Rights, Error> {
        self.one(
            "asking for the rights in",
            "select json_build_object('unreadable', count(*) filter (where not readable), \
             'writable', count(*) filter (where writable)) from (select \
               pg_catalog.has_schema_privilege(n.oid, 'usage') and case c.relkind \
                 when 'S' then pg_catalog.has_sequence_privilege(c.oid, 'select') \
                 else pg_catalog.has_table_privilege(c.oid, 'select') end as readable, \
               case c.relkind when 'S' then pg_catalog.has_sequence_privilege(c.oid, 'update') \
                 else pg_catalog.has_table_privilege(c.oid, 'insert, update, delete, truncate') end as writable \
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
               where c.relkind in ('r', 'p', 'S', 'm') and n.nspname not like 'pg\\_%' \
                 and n.nspname <> 'information_schema') t",
        )
        .await
    }
}
