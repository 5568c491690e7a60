//! An IAM policy for AWS Secrets Manager. JSON has no comments, so each statement's `Sid` says what it is for.
//!
//! AWS adds six characters of its own to the ARN of a secret: `-??????` is them, and no other secret's name.

use serde_json::{Value, json};

use super::{Role, nodes_of};
use crate::config::{AwsStore, Config, Store};
use crate::store::facts::PREFIX;

/// One store with the names of the secrets that its nodes have in it.
struct Place<'a> {
    store: &'a AwsStore,
    names: Vec<String>,
}

/// One policy for all stores of this kind; nothing where no node uses one.
pub(super) fn render(config: &Config, role: Role) -> String {
    let places: Vec<Place<'_>> = config
        .stores
        .iter()
        .filter_map(|(name, store)| {
            let Store::Aws(store) = store else { return None };
            let nodes = nodes_of(config, name);
            let names = nodes
                .iter()
                .map(|(name, node)| store.secret.fill(name.as_str(), node.network.as_deref().unwrap_or_default()));
            Some(Place { store, names: names.collect() }).filter(|place| !place.names.is_empty())
        })
        .collect();
    if places.is_empty() {
        return String::new();
    }
    let mut statements = Vec::new();
    for (index, place) in places.iter().enumerate() {
        // Two statements of one policy never have the same name.
        let suffix = if places.len() > 1 { (index + 1).to_string() } else { String::new() };
        let of_place = if role == Role::Writer { writer(place) } else { restorer(place) };
        statements.extend(of_place.into_iter().map(|mut statement| {
            let sid = format!("{}{suffix}", statement["Sid"].as_str().unwrap_or_default());
            statement["Sid"] = Value::String(sid);
            statement
        }));
    }
    let policy = json!({"Version": "2012-10-17", "Statement": statements});
    format!("{policy:#}\n")
}

fn writer(place: &Place<'_>) -> Vec<Value> {
    let secrets = place.secrets("-??????");
    let ours = format!("{PREFIX}*");
    let mut statements = vec![
        allow("AddsVersions", &["secretsmanager:PutSecretValue"], &secrets),
        allow(
            "SeesVersionsAndFactsNotWhatIsInThem",
            &["secretsmanager:DescribeSecret", "secretsmanager:ListSecretVersionIds"],
            &secrets,
        ),
        with(
            allow("WritesFactsAndNoOtherTag", &["secretsmanager:TagResource"], &secrets),
            json!({"ForAllValues:StringLike": {"aws:TagKeys": [ours]}}),
        ),
        // A secret that is not there has no ARN: AWS judges the name that was asked for.
        with(
            allow("SeesThatTheSecretIsMissingRemoveOnceItIsThere", &["secretsmanager:DescribeSecret"], &["*".into()]),
            json!({"StringEquals": {"secretsmanager:SecretId": place.names, "aws:RequestedRegion": place.store.region}}),
        ),
        with(
            allow("CreatesTheSecretRemoveOnceItIsThere", &["secretsmanager:CreateSecret"], &place.secrets("*")),
            json!({"StringEquals": {"secretsmanager:Name": place.names}}),
        ),
    ];
    if !place.store.tags.is_empty() {
        let keys: Vec<&String> = place.store.tags.keys().collect();
        let values: serde_json::Map<String, Value> = place
            .store
            .tags
            .iter()
            .map(|(key, value)| (format!("aws:RequestTag/{key}"), Value::String(value.clone())))
            .collect();
        let keys: Vec<Value> = keys.into_iter().map(|key| json!(key)).chain([json!(ours)]).collect();
        statements.push(with(
            allow("TagsTheNewSecretRemoveOnceItIsThere", &["secretsmanager:TagResource"], &secrets),
            json!({"ForAllValues:StringLike": {"aws:TagKeys": keys}, "StringEquals": values}),
        ));
    }
    if place.store.kms_key_id.is_some() {
        // AWS asks for both where it encrypts with somebody's own key; through Secrets Manager alone, neither gives a
        // value to whoever lacks GetSecretValue.
        let actions = ["kms:GenerateDataKey", "kms:Decrypt"];
        statements
            .push(with(allow("EncryptsThroughSecretsManagerOnly", &actions, &place.keys()), place.through_manager()));
    }
    statements.push(json!({
        "Sid": "NeverReadsRemovesOrGivesAway",
        "Effect": "Deny",
        "Action": [
            "secretsmanager:GetSecretValue",
            "secretsmanager:DeleteSecret",
            "secretsmanager:UpdateSecretVersionStage",
            "secretsmanager:RotateSecret",
            "secretsmanager:PutResourcePolicy",
            "secretsmanager:ReplicateSecretToRegions",
        ],
        "Resource": secrets,
    }));
    statements
}

fn restorer(place: &Place<'_>) -> Vec<Value> {
    let secrets = place.secrets("-??????");
    let seeing = ["secretsmanager:DescribeSecret", "secretsmanager:ListSecretVersionIds"];
    let mut statements = vec![
        allow("ReadsThePrivateKeys", &["secretsmanager:GetSecretValue"], &secrets),
        allow("SeesVersionsAndFacts", &seeing, &secrets),
    ];
    if place.store.kms_key_id.is_some() {
        statements.push(with(
            allow("DecryptsThroughSecretsManagerOnly", &["kms:Decrypt"], &place.keys()),
            place.through_manager(),
        ));
    }
    statements
}

fn allow(sid: &str, actions: &[&str], resources: &[String]) -> Value {
    json!({"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources})
}

fn with(mut statement: Value, condition: Value) -> Value {
    statement["Condition"] = condition;
    statement
}

impl Place<'_> {
    fn partition(&self) -> &'static str {
        match self.store.region.as_str() {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    fn secrets(&self, ending: &str) -> Vec<String> {
        let (partition, region) = (self.partition(), &self.store.region);
        let arns =
            self.names.iter().map(|name| format!("arn:{partition}:secretsmanager:{region}:*:secret:{name}{ending}"));
        arns.collect()
    }

    /// A key that is not named by its ARN could be any of the region: the conditions bind it.
    fn keys(&self) -> Vec<String> {
        let (partition, region) = (self.partition(), &self.store.region);
        let arn = |rest: &str| format!("arn:{partition}:kms:{region}:*:{rest}");
        vec![match self.store.kms_key_id.as_deref().unwrap_or_default() {
            key if key.starts_with("arn:") && key.contains(":key/") => key.to_owned(),
            // Rights on an alias are none on its key.
            key if key.contains("alias/") => arn("key/*"),
            key => arn(&format!("key/{key}")),
        }]
    }

    fn through_manager(&self) -> Value {
        let suffix = if self.partition() == "aws-cn" { ".cn" } else { "" };
        json!({
            "StringEquals": {"kms:ViaService": format!("secretsmanager.{}.amazonaws.com{suffix}", self.store.region)},
            "StringLike": {"kms:EncryptionContext:SecretARN": self.secrets("-??????")},
        })
    }
}
