//! The invariants: whether a set's databases fit together, as their own data says in the snapshots of the dumps.
//!
//! What was not read is unknown, never a pass, and the reason then says what would resolve it.

use std::collections::BTreeMap;

use super::facts::{Facts, NamespaceKey, ParticipantFacts, StoreOffset, ValidatorFacts};
use super::manifest::{Invariant, Outcome};
use crate::config::{self, Role};

/// The names of all invariants.
pub const NAMES: [&str; 4] = ["I1", "I2", "I3", "I4"];

/// Stores that a reason names.
const MAX_NAMED: usize = 8;

/// A database's facts with its name in the configuration.
pub type Named<'a, F> = (&'a str, &'a F);

/// The participant ids that are known from elsewhere than the databases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// `identity.participant` of the configuration.
    pub configured: Option<String>,
    /// Whose identities each store holds: the store's name and the id.
    pub stored: Vec<(String, String)>,
    /// Stores that could not be asked.
    pub unseen: Vec<String>,
}

/// Judges everything that was read of a set's databases so far, in any order.
#[must_use]
pub fn judge(
    facts: &[(String, Role, Facts)],
    known: &Known,
    namespace_key: config::NamespaceKey,
) -> BTreeMap<String, Invariant> {
    let mut validators = Vec::new();
    let mut participants = Vec::new();
    for (name, _, facts) in facts {
        match facts {
            Facts::Validator(facts) => validators.push((name.as_str(), facts)),
            Facts::Participant(facts) => participants.push((name.as_str(), facts)),
            Facts::None => {}
        }
    }
    let pairs = |check: fn(Named<'_, ValidatorFacts>, Named<'_, ParticipantFacts>) -> Invariant| {
        let each = participants.iter().flat_map(|&p| validators.iter().map(move |&v| check(v, p)));
        worst(each).unwrap_or_else(|| no_pair(validators.len(), participants.len()))
    };
    let alone = |check: &dyn Fn(Named<'_, ParticipantFacts>) -> Invariant| {
        worst(participants.iter().map(|&p| check(p))).unwrap_or_else(|| no_pair(1, participants.len()))
    };
    let judged = [
        pairs(offset_within_ledger),
        pairs(pruning_behind_apps),
        alone(&|participant| same_participant(participant, known)),
        alone(&|participant| namespace_key_held(participant, namespace_key)),
    ];
    NAMES.into_iter().map(str::to_owned).zip(judged).collect()
}

/// The newest migration of an app's stores, and the highest offset in it.
#[must_use]
pub fn newest(facts: &ValidatorFacts) -> (Option<i64>, Option<i64>) {
    let (migration, stores) = newest_stores(facts);
    (migration, stores.iter().filter_map(|store| store.offset).max())
}

/// I1: the app refers to no update that the participant has not seen.
#[must_use]
pub fn offset_within_ledger(
    (app, validator): Named<'_, ValidatorFacts>,
    (name, participant): Named<'_, ParticipantFacts>,
) -> Invariant {
    let (_, offset) = newest(validator);
    let Some(offset) = offset else { return no_offset(app, validator) };
    match participant.ledger_end {
        Some(end) if offset <= end => pass(format!("{app} {offset} ≤ ledger end {end}")),
        Some(end) => fail(format!(
            "{app} {offset} > ledger end {end}: {app} refers to updates that {name} has not seen in its snapshot"
        )),
        None => no_parameters(name, "ledger_end"),
    }
}

/// I2: no store of the app still needs what the participant has pruned.
#[must_use]
pub fn pruning_behind_apps(
    (app, validator): Named<'_, ValidatorFacts>,
    (name, participant): Named<'_, ParticipantFacts>,
) -> Invariant {
    if !participant.has_parameters {
        return no_parameters(name, "participant_pruned_up_to_inclusive");
    }
    let Some(pruned) = participant.pruned_up_to else { return pass(format!("{name} was never pruned")) };
    let (_, stores) = newest_stores(validator);
    let offsets: Vec<i64> = stores.iter().filter_map(|store| store.offset).collect();
    let (Some(lowest), Some(highest)) = (offsets.iter().min(), offsets.iter().max()) else {
        return no_offset(app, validator);
    };
    if *lowest >= pruned {
        return pass(format!("{app} {lowest} ≥ pruned up to {pruned}"));
    }
    if *highest < pruned {
        return fail(format!(
            "every store of {app} is behind what {name} has pruned ({highest} < {pruned}): the app would stop after a restore"
        ));
    }
    let lags = |store: &&&StoreOffset| store.offset.is_some_and(|offset| offset < pruned);
    // The first few: the app's owner says how many there are, and a manifest has to stay small enough to be read.
    let mut lagging: Vec<String> = stores.iter().filter(lags).take(MAX_NAMED).map(|store| named(store)).collect();
    if let Some(more @ 1..) = stores.iter().filter(lags).count().checked_sub(MAX_NAMED) {
        lagging.push(format!("{more} more"));
    }
    unknown(
        format!("{} of {app} is behind what {name} has pruned ({lowest} < {pruned}), others are not", list(&lagging)),
        "rows of a retired store may remain: look whether the app still reads with it",
    )
}

/// I3: the database is that of the participant whose identities are kept.
#[must_use]
pub fn same_participant((name, participant): Named<'_, ParticipantFacts>, known: &Known) -> Invariant {
    let ids = [&participant.participant_id, &participant.node_id];
    if let [Some(one), Some(other)] = ids
        && one != other
    {
        return fail(format!(
            "{name} names two participants: PAR::{one} (lapi_parameters), PAR::{other} (common_node_id)"
        ));
    }
    let Some(id) = participant.full_id() else {
        return unknown(
            format!("{name} does not say whose it is"),
            "let the role read `participant.lapi_parameters` or `participant.common_node_id`",
        );
    };
    let configured = known.configured.iter().map(|id| ("the configuration", id));
    let stored = known.stored.iter().map(|(store, id)| (store.as_str(), id));
    let sources: Vec<(&str, &String)> = configured.chain(stored).collect();
    if let Some((source, other)) = sources.iter().find(|(_, known)| **known != id) {
        return fail(format!("{name} is {id}'s, but {source} has {other}"));
    }
    if sources.is_empty() {
        let resolve = if known.unseen.is_empty() {
            "run `idkeep sync`, or set `identity.participant`".to_owned()
        } else {
            format!(
                "no answer from {}: take a set when it can be asked, or set `identity.participant`",
                list(&known.unseen)
            )
        };
        return unknown(format!("{name} is {id}'s, and no identity is known to compare it with"), &resolve);
    }
    let names: Vec<&str> = sources.iter().map(|(source, _)| *source).collect();
    pass(format!("{name} is {id}'s, as {} says", names.join(", ")))
}

/// I4: the database holds the key of the participant's namespace.
#[must_use]
pub fn namespace_key_held(
    (name, participant): Named<'_, ParticipantFacts>,
    namespace_key: config::NamespaceKey,
) -> Invariant {
    let namespace = participant.namespace.as_deref().unwrap_or("the namespace");
    match participant.namespace_key {
        NamespaceKey::Software => pass(format!("{name} holds the private key of {namespace}")),
        NamespaceKey::Kms => pass(format!("{name} names the KMS key of {namespace}")),
        NamespaceKey::Absent if namespace_key == config::NamespaceKey::Offline => unknown(
            format!("{name} does not hold the key of {namespace}, which is kept offline"),
            "look that the key is where it is kept, and that its public half has this fingerprint",
        ),
        NamespaceKey::Absent => fail(format!(
            "{name} does not hold the key of {namespace}; if it is kept offline on purpose, say `namespace_key: offline`"
        )),
        NamespaceKey::Unknown => unknown(
            format!("whether {name} holds the key of its namespace cannot be seen"),
            "let the role read `participant.common_node_id`, `participant.common_crypto_private_keys` and `participant.common_kms_metadata_store`",
        ),
    }
}

/// What would resolve an invariant that a manifest records as unknown.
#[must_use]
pub fn evidence(name: &str) -> &'static str {
    match name {
        "I1" => "a set whose role may read the offsets of the validator app and of the participant",
        "I2" => "look whether the app still reads with the stores that lag, and take a set when none does",
        "I3" => "a set taken after `idkeep sync`, or with `identity.participant` configured",
        "I4" => "the namespace's key where it is kept, or a role that may read the participant's tables of keys",
        _ => "a newer idkeep, which may know this invariant",
    }
}

/// The worst of several, with every reason that makes it so.
fn worst(judged: impl Iterator<Item = Invariant>) -> Option<Invariant> {
    let judged: Vec<Invariant> = judged.collect();
    let gravity = |outcome| match outcome {
        Outcome::Pass => 0,
        Outcome::Unknown => 1,
        Outcome::Fail => 2,
    };
    let result = judged.iter().map(|invariant| invariant.result).max_by_key(|outcome| gravity(*outcome))?;
    let reasons = judged.into_iter().filter(|invariant| invariant.result == result).map(|invariant| invariant.reason);
    Some(Invariant { result, reason: reasons.collect::<Vec<_>>().join("; ") })
}

fn newest_stores(facts: &ValidatorFacts) -> (Option<i64>, Vec<&StoreOffset>) {
    let stores = || facts.stores.iter().flatten();
    let newest = stores().map(|store| store.migration_id).max();
    (newest, stores().filter(|store| Some(store.migration_id) == newest).collect())
}

fn no_pair(validators: usize, participants: usize) -> Invariant {
    match (validators, participants) {
        (_, 0) => unknown(
            "no participant's database is in this set".into(),
            "name the participant's database under `databases`",
        ),
        _ => unknown(
            "no validator app's database is in this set".into(),
            "name the validator app's database under `databases`",
        ),
    }
}

fn no_offset(app: &str, facts: &ValidatorFacts) -> Invariant {
    let reason = match (&facts.stores, newest(facts).0) {
        (None, _) => format!("{app} has no readable `validator.store_last_ingested_offsets`"),
        (Some(_), Some(migration)) => format!("no store of {app} has an offset in migration {migration}"),
        (Some(_), None) => format!("no store of {app} has an offset"),
    };
    unknown(reason, "a set taken once the app has read the ledger, by a role that may read its tables")
}

fn no_parameters(name: &str, column: &str) -> Invariant {
    unknown(
        format!("{name} says nothing in `participant.lapi_parameters.{column}`"),
        "a set taken once the participant has run, by a role that may read its tables",
    )
}

fn named(store: &StoreOffset) -> String {
    match (store.store_id, store.offset) {
        (Some(id), Some(offset)) => format!("store {id} ({offset})"),
        (Some(id), None) => format!("store {id}"),
        (None, Some(offset)) => format!("a store ({offset})"),
        (None, None) => "a store".into(),
    }
}

fn list(names: &[String]) -> String {
    names.join(", ")
}

fn pass(reason: String) -> Invariant {
    Invariant { result: Outcome::Pass, reason }
}

fn fail(reason: String) -> Invariant {
    Invariant { result: Outcome::Fail, reason }
}

fn unknown(mut reason: String, resolve: &str) -> Invariant {
    reason.push_str("; to resolve it: ");
    reason.push_str(resolve);
    Invariant { result: Outcome::Unknown, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "acme::1220abcd";

    fn stores(stores: &[(i64, i64, Option<i64>)]) -> Facts {
        let store = |&(id, migration_id, offset): &(i64, i64, Option<i64>)| StoreOffset {
            store_id: Some(id),
            migration_id,
            offset,
        };
        Facts::Validator(ValidatorFacts { stores: Some(stores.iter().map(store).collect()) })
    }

    fn participant(ledger_end: Option<i64>, pruned_up_to: Option<i64>) -> ParticipantFacts {
        ParticipantFacts {
            ledger_end,
            pruned_up_to,
            has_parameters: true,
            participant_id: Some(ID.into()),
            node_id: Some(ID.into()),
            namespace: Some("1220abcd".into()),
            namespace_key: NamespaceKey::Software,
        }
    }

    fn known() -> Known {
        Known { stored: vec![("vault".into(), format!("PAR::{ID}"))], ..Known::default() }
    }

    fn judge_all(validators: &[Facts], participant: ParticipantFacts, known: &Known) -> BTreeMap<String, Invariant> {
        let mut facts: Vec<_> = validators
            .iter()
            .enumerate()
            .map(|(index, facts)| (format!("validator{index}"), Role::Validator, facts.clone()))
            .collect();
        facts.push(("participant".into(), Role::Participant, Facts::Participant(participant)));
        judge(&facts, known, config::NamespaceKey::InDump)
    }

    #[track_caller]
    fn expect(judged: &BTreeMap<String, Invariant>, name: &str, outcome: Outcome, says: &str) {
        let invariant = &judged[name];
        assert_eq!(invariant.result, outcome, "{name}: {}", invariant.reason);
        assert!(invariant.reason.contains(says), "{name}: {}", invariant.reason);
        assert_eq!(invariant.reason.contains("to resolve it"), outcome == Outcome::Unknown, "{}", invariant.reason);
    }

    #[test]
    fn a_consistent_set_passes_with_the_numbers() {
        let judged = judge_all(
            &[stores(&[(1, 4, Some(60)), (2, 4, Some(66)), (1, 3, Some(5))])],
            participant(Some(70), Some(60)),
            &known(),
        );
        expect(&judged, "I1", Outcome::Pass, "validator0 66 ≤ ledger end 70");
        expect(&judged, "I2", Outcome::Pass, "validator0 60 ≥ pruned up to 60");
        expect(&judged, "I3", Outcome::Pass, "PAR::acme::1220abcd's, as vault says");
        expect(&judged, "I4", Outcome::Pass, "private key of 1220abcd");
        assert_eq!(judged.keys().map(String::as_str).collect::<Vec<_>>(), NAMES);
    }

    #[test]
    fn an_app_ahead_of_the_ledger_fails_and_only_the_newest_migration_counts() {
        let judged = judge_all(&[stores(&[(1, 4, Some(66))])], participant(Some(65), None), &known());
        expect(&judged, "I1", Outcome::Fail, "66 > ledger end 65");
        let judged = judge_all(&[stores(&[(1, 4, Some(6)), (1, 3, Some(900))])], participant(Some(6), None), &known());
        expect(&judged, "I1", Outcome::Pass, "6 ≤ ledger end 6");
        let judged = judge_all(&[stores(&[(1, 4, None), (1, 3, Some(900))])], participant(Some(6), None), &known());
        expect(&judged, "I1", Outcome::Unknown, "in migration 4");
    }

    #[test]
    fn what_was_not_read_is_unknown_and_never_a_pass() {
        let nothing = ParticipantFacts::default();
        let judged = judge_all(&[Facts::Validator(ValidatorFacts::default())], nothing, &known());
        for name in NAMES {
            expect(&judged, name, Outcome::Unknown, "");
        }
        let judged = judge_all(&[stores(&[])], participant(None, None), &known());
        expect(&judged, "I1", Outcome::Unknown, "no store");
        let judged = judge_all(&[stores(&[(1, 4, Some(1))])], participant(None, Some(3)), &known());
        expect(&judged, "I1", Outcome::Unknown, "ledger_end");
        let judged = judge(&[], &known(), config::NamespaceKey::InDump);
        for name in NAMES {
            expect(&judged, name, Outcome::Unknown, "no participant's database");
        }
        let judged = judge_all(&[], participant(Some(1), None), &known());
        expect(&judged, "I1", Outcome::Unknown, "no validator app's database");
    }

    #[test]
    fn pruning_is_judged_by_the_lowest_store() {
        let lagging = stores(&[(1, 4, Some(40)), (2, 4, Some(66)), (3, 4, None), (9, 3, Some(1))]);
        let judged = judge_all(std::slice::from_ref(&lagging), participant(Some(70), Some(50)), &known());
        expect(&judged, "I2", Outcome::Unknown, "store 1 (40) of validator0");
        let judged = judge_all(std::slice::from_ref(&lagging), participant(Some(70), Some(67)), &known());
        expect(&judged, "I2", Outcome::Fail, "66 < 67");
        let judged = judge_all(&[lagging], participant(Some(70), None), &known());
        expect(&judged, "I2", Outcome::Pass, "never pruned");
        let mut rows: Vec<_> = (0..100_000).map(|id| (id, 4, Some(40))).collect();
        rows.push((-1, 4, Some(66)));
        let judged = judge_all(&[stores(&rows)], participant(Some(70), Some(50)), &known());
        expect(&judged, "I2", Outcome::Unknown, "99992 more");
        assert!(judged["I2"].reason.len() < 1000, "it stands in a manifest");
        let unread = ParticipantFacts { has_parameters: false, ..participant(None, None) };
        let judged = judge_all(&[stores(&[(1, 4, Some(1))])], unread, &known());
        expect(&judged, "I2", Outcome::Unknown, "lapi_parameters");
        let judged = judge_all(&[stores(&[(1, 4, None)])], participant(Some(70), Some(1)), &known());
        expect(&judged, "I2", Outcome::Unknown, "no store");
    }

    #[test]
    fn another_participant_fails_wherever_it_is_said() {
        let facts = || participant(Some(1), None);
        let other = || "PAR::acme::1220ffff".to_owned();
        let two = ParticipantFacts { node_id: Some("acme::1220ffff".into()), ..facts() };
        expect(&judge_all(&[], two, &known()), "I3", Outcome::Fail, "two participants");
        let configured = Known { configured: Some(other()), ..known() };
        expect(&judge_all(&[], facts(), &configured), "I3", Outcome::Fail, "the configuration has PAR::acme::1220ffff");
        let mut stored = known();
        stored.stored.push(("dr".into(), other()));
        expect(&judge_all(&[], facts(), &stored), "I3", Outcome::Fail, "dr has");
        expect(&judge_all(&[], facts(), &Known::default()), "I3", Outcome::Unknown, "idkeep sync");
        let unseen = Known { unseen: vec!["vault".into()], ..Known::default() };
        expect(&judge_all(&[], facts(), &unseen), "I3", Outcome::Unknown, "no answer from vault");
        let half = ParticipantFacts { participant_id: None, ..facts() };
        expect(&judge_all(&[], half, &known()), "I3", Outcome::Pass, "vault");
    }

    #[test]
    fn a_missing_namespace_key_fails_unless_it_is_kept_offline() {
        let facts = |namespace_key| ParticipantFacts { namespace_key, ..participant(Some(1), None) };
        let judge = |key, configured| namespace_key_held(("participant", &facts(key)), configured).result;
        let (in_dump, offline) = (config::NamespaceKey::InDump, config::NamespaceKey::Offline);
        assert_eq!(judge(NamespaceKey::Absent, in_dump), Outcome::Fail);
        assert_eq!(judge(NamespaceKey::Absent, offline), Outcome::Unknown);
        assert_eq!(judge(NamespaceKey::Kms, in_dump), Outcome::Pass);
        assert_eq!(judge(NamespaceKey::Unknown, in_dump), Outcome::Unknown);
        assert_eq!(judge(NamespaceKey::Unknown, offline), Outcome::Unknown);
    }

    #[test]
    fn of_several_apps_the_worst_counts() {
        let good = stores(&[(1, 4, Some(5))]);
        let bad = stores(&[(1, 4, Some(50))]);
        let none = stores(&[]);
        let judged = judge_all(&[good.clone(), none.clone()], participant(Some(9), None), &known());
        expect(&judged, "I1", Outcome::Unknown, "validator1");
        let judged = judge_all(&[good, none, bad], participant(Some(9), None), &known());
        expect(&judged, "I1", Outcome::Fail, "validator2 50 > ledger end 9");
    }
}
