//! The facts of a database, read in the snapshot that is dumped. No key leaves the server: it only compares.
//!
//! A column may be of any type that the database's owner has made, and a cast from it runs the owner's function with
//! our rights. Its text form does not ([`text`]), and becomes a number only here.

use std::num::ParseIntError;

use serde::Deserialize;
use serde_json::Value;

use super::Error;
use super::session::{Answer, Session};
use crate::backup::facts::{Facts, NamespaceKey, ParticipantFacts, StoreOffset, ValidatorFacts};
use crate::config::Role;

const DOING: &str = "reading the facts of";

/// What the server answers where there is no such table or column, no right to read it, or a view in its place.
const NOT_THERE: [&str; 5] = ["42P01", "42703", "3F000", "42501", "55000"];

const OFFSETS: &str = "validator.store_last_ingested_offsets";
const PARAMETERS: &str = "participant.lapi_parameters";
const NODE: &str = "participant.common_node_id";

#[derive(Deserialize)]
struct OffsetRow {
    store_id: Option<String>,
    migration_id: String,
    offset: Option<String>,
}

#[derive(Deserialize)]
struct ParametersRow {
    ledger_end: Option<String>,
    participant_id: Option<String>,
    pruned_up_to: Option<String>,
}

#[derive(Deserialize)]
struct NodeRow {
    identifier: String,
    namespace: String,
}

impl Session {
    /// What the database says about itself; to be asked between [`Session::snapshot`] and [`Session::commit`].
    pub async fn facts(&mut self, role: Role) -> Result<Facts, Error> {
        Ok(match role {
            Role::Validator => Facts::Validator(self.validator().await?),
            Role::Participant => Facts::Participant(self.participant().await?),
            _ => Facts::None,
        })
    }

    async fn validator(&mut self) -> Result<ValidatorFacts, Error> {
        let mut rows = None;
        // The store's id is not in every version.
        for store_id in [text("store_id"), "null".into()] {
            let (migration_id, offset) = (text("migration_id"), text("last_ingested_offset"));
            let sql = format!(
                "select json_build_object('store_id', {store_id}, 'migration_id', {migration_id}, 'offset', {offset}) \
                 from {OFFSETS} t"
            );
            if rows.is_none() {
                rows = self.table(&sql).await?;
            }
        }
        let Some(rows) = rows else { return Ok(ValidatorFacts::default()) };
        let offset = |row: Value| {
            let row: OffsetRow = serde_json::from_value(row).ok()?;
            let offset = match row.offset.as_deref() {
                None | Some("") => None,
                Some(text) => Some(hexadecimal(text)?),
            };
            let migration_id = row.migration_id.parse().ok()?;
            Some(StoreOffset { store_id: number(row.store_id.as_deref()).ok()?, migration_id, offset })
        };
        let stores: Option<Vec<_>> = rows.into_iter().map(offset).collect();
        Ok(ValidatorFacts { stores: Some(stores.ok_or_else(|| self.malformed(OFFSETS))?) })
    }

    async fn participant(&mut self) -> Result<ParticipantFacts, Error> {
        let mut facts = ParticipantFacts::default();
        let sql = format!(
            "select json_build_object('ledger_end', {}, 'participant_id', {}, 'pruned_up_to', {}) from {PARAMETERS} t",
            text("ledger_end"),
            text("participant_id"),
            text("participant_pruned_up_to_inclusive"),
        );
        if let Some(row) = self.row::<ParametersRow>(&sql, PARAMETERS).await? {
            facts.ledger_end = number(row.ledger_end.as_deref()).map_err(|_| self.malformed(PARAMETERS))?;
            facts.pruned_up_to = number(row.pruned_up_to.as_deref()).map_err(|_| self.malformed(PARAMETERS))?;
            facts.participant_id = row.participant_id.filter(|id| is_plain(id));
            facts.has_parameters = true;
        }
        let (identifier, namespace) = (text("identifier"), text("namespace"));
        let sql =
            format!("select json_build_object('identifier', {identifier}, 'namespace', {namespace}) from {NODE} t");
        if let Some(row) = self.row::<NodeRow>(&sql, NODE).await?
            && is_plain(&row.identifier)
            && is_plain(&row.namespace)
        {
            facts.node_id = Some(format!("{}::{}", row.identifier, row.namespace));
            facts.namespace = Some(row.namespace);
        }
        let of_id = || facts.participant_id.as_ref().and_then(|id| id.split_once("::")).map(|(_, namespace)| namespace);
        if let Some(namespace) = facts.namespace.as_deref().or_else(of_id) {
            facts.namespace_key = self.namespace_key(namespace).await?;
        }
        Ok(facts)
    }

    async fn namespace_key(&mut self, namespace: &str) -> Result<NamespaceKey, Error> {
        // It stands inside quotes: a fingerprint is hexadecimal.
        if namespace.is_empty() || !namespace.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Ok(NamespaceKey::Unknown);
        }
        let names = |table: &str, column: &str| {
            let key = text(column);
            format!("select to_json(exists(select from participant.{table} t where {key} = '{namespace}'))")
        };
        let software = self.answer_to(&names("common_crypto_private_keys", "key_id")).await?;
        if software == Some(true) {
            return Ok(NamespaceKey::Software);
        }
        // The column's name is not the same in every version; without one of them nothing was looked at.
        let mut kms = None;
        for column in ["fingerprint", "key_id"] {
            kms = kms.max(self.answer_to(&names("common_kms_metadata_store", column)).await?);
        }
        Ok(match (software, kms) {
            (_, Some(true)) => NamespaceKey::Kms,
            (Some(false), Some(false)) => NamespaceKey::Absent,
            _ => NamespaceKey::Unknown,
        })
    }

    /// A yes or no, or nothing where it cannot be told.
    async fn answer_to(&mut self, sql: &str) -> Result<Option<bool>, Error> {
        Ok(self.table(sql).await?.and_then(|rows| rows.first().and_then(Value::as_bool)))
    }

    /// The one row of a table; nothing where there is none, or no such table.
    async fn row<T: for<'de> Deserialize<'de>>(&mut self, sql: &str, what: &'static str) -> Result<Option<T>, Error> {
        let mut rows = self.table(sql).await?.unwrap_or_default();
        match rows.len() {
            0 => Ok(None),
            1 => serde_json::from_value(rows.remove(0)).map(Some).map_err(|_| self.malformed(what)),
            _ => Err(self.malformed(what)),
        }
    }

    /// The rows; nothing where there is no such table or no right to it.
    async fn table(&mut self, sql: &str) -> Result<Option<Vec<Value>>, Error> {
        let answer: Answer = self.ask(DOING, sql).await?;
        match answer {
            Ok(rows) => Ok(Some(rows)),
            Err(state) if NOT_THERE.contains(&state.as_str()) => Ok(None),
            Err(state) => {
                Err(Error::Refused { doing: DOING, at: self.at().to_owned(), cause: super::Cause::of_state(&state) })
            }
        }
    }

    fn malformed(&self, what: &'static str) -> Error {
        Error::Malformed { at: self.at().to_owned(), what }
    }
}

/// The text of a column of `t` as its type writes it, which only a superuser's type could have us run.
fn text(column: &str) -> String {
    format!("case when t.{column} is not null then concat(t.{column}) end")
}

/// A number, or none; an error where it is something else.
fn number(text: Option<&str>) -> Result<Option<i64>, ParseIntError> {
    text.map(str::parse).transpose()
}

/// An offset as the app writes it: lower-case hexadecimal of a fixed width.
fn hexadecimal(text: &str) -> Option<i64> {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| i64::from_str_radix(text, 16).ok()).flatten()
}

/// What may stand in a manifest and in messages.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 512 && text.chars().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_lower_case_hexadecimal_and_nothing_else() {
        assert_eq!(hexadecimal("000000000000000042"), Some(66));
        assert_eq!(hexadecimal("007fffffffffffffff"), Some(i64::MAX));
        for text in ["00000000000000008000000000000000", "0000000000000000G2", "+42", "-1", " 42", "00000000000000004A"]
        {
            assert_eq!(hexadecimal(text), None, "{text}");
        }
    }
}
