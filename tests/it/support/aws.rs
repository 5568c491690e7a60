//! AWS as one agent sees it: a real Secrets Manager (moto) behind a gate that knows signatures, rights and limits.
//!
//! The gate is written from the published API: Signature Version 4, IAM's rules of judging a request, the service's
//! limits, and what moto leaves out of its answers (pages, times). Beside it stand a token service and an agent of
//! pod identities, for logins.

pub mod iam;
pub mod signature;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::block_on;
use super::client::{self, Client};
use super::s3::{S3, apart, forward};
use super::server::{Gate, Reply, Seen, Server, Step};

pub const REGION: &str = "eu-central-1";
pub const KEY: &str = "AKIDIDKEEPAGENT00001";
pub const SECRET: &str = "synthetic/secret+of+the+agent/000000000001";
pub const ROLE: &str = "arn:aws:iam::123456789012:role/idkeep-writer";

/// The limits that AWS publishes.
const MAX_BYTES: usize = 65_536;
const MAX_TAGS: usize = 50;

/// The service behind its gate.
pub struct Aws {
    moto: &'static S3,
    gate: Server,
    state: Arc<Mutex<State>>,
}

/// Who may come in.
#[derive(Clone)]
pub struct Caller {
    pub secret: String,
    pub session_token: Option<String>,
}

/// What the gate knows and does.
#[derive(Default)]
pub struct State {
    pub callers: BTreeMap<String, Caller>,
    /// The policies of the agent, whichever way it came in.
    pub policies: Vec<Value>,
    /// What a login hands out: key, secret and session token.
    pub granted: Option<(String, Caller)>,
    /// The token that a web identity or a pod has to show.
    pub identity_token: String,
    /// The next writes are answered so, in this order.
    pub answers: Vec<Trouble>,
    /// Every request that was let in: its action and what it says.
    pub requests: Vec<(String, Value)>,
    /// Values that were given away.
    pub given: usize,
    /// When versions were made, where that is not when they were; seconds.
    pub made_at: BTreeMap<String, f64>,
    /// KMS keys that are switched off.
    pub disabled_keys: BTreeSet<String>,
    /// Requests that came with another signature, region or service, or none.
    pub strangers: usize,
    /// Credentials that have run out.
    pub expired: BTreeSet<String>,
    /// Held closed, writes get no answer.
    pub hold: Option<Gate>,
}

/// What may go wrong with a write.
#[derive(Clone)]
pub enum Trouble {
    /// Too many requests.
    Throttled,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// An error of this kind, with words that nobody may repeat.
    Error(u16, &'static str),
}

impl Aws {
    pub fn start() -> Self {
        let moto = S3::shared();
        let state = Arc::new(Mutex::new(State::default()));
        let caller = Caller { secret: SECRET.into(), session_token: None };
        state.lock().unwrap().callers.insert(KEY.into(), caller);
        let (shared, client) = (state.clone(), Client::new(None));
        let gate = apart(|| {
            Server::plain(move |seen| {
                let gate = Gatekeeper { moto, state: shared.clone(), client: client.clone() };
                async move { gate.answer(seen).await }
            })
        });
        Self { moto, gate, state }
    }

    pub fn endpoint(&self) -> String {
        self.gate.origin()
    }

    pub fn server(&self) -> &Server {
        &self.gate
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The agent's rights: these policies and no others.
    pub fn policies(&self, policies: impl IntoIterator<Item = Value>) {
        let policies: Vec<Value> = policies.into_iter().collect();
        policies.iter().for_each(iam::validate);
        self.state().policies = policies;
    }

    /// How often an action was asked for, let in or not.
    pub fn count(&self, action: &str) -> usize {
        self.state().requests.iter().filter(|(known, _)| known == action).count()
    }

    /// Lets whoever shows this token have credentials for an hour.
    pub fn grant(&self, identity_token: &str) {
        let caller =
            Caller { secret: format!("{SECRET}-for-an-hour"), session_token: Some("a/session+token==".into()) };
        let mut state = self.state();
        state.callers = BTreeMap::from([("ASIAIDKEEPSESSION001".to_owned(), caller.clone())]);
        state.granted = Some(("ASIAIDKEEPSESSION001".to_owned(), caller));
        identity_token.clone_into(&mut state.identity_token);
    }

    /// What an operator with all rights does, beside idkeep.
    pub fn admin(&self, action: &str, body: &Value) -> Value {
        let (status, answer) = block_on(admin(self.moto, &Client::new(None), action, body));
        assert_eq!(status, 200, "{action}: {answer}");
        answer
    }

    /// The same, where nothing may be there.
    pub fn find(&self, action: &str, body: &Value) -> Option<Value> {
        let (status, answer) = block_on(admin(self.moto, &Client::new(None), action, body));
        (status == 200).then_some(answer)
    }

    /// Versions in the order in which they were made, with their labels.
    pub fn versions(&self, secret: &str) -> Vec<(String, Vec<String>)> {
        if self.find("DescribeSecret", &json!({"SecretId": secret})).is_none() {
            return Vec::new();
        }
        let listed = self.admin("ListSecretVersionIds", &json!({"SecretId": secret, "IncludeDeprecated": true}));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let versions = listed["Versions"].as_array().unwrap().iter();
        versions
            .map(|one| (text(&one["VersionId"]), one["VersionStages"].as_array().unwrap().iter().map(text).collect()))
            .collect()
    }

    /// What a restorer would get: the value of a version.
    pub fn value(&self, secret: &str, version: &str) -> Vec<u8> {
        let given = self.admin("GetSecretValue", &json!({"SecretId": secret, "VersionId": version}));
        match given["SecretString"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => STANDARD.decode(given["SecretBinary"].as_str().unwrap()).unwrap(),
        }
    }

    pub fn tags(&self, secret: &str) -> BTreeMap<String, String> {
        let described = self.find("DescribeSecret", &json!({"SecretId": secret})).unwrap_or_default();
        tags(&described["Tags"])
    }
}

fn tags(list: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.as_array().into_iter().flatten().map(|tag| (text(&tag["Key"]), text(&tag["Value"]))).collect()
}

/// moto looks whether a request is signed, not how.
async fn admin(moto: &S3, client: &Client, action: &str, body: &Value) -> (u16, Value) {
    let signed = format!("AWS4-HMAC-SHA256 Credential=admin/20260101/{REGION}/secretsmanager/aws4_request");
    let target = format!("secretsmanager.{action}");
    let headers = [
        ("authorization", signed.as_str()),
        ("x-amz-target", target.as_str()),
        ("content-type", "application/x-amz-json-1.1"),
    ];
    let answer = client.send_async("POST", &moto.endpoint(), &headers, Some(body.to_string().into_bytes())).await;
    let answer = answer.unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

struct Gatekeeper {
    moto: &'static S3,
    state: Arc<Mutex<State>>,
    client: Client,
}

impl Gatekeeper {
    async fn answer(&self, seen: Seen) -> Reply {
        match (seen.method.as_str(), seen.path.as_str()) {
            ("POST", "/sts" | "/sts/") => self.assume_role(&seen),
            ("GET", "/pod-identity") => self.pod_identity(&seen),
            (_, path) if path.starts_with("/latest/") => self.machine(&seen),
            ("POST", "/") => self.act(seen).await.unwrap_or_else(|refusal| refusal),
            _ => Reply::empty(404),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A request to the service itself.
    async fn act(&self, seen: Seen) -> Result<Reply, Reply> {
        let action = seen.header("x-amz-target").and_then(|target| target.strip_prefix("secretsmanager."));
        let action = action.ok_or_else(|| error(400, "UnknownOperationException"))?.to_owned();
        let body: Value = serde_json::from_slice(&seen.body).map_err(|_| error(400, "SerializationException"))?;
        self.state().requests.push((action.clone(), body.clone()));
        self.authenticate(&seen)?;
        let name = body["SecretId"].as_str().or(body["Name"].as_str()).unwrap_or_default().to_owned();
        let described = admin(self.moto, &self.client, "DescribeSecret", &json!({"SecretId": name})).await;
        let secret = (described.0 == 200).then_some(described.1);
        self.authorize(&action, &name, &body, secret.as_ref())?;
        validate(&action, &body)?;
        if secret.is_none() && action != "CreateSecret" {
            return Err(error(400, "ResourceNotFoundException"));
        }
        if let ("TagResource", Some(secret)) = (action.as_str(), &secret) {
            let mut all = tags(&secret["Tags"]);
            all.extend(tags(&body["Tags"]));
            if all.len() > MAX_TAGS {
                return Err(error(400, "InvalidParameterException"));
            }
        }
        self.serve(&action, &body, seen).await
    }

    async fn serve(&self, action: &str, body: &Value, seen: Seen) -> Result<Reply, Reply> {
        let is_write = matches!(action, "PutSecretValue" | "CreateSecret");
        if action == "ListSecretVersionIds" {
            return Ok(self.versions(body).await);
        }
        let hold = self.state().hold.clone().filter(|_| is_write);
        if let Some(gate) = hold {
            gate.passed().await;
        }
        let trouble = {
            let mut state = self.state();
            if is_write && !state.answers.is_empty() { Some(state.answers.remove(0)) } else { None }
        };
        match trouble {
            Some(Trouble::Throttled) => return Err(error(400, "ThrottlingException")),
            Some(Trouble::Error(status, kind)) => return Err(error(status, kind)),
            Some(Trouble::AnswerLost) => {
                forward(&self.client, self.moto.address, seen).await;
                return Ok(Reply::with_steps(200, "application/x-amz-json-1.1", [Step::Cut]));
            }
            None => {}
        }
        match action {
            "GetSecretValue" => {
                let (status, answer) = admin(self.moto, &self.client, action, body).await;
                self.state().given += usize::from(status == 200);
                Ok(Reply::json(if status == 200 { 200 } else { 400 }, &answer))
            }
            _ => Ok(forward(&self.client, self.moto.address, seen).await),
        }
    }

    fn authenticate(&self, seen: &Seen) -> Result<(), Reply> {
        let mut state = self.state();
        let Some(claimed) = signature::claimed(seen) else {
            state.strangers += 1;
            return Err(error(400, "MissingAuthenticationTokenException"));
        };
        if state.expired.contains(&claimed.key) {
            return Err(error(400, "ExpiredTokenException"));
        }
        let Some(caller) = state.callers.get(&claimed.key).cloned() else {
            state.strangers += 1;
            return Err(error(400, "UnrecognizedClientException"));
        };
        let is_good = claimed.is_of(seen, &caller.secret, REGION, "secretsmanager")
            && seen.header("x-amz-security-token") == caller.session_token.as_deref();
        if is_good {
            return Ok(());
        }
        state.strangers += 1;
        Err(error(400, "InvalidSignatureException"))
    }

    /// Everything that this action needs; with a key of somebody's own, rights on that, too.
    fn authorize(&self, action: &str, name: &str, body: &Value, secret: Option<&Value>) -> Result<(), Reply> {
        let state = self.state();
        let arn = match secret {
            Some(secret) => secret["ARN"].as_str().unwrap().to_owned(),
            None if action == "CreateSecret" => {
                format!("arn:aws:secretsmanager:{REGION}:123456789012:secret:{name}-AbCdEf")
            }
            // What is not there has no ARN: the name is what is judged.
            None => name.to_owned(),
        };
        let request_tags = tags(&body["Tags"]);
        // The reference gives the key `SecretId` the type of an ARN: of what is there, nothing may count on the name.
        let mut context = iam::Context::from([
            ("aws:RequestedRegion".to_owned(), vec![REGION.to_owned()]),
            ("secretsmanager:SecretId".to_owned(), vec![arn.clone()]),
        ]);
        if action == "CreateSecret" {
            context.insert("secretsmanager:Name".into(), vec![name.into()]);
        }
        if !request_tags.is_empty() {
            context.insert("aws:TagKeys".into(), request_tags.keys().cloned().collect());
        }
        for (key, value) in &request_tags {
            context.insert(format!("aws:RequestTag/{key}"), vec![value.clone()]);
        }
        let mut needed = vec![(format!("secretsmanager:{action}"), arn.clone(), context.clone())];
        if action == "CreateSecret" && !request_tags.is_empty() {
            needed.push(("secretsmanager:TagResource".into(), arn.clone(), context));
        }
        let key = body["KmsKeyId"].as_str().or_else(|| secret?["KmsKeyId"].as_str());
        let kms: &[&str] = match action {
            "PutSecretValue" | "CreateSecret" => &["kms:GenerateDataKey", "kms:Decrypt"],
            "GetSecretValue" => &["kms:Decrypt"],
            _ => &[],
        };
        for (action, key) in kms.iter().zip(std::iter::repeat(key)).filter_map(|(action, key)| Some((action, key?))) {
            if state.disabled_keys.contains(key) {
                return Err(error(400, "EncryptionFailure"));
            }
            let context = iam::Context::from([
                ("kms:ViaService".to_owned(), vec![format!("secretsmanager.{REGION}.amazonaws.com")]),
                ("kms:EncryptionContext:SecretARN".to_owned(), vec![arn.clone()]),
            ]);
            needed.push(((*action).to_owned(), key.to_owned(), context));
        }
        for (action, resource, context) in needed {
            if !iam::allows(&state.policies, &action, &resource, &context) {
                let words =
                    if action.starts_with("kms:") { "Access to KMS is not allowed" } else { "a word of the server" };
                return Err(refusal(400, "AccessDeniedException", words));
            }
        }
        Ok(())
    }

    /// Two to a page, with the times that moto does not tell.
    async fn versions(&self, body: &Value) -> Reply {
        let (_, mut listed) = admin(self.moto, &self.client, "ListSecretVersionIds", body).await;
        let mut versions = listed["Versions"].as_array().cloned().unwrap_or_default();
        if body["IncludeDeprecated"] != true {
            versions.retain(|version| !version["VersionStages"].as_array().unwrap().is_empty());
        }
        // moto leaves the label where it was once it has been moved by hand: the newest put has it.
        let is_current = |version: &Value| version["VersionStages"].as_array().unwrap().contains(&json!("AWSCURRENT"));
        let newest = versions.iter().rposition(is_current);
        for (index, version) in versions.iter_mut().enumerate() {
            if Some(index) != newest && is_current(version) {
                version["VersionStages"] = json!([]);
            }
            let id = version["VersionId"].as_str().unwrap().to_owned();
            let asked = json!({"SecretId": body["SecretId"], "VersionId": id});
            let (_, made) = admin(self.moto, &self.client, "GetSecretValue", &asked).await;
            let at = self.state().made_at.get(&id).copied().or(made["CreatedDate"].as_f64());
            version["CreatedDate"] = json!(at);
        }
        let from: usize = body["NextToken"].as_str().map_or(0, |token| token.parse().unwrap());
        let end = (from + 2).min(versions.len());
        listed.as_object_mut().unwrap().remove("NextToken");
        if end < versions.len() {
            listed["NextToken"] = json!(end.to_string());
        }
        listed["Versions"] = json!(versions[from.min(end)..end]);
        Reply::json(200, &listed)
    }

    fn assume_role(&self, seen: &Seen) -> Reply {
        let form = client::parse_form(&seen.body);
        let is = |key: &str, value: &str| form.get(key).is_some_and(|given| given == value);
        let state = self.state();
        let Some((key, caller)) = &state.granted else { return Reply::empty(403) };
        if !is("Action", "AssumeRoleWithWebIdentity")
            || !is("Version", "2011-06-15")
            || form["RoleSessionName"].is_empty()
        {
            return Reply::empty(400);
        }
        if !is("WebIdentityToken", &state.identity_token) || !is("RoleArn", ROLE) {
            let refusal = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                           <Code>AccessDenied</Code><Message>a word of the server</Message></Error></ErrorResponse>";
            return Reply::new(403, "text/xml", refusal);
        }
        Reply::new(
            200,
            "text/xml",
            format!(
                "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <AssumeRoleWithWebIdentityResult><AssumedRoleUser><Arn>{ROLE}/x</Arn><AssumedRoleId>A:x</AssumedRoleId>\
                 </AssumedRoleUser><Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
                 <SessionToken>{}</SessionToken><Expiration>{}</Expiration></Credentials>\
                 </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
                caller.secret,
                caller.session_token.as_deref().unwrap(),
                in_an_hour(),
            ),
        )
    }

    fn pod_identity(&self, seen: &Seen) -> Reply {
        let state = self.state();
        if seen.header("authorization") != Some(&state.identity_token) {
            return Reply::json(401, &json!({"code": "Unauthorized", "message": "a word of the server"}));
        }
        let Some(credentials) = &state.granted else { return Reply::empty(500) };
        Reply::json(200, &granted(credentials))
    }

    /// The metadata service of a machine, version 2: nothing without a token that was put for.
    fn machine(&self, seen: &Seen) -> Reply {
        const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
        let state = self.state();
        let text = |text: &str| Reply::new(200, "text/plain", text);
        if seen.method == "PUT" && seen.path == "/latest/api/token" {
            let ttl = seen.header("x-aws-ec2-metadata-token-ttl-seconds").unwrap_or_default();
            return text(&state.identity_token).header("x-aws-ec2-metadata-token-ttl-seconds", ttl);
        }
        if seen.header("x-aws-ec2-metadata-token") != Some(&state.identity_token) {
            return Reply::empty(401);
        }
        match (&state.granted, seen.path.strip_prefix(ROLES)) {
            (Some(_), Some("")) => text("idkeep-writer"),
            (Some(credentials), Some("idkeep-writer")) => Reply::json(200, &granted(credentials)),
            _ => Reply::empty(404),
        }
    }
}

fn granted(granted: &(String, Caller)) -> Value {
    let (key, caller) = granted;
    json!({
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
        "AccessKeyId": key, "SecretAccessKey": caller.secret, "Token": caller.session_token,
        "Expiration": in_an_hour(), "AccountId": "123456789012",
    })
}

fn in_an_hour() -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    jiff::Timestamp::from_second(at.as_second()).unwrap().to_string()
}

/// What the API's shapes and the published limits allow.
fn validate(action: &str, body: &Value) -> Result<(), Reply> {
    let known: &[&str] = match action {
        "DescribeSecret" => &["SecretId"],
        "ListSecretVersionIds" => &["SecretId", "IncludeDeprecated", "MaxResults", "NextToken"],
        "PutSecretValue" => &["SecretId", "ClientRequestToken", "SecretString", "SecretBinary"],
        "CreateSecret" => &["Name", "ClientRequestToken", "SecretString", "SecretBinary", "KmsKeyId", "Tags"],
        "TagResource" => &["SecretId", "Tags"],
        "GetSecretValue" => &["SecretId", "VersionId"],
        _ => return Err(error(400, "UnknownOperationException")),
    };
    let invalid = || error(400, "ValidationException");
    if body.as_object().unwrap().keys().any(|key| !known.contains(&key.as_str())) {
        return Err(invalid());
    }
    let bytes = body["SecretString"].as_str().map_or(0, str::len);
    let binary = body["SecretBinary"].as_str().map_or(0, |text| STANDARD.decode(text).unwrap().len());
    if bytes > MAX_BYTES || binary > MAX_BYTES {
        return Err(invalid());
    }
    if matches!(action, "PutSecretValue" | "CreateSecret") {
        let token = body["ClientRequestToken"].as_str().unwrap_or_default().len();
        if !(32..=64).contains(&token) || (bytes == 0) == (binary == 0) {
            return Err(invalid());
        }
    }
    let is_good = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " +-=._:/@".contains(c));
    let tags = tags(&body["Tags"]);
    let fits = |(key, value): (&String, &String)| {
        is_good(key)
            && is_good(value)
            && (1..=128).contains(&key.len())
            && value.len() <= 256
            && !key.starts_with("aws:")
    };
    if tags.len() > MAX_TAGS || !tags.iter().all(fits) {
        return Err(invalid());
    }
    Ok(())
}

fn error(status: u16, kind: &str) -> Reply {
    refusal(status, kind, "a word of the server")
}

fn refusal(status: u16, kind: &str, words: &str) -> Reply {
    Reply::json(status, &json!({"__type": kind, "message": words, "Message": words}))
}
