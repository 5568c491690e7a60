//! What may go wrong between idkeep and AWS, and what is left in memory afterwards.

use serde_json::{Value, json};

use super::InAws;
use crate::stores::contract::Kept as _;
use crate::support::age::AgeKey;
use crate::support::aws::{ROLE, Trouble};
use crate::support::dump::Dump;
use crate::support::memory::scan_for;
use crate::support::server::Gate;

const AN_HOUR_AGO: f64 = 3600.0;

fn seconds_ago(seconds: f64) -> f64 {
    let now: i32 = jiff::Timestamp::now().as_second().try_into().unwrap();
    f64::from(now) - seconds
}

fn id(kept: &InAws) -> Value {
    json!({"SecretId": kept.secret()})
}

#[test]
fn an_answer_that_is_lost_costs_no_version() {
    let mut kept = InAws::start(Dump::fresh(20));
    kept.aws.state().answers = vec![Trouble::AnswerLost, Trouble::AnswerLost];
    assert_eq!(kept.scenario.sync(0).store(), "written");
    assert_eq!(kept.values(), [kept.scenario.dump.json()]);
    let new = kept.scenario.dump.clone().rotated(201, 1);
    kept.change(&new);
    kept.aws.state().answers = vec![Trouble::AnswerLost, Trouble::Throttled, Trouble::AnswerLost];
    assert_eq!(kept.scenario.sync(0).store(), "written");
    assert_eq!(kept.values(), [kept.scenario.dump.json(), new.json()]);
    assert_eq!(kept.scenario.sync(0).store(), "unchanged");
}

#[test]
fn a_version_that_somebody_took_back_is_followed_by_another() {
    let mut kept = InAws::start(Dump::fresh(21));
    kept.scenario.sync(0);
    let new = kept.scenario.dump.clone().rotated(211, 1);
    kept.change(&new);
    kept.scenario.sync(0);
    let versions = kept.aws.versions(&kept.secret());
    let (old, taken_back) = (&versions[0].0, &versions[1].0);
    let change = json!({"SecretId": kept.secret(), "VersionStage": "AWSCURRENT", "MoveToVersionId": old, "RemoveFromVersionId": taken_back});
    kept.aws.admin("UpdateSecretVersionStage", &change);
    kept.aws.state().made_at.insert(old.clone(), seconds_ago(AN_HOUR_AGO));
    let repaired = kept.scenario.sync(0);
    assert_eq!(repaired.store(), "repaired", "{}", repaired.outcome);
    assert_eq!(kept.values(), [kept.scenario.dump.json(), new.json(), new.json()]);
    assert_eq!(kept.scenario.sync(0).store(), "unchanged");
}

#[test]
fn a_secret_that_is_scheduled_for_deletion_is_named_as_such() {
    let kept = InAws::start(Dump::fresh(22));
    kept.scenario.sync(0);
    kept.aws.admin("DeleteSecret", &json!({"SecretId": kept.secret(), "RecoveryWindowInDays": 7}));
    let deleted = kept.scenario.sync(78).outcome;
    assert!(deleted.stderr.contains("it is scheduled for deletion"), "{deleted}");
    assert!(deleted.stderr.contains("aws secretsmanager restore-secret"), "{deleted}");
    kept.aws.admin("RestoreSecret", &id(&kept));
    assert_eq!(kept.scenario.sync(0).store(), "unchanged");
}

#[test]
fn a_secret_without_facts_is_adopted_once_facts_may_be_written() {
    let kept = InAws::start(Dump::fresh(23));
    kept.aws.admin(
        "CreateSecret",
        &json!({"Name": kept.secret(), "SecretString": "{}", "Tags": [{"Key": "team", "Value": "a"}]}),
    );
    let old = kept.aws.versions(&kept.secret())[0].0.clone();
    kept.aws.state().made_at.insert(old, seconds_ago(AN_HOUR_AGO));
    let without = kept.rights(|_, action| action != "secretsmanager:TagResource");
    kept.aws.policies([without]);
    let denied = kept.scenario.sync(77).outcome;
    assert!(denied.stderr.contains("permission denied (secretsmanager:TagResource)"), "{denied}");
    assert_eq!(kept.values(), [b"{}".to_vec()], "a version without facts would be followed by another at every pass");
    kept.aws.policies([kept.policy("writer")]);
    let adopted = kept.scenario.sync(0);
    assert!(adopted.stderr().contains("was not written by idkeep: it is kept"), "{}", adopted.outcome);
    assert_eq!(kept.values(), [b"{}".to_vec(), kept.scenario.dump.json()]);
    assert_eq!(kept.facts()["team"], "a");
}

#[test]
fn a_secret_that_was_made_without_a_value_takes_the_first_version() {
    let kept = InAws::start(Dump::fresh(24));
    kept.aws.admin("CreateSecret", &json!({"Name": kept.secret()}));
    assert_eq!(kept.scenario.sync(0).store(), "written");
    assert_eq!(kept.values(), [kept.scenario.dump.json()]);
    assert_eq!(kept.scenario.sync(0).store(), "unchanged");
}

/// Old versions have no label any more, and come on later pages: they count all the same.
#[test]
fn too_many_versions_within_a_day_are_counted_to_the_last_page() {
    let kept = InAws::start(Dump::fresh(25));
    kept.aws.admin("CreateSecret", &json!({"Name": kept.secret()}));
    for number in 0..7 {
        let put = json!({"SecretId": kept.secret(), "SecretString": number.to_string()});
        kept.aws.admin("PutSecretValue", &put);
    }
    let current = kept.aws.versions(&kept.secret()).last().unwrap().0.clone();
    kept.aws.state().made_at.insert(current, seconds_ago(AN_HOUR_AGO));
    let refused = kept.scenario.sync(65).outcome;
    assert!(refused.stderr.contains("7 versions were written within 24 hours, 5 are allowed"), "{refused}");
}

#[test]
fn tags_of_others_stay_and_where_they_leave_no_room_nothing_is_written() {
    let mut kept = InAws::start(Dump::fresh(26));
    kept.scenario.sync(0);
    let tag = |number: usize| json!({"Key": format!("team-{number}"), "Value": "x"});
    let tag_all = |kept: &InAws, tags: Vec<Value>| {
        kept.aws.admin("TagResource", &json!({"SecretId": kept.secret(), "Tags": tags}));
    };
    tag_all(&kept, (0..30).map(tag).collect());
    kept.change(&kept.scenario.dump.clone().rotated(261, 1));
    assert_eq!(kept.scenario.sync(0).store(), "written");
    assert_eq!(kept.facts().keys().filter(|key| key.starts_with("team-")).count(), 30);
    let other = InAws::start(Dump::fresh(27));
    other.aws.admin("CreateSecret", &json!({"Name": other.secret()}));
    tag_all(&other, (0..45).map(tag).collect());
    let refused = other.scenario.sync(78).outcome;
    assert!(
        refused.stderr.contains("its tags have no room left") && refused.stderr.contains("hint: take away"),
        "{refused}"
    );
    assert_eq!(other.aws.count("PutSecretValue"), 0);
}

#[test]
fn the_former_participant_stays_known_by_its_id_and_hint() {
    let mut kept = InAws::start(Dump::fresh(28));
    kept.scenario.sync(0);
    let (old, new) = (kept.scenario.dump.clone(), Dump::fresh(281));
    let version = kept.aws.versions(&kept.secret())[0].0.clone();
    kept.change(&new);
    kept.scenario.sync_with(0, &[&format!("--accept-new-identity={}", new.id)]);
    let facts = kept.facts();
    let hint = format!("acme-{}", kept.scenario.node);
    assert!(facts["idkeep_former_1"].starts_with(&format!("{} {hint} {version} ", old.id)), "{facts:?}");
    assert_eq!(facts["idkeep_participant_id"], new.id);
}

#[test]
fn the_words_of_the_service_are_never_said() {
    let mut kept = InAws::start(Dump::fresh(29));
    kept.scenario.identity("deadline: 2s");
    for (status, kind, code, words) in [
        (500, "InternalServiceError", 75, "trouble of its own"),
        (503, "SlowDownOrSo", 75, "trouble of its own"),
        (400, "LimitExceededException", 75, "rate limited"),
        (400, "TooManyRequestsException", 75, "rate limited"),
        (400, "UnrecognizedClientException", 77, "the credentials are not accepted"),
        (403, "SomethingElse", 77, "creating it is not allowed"),
        (400, "EncryptionFailure", 78, "its KMS key cannot be used"),
        (400, "InvalidRequestException", 78, "it takes no new version"),
        (400, "InvalidParameterException", 78, "the service takes no such request"),
    ] {
        kept.aws.state().answers = vec![Trouble::Error(status, kind); 100];
        let outcome = kept.scenario.idkeep.expect(code, &["--log-level", "trace", "sync"]);
        assert!(outcome.stderr.contains(words), "{kind}: {outcome}");
        let said = outcome.output();
        assert!(!said.contains("a word of the server") && !said.contains(kind), "{kind}: {outcome}");
    }
    assert!(kept.values().is_empty());
}

/// While the service does not answer, the key is found by the same scan that finds none afterwards.
#[test]
fn nothing_is_left_in_memory_once_it_is_stored() {
    for sealed in [false, true] {
        let mut kept = InAws::of(Dump::fresh(30));
        kept.aws.grant("synthetic.identity.token");
        let file = kept.scenario.idkeep.file("web-identity", b"synthetic.identity.token");
        let sts = format!("{}/sts", kept.aws.endpoint());
        kept.scenario.idkeep.env("AWS_WEB_IDENTITY_TOKEN_FILE", file).env("AWS_ROLE_ARN", ROLE);
        kept.scenario.idkeep.env("AWS_ENDPOINT_URL_STS", sts);
        if sealed {
            let key = AgeKey::new();
            kept.scenario.identity(&format!("recipients: [{}]", key.recipient));
        }
        let mut secrets = kept.scenario.dump.secrets();
        let (_, login) = kept.aws.state().granted.clone().unwrap();
        let token = login.session_token.unwrap();
        for (name, secret) in
            [("secret key", login.secret), ("session token", token), ("identity", "synthetic.identity.token".into())]
        {
            secrets.push((name.to_owned(), secret.into_bytes()));
        }
        let gate = Gate::closed();
        kept.aws.state().hold = Some(gate.clone());
        let mut run = kept.scenario.idkeep.spawn_blocked(&["-o", "json", "--log-level", "trace", "sync"]);
        crate::support::wait_for("the write", std::time::Duration::from_secs(60), || {
            (kept.aws.count("CreateSecret") == 1).then_some(())
        });
        let during = scan_for(run.pid(), &secrets);
        for name in ["secret key", "session token"] {
            assert!(during.iter().any(|hit| hit.needle.starts_with(name)), "{name} should be found: {during:#?}");
        }
        let is_of_the_dump =
            |needle: &str| !["secret key", "session token", "identity"].iter().any(|name| needle.starts_with(name));
        // What is sealed is all that is left of the dump on its way, but for the dump itself, which the pass holds.
        assert!(during.iter().any(|hit| is_of_the_dump(&hit.needle)), "the control finds nothing of the dump");
        gate.open();
        run.wait_to_print();
        let hits = scan_for(run.pid(), &secrets);
        assert!(hits.is_empty(), "left in memory: {hits:#?}");
        let outcome = run.release();
        assert_eq!(outcome.code, 0, "{outcome}");
        assert_eq!(kept.values().len(), 1);
    }
}
