//! `policy aws` and `check --live`: the rights that are printed are enough, each is needed, and a read is none of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::InAws;
use crate::stores::contract::Kept as _;
use crate::support::aws::REGION;
use crate::support::aws::iam::{self, Context};
use crate::support::dump::Dump;
use crate::support::idkeep::{Idkeep, Outcome};

const KMS_KEY: &str = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// Allows everything, as a managed policy may.
fn everything() -> Value {
    let all = json!({"Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*"});
    json!({"Version": "2012-10-17", "Statement": [all]})
}

fn check(kept: &InAws, code: i32) -> Outcome {
    kept.scenario.idkeep.expect(code, &["check", "--live"])
}

/// What an agent does in its life, from nothing stored on: the first thing that does not work, if any.
fn first_failure(kept: &mut InAws, seed: u64) -> Option<&'static str> {
    if kept.aws.find("DescribeSecret", &json!({"SecretId": kept.secret()})).is_some() {
        kept.aws.admin("DeleteSecret", &json!({"SecretId": kept.secret(), "ForceDeleteWithoutRecovery": true}));
    }
    let dump = kept.scenario.dump.clone();
    kept.change(&dump);
    let first = kept.scenario.idkeep.run(&["sync"]);
    if first.code != 0 {
        // The secret may also be made by somebody else.
        let tags = json!([{"Key": "team", "Value": "canton"}]);
        kept.aws.admin("CreateSecret", &json!({"Name": kept.secret(), "KmsKeyId": KMS_KEY, "Tags": tags}));
        let second = kept.scenario.idkeep.run(&["sync"]);
        return Some(if second.code == 0 { "create" } else { "sync" });
    }
    kept.change(&dump.rotated(seed, 1));
    for (what, arguments) in [("sync", &["sync"][..]), ("check", &["check", "--live"]), ("list", &["list"])] {
        if kept.scenario.idkeep.run(arguments).code != 0 {
            return Some(what);
        }
    }
    None
}

#[test]
fn each_right_that_is_printed_is_needed_and_together_they_are_enough() {
    let more = format!(", kms_key_id: {KMS_KEY:?}, tags: {{team: canton}}");
    let mut kept = InAws::with(Dump::fresh(40), &more).logged_in();
    let policy = kept.policy("writer");
    assert_eq!(first_failure(&mut kept, 400), None);
    let mut needed = BTreeMap::new();
    let statements = policy["Statement"].as_array().unwrap().iter().filter(|statement| statement["Effect"] == "Allow");
    for (statement, seed) in statements.zip(401..) {
        for action in statement["Action"].as_array().unwrap() {
            let (sid, action) = (statement["Sid"].as_str().unwrap(), action.as_str().unwrap());
            let without = kept.rights(|its, one| (its, one) != (sid, action));
            kept.aws.policies([without]);
            let failure = first_failure(&mut kept, seed).unwrap_or("nothing");
            needed.insert(format!("{sid}: {}", action.split(':').nth(1).unwrap()), failure);
        }
    }
    let expected = [
        ("AddsVersions: PutSecretValue", "sync"),
        ("CreatesTheSecretRemoveOnceItIsThere: CreateSecret", "create"),
        ("EncryptsThroughSecretsManagerOnly: Decrypt", "sync"),
        ("EncryptsThroughSecretsManagerOnly: GenerateDataKey", "sync"),
        ("SeesThatTheSecretIsMissingRemoveOnceItIsThere: DescribeSecret", "create"),
        ("SeesVersionsAndFactsNotWhatIsInThem: DescribeSecret", "sync"),
        ("SeesVersionsAndFactsNotWhatIsInThem: ListSecretVersionIds", "sync"),
        ("TagsTheNewSecretRemoveOnceItIsThere: TagResource", "create"),
        ("WritesFactsAndNoOtherTag: TagResource", "sync"),
    ];
    assert_eq!(needed, expected.map(|(right, failure)| (right.to_owned(), failure)).into());
    assert_eq!(kept.aws.state().given, 0);
}

#[test]
fn a_writer_reads_removes_and_gives_away_nothing_whatever_else_it_is_given() {
    let kept = InAws::of(Dump::fresh(41)).logged_in();
    let policies = [kept.policy("writer"), everything()];
    let arn = |name: &str| format!("arn:aws:secretsmanager:{REGION}:123456789012:secret:{name}-AbCdEf");
    let (ours, none) = (arn(&kept.secret()), Context::new());
    for action in ["GetSecretValue", "DeleteSecret", "UpdateSecretVersionStage", "PutResourcePolicy", "RotateSecret"] {
        assert!(!iam::allows(&policies, &format!("secretsmanager:{action}"), &ours, &none), "{action}");
    }
    let alone = &policies[..1];
    let tagging = |key: &str| Context::from([("aws:TagKeys".to_owned(), vec![key.to_owned()])]);
    assert!(iam::allows(alone, "secretsmanager:TagResource", &ours, &tagging("idkeep_digest")));
    assert!(!iam::allows(alone, "secretsmanager:TagResource", &ours, &tagging("team")));
    for action in ["PutSecretValue", "TagResource", "DescribeSecret", "GetSecretValue"] {
        let theirs = arn(&format!("{}-2", kept.secret()));
        assert!(!iam::allows(alone, &format!("secretsmanager:{action}"), &theirs, &none), "{action}");
    }
}

#[test]
fn a_restorer_reads_and_does_nothing_else() {
    let kept = InAws::with(Dump::fresh(42), &format!(", kms_key_id: {KMS_KEY:?}"));
    let policy = [kept.policy("restorer")];
    policy.iter().for_each(iam::validate);
    let arn = format!("arn:aws:secretsmanager:{REGION}:123456789012:secret:{}-AbCdEf", kept.secret());
    for (action, may) in [
        ("GetSecretValue", true),
        ("DescribeSecret", true),
        ("ListSecretVersionIds", true),
        ("PutSecretValue", false),
        ("TagResource", false),
        ("DeleteSecret", false),
    ] {
        assert_eq!(iam::allows(&policy, &format!("secretsmanager:{action}"), &arn, &Context::new()), may, "{action}");
    }
    let through = |service: &str| {
        Context::from([
            ("kms:ViaService".to_owned(), vec![service.to_owned()]),
            ("kms:EncryptionContext:SecretARN".to_owned(), vec![arn.clone()]),
        ])
    };
    assert!(iam::allows(&policy, "kms:Decrypt", KMS_KEY, &through("secretsmanager.eu-central-1.amazonaws.com")));
    assert!(!iam::allows(&policy, "kms:Decrypt", KMS_KEY, &through("s3.eu-central-1.amazonaws.com")));
}

#[test]
fn check_live_finds_that_it_cannot_read_and_reads_nothing_to_know_it() {
    let kept = InAws::start(Dump::fresh(43));
    let before = check(&kept, 0);
    assert!(before.stdout.contains("it does not exist yet"), "{before}");
    kept.scenario.sync(0);
    let fine = check(&kept, 0);
    for words in ["what is stored cannot be read", "its versions and facts can be seen", "unknown: "] {
        assert!(fine.stdout.contains(words), "{words}: {fine}");
    }
    // More rights elsewhere do not matter while the Deny stands.
    kept.aws.policies([kept.policy("writer"), everything()]);
    assert!(check(&kept, 0).stdout.contains("what is stored cannot be read"));
    assert_eq!(kept.aws.state().given, 0);
    assert_eq!(kept.aws.count("PutSecretValue"), 0, "and writes nothing");
}

#[test]
fn check_live_fails_where_what_is_stored_may_be_read() {
    let kept = InAws::start(Dump::fresh(44));
    kept.scenario.sync(0);
    let without_deny = kept.rights(|sid, _| !sid.starts_with("Never"));
    kept.aws.policies([without_deny, everything()]);
    let failed = check(&kept, 77);
    assert!(failed.stdout.contains("this identity may read what it only needs to write"), "{failed}");
    assert!(failed.stdout.contains("take `secretsmanager:GetSecretValue` away from it"), "{failed}");
    assert_eq!(kept.aws.state().given, 0, "it was read to know that it may be");
}

#[test]
fn check_live_warns_of_a_rotation_and_of_another_key() {
    let kept = InAws::with(Dump::fresh(45), &format!(", kms_key_id: {KMS_KEY:?}")).logged_in();
    kept.aws.admin("CreateSecret", &json!({"Name": kept.secret()}));
    kept.scenario.sync(0);
    let warned = check(&kept, 0);
    assert!(warned.stdout.contains("not with the key of the configuration"), "{warned}");
}

#[test]
fn a_key_without_rights_on_it_is_named_as_the_reason() {
    let kept = InAws::with(Dump::fresh(46), &format!(", kms_key_id: {KMS_KEY:?}")).logged_in();
    let without = kept.rights(|_, action| !action.starts_with("kms:"));
    kept.aws.policies([without]);
    let denied = kept.scenario.sync(77).outcome;
    assert!(denied.stderr.contains("permission denied on its KMS key"), "{denied}");
    assert!(denied.stderr.contains("the key's own policy has to allow them, too"), "{denied}");
    kept.aws.policies([kept.policy("writer")]);
    kept.aws.state().disabled_keys.insert(KMS_KEY.into());
    let disabled = kept.scenario.sync(78).outcome;
    assert!(disabled.stderr.contains("its KMS key cannot be used"), "{disabled}");
}

#[test]
fn a_missing_secret_that_may_not_be_created_is_said_to_be_missing() {
    let kept = InAws::start(Dump::fresh(47));
    let without = kept.rights(|sid, _| !sid.starts_with("Creates"));
    kept.aws.policies([without]);
    let missing = kept.scenario.sync(77).outcome;
    assert!(missing.stderr.contains("it does not exist, and creating it is not allowed"), "{missing}");
    // By its ARN alone AWS does not even say that it is not there.
    let without = kept.rights(|sid, _| !sid.ends_with("RemoveOnceItIsThere"));
    kept.aws.policies([without]);
    let denied = kept.scenario.sync(77).outcome;
    assert!(denied.stderr.contains("AWS answers the same where there is no such secret"), "{denied}");
}

#[test]
fn several_stores_and_partitions_make_one_policy() {
    let node = |name: &str, stores: &str| {
        format!(
            "  {name}:\n    identity: {{endpoint: 'https://node.acme.example/api/validator', \
             auth: {{token: {{file: /nowhere/token}}}}, stores: [{stores}]}}\n"
        )
    };
    let idkeep = Idkeep::configured(&format!(
        "nodes:\n{}{}stores:\n  \
         one: {{aws: {{region: eu-central-1, secret: 'canton/{{node}}'}}}}\n  \
         two: {{aws: {{region: cn-north-1, secret: '{{node}}', kms_key_id: alias/canton}}}}\n",
        node("a", "one, two"),
        node("b", "one"),
    ));
    for role in ["writer", "restorer"] {
        let policy = idkeep.expect(0, &["policy", "aws", "--role", role]).json();
        iam::validate(&policy);
        let text = policy.to_string();
        for arn in [
            "arn:aws:secretsmanager:eu-central-1:*:secret:canton/a-??????",
            "arn:aws:secretsmanager:eu-central-1:*:secret:canton/b-??????",
            "arn:aws-cn:secretsmanager:cn-north-1:*:secret:a-??????",
            "arn:aws-cn:kms:cn-north-1:*:key/*",
            "secretsmanager.cn-north-1.amazonaws.com.cn",
        ] {
            assert!(text.contains(arn), "{arn}: {policy:#}");
        }
    }
    idkeep.expect(64, &["policy", "aws", "--role", "expirer"]);
}

#[test]
fn what_aws_would_not_take_is_a_mistake_of_the_configuration() {
    let check = |aws: &str| {
        let idkeep = Idkeep::configured(&format!(
            "nodes:\n  a:\n    identity: {{endpoint: 'https://node.acme.example/api/validator', \
             auth: {{token: {{file: /nowhere/token}}}}, stores: [one]}}\nstores:\n  one: {{aws: {{{aws}}}}}\n"
        ));
        idkeep.run(&["check", "--offline"])
    };
    assert_eq!(check("region: eu-central-1, secret: '{node}', tags: {team: canton, 'cost center': 'a=b'}").code, 0);
    for (aws, words) in [
        ("region: Frankfurt, secret: '{node}'", "this is no region"),
        ("region: eu-central-1.evil.example, secret: '{node}'", "this is no region"),
        ("region: eu-central-1, secret: 'a b {node}'", "is no name for a secret here"),
        ("region: eu-central-1, secret: '{node}', kms_key_id: 'a key'", "this is no KMS key"),
        ("region: eu-central-1, secret: '{node}', tags: {idkeep_digest: x}", "tags of this name are not yours"),
        ("region: eu-central-1, secret: '{node}', tags: {'aws:x': x}", "tags of this name are not yours"),
        ("region: eu-central-1, secret: '{node}', tags: {team: 'a;b'}", "AWS takes no such tag"),
        ("region: eu-central-1, secret: '{node}', endpoint: 'http://127.0.0.1:1'", "is not encrypted"),
    ] {
        let outcome = check(aws);
        assert_eq!(outcome.code, 78, "{aws}: {outcome}");
        assert!(outcome.stdout.contains(words), "{aws}: {outcome}");
    }
}
