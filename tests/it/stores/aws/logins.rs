//! Every way of AWS to give a process an identity.

use std::fs;

use super::InAws;
use crate::stores::contract::Kept as _;
use crate::support::aws::{KEY, ROLE, SECRET};
use crate::support::dump::Dump;
use crate::support::idkeep::Outcome;

const TOKEN: &str = "synthetic.identity.token";

/// One that has to be logged in with what a login gives.
fn granted(seed: u64) -> InAws {
    let kept = InAws::of(Dump::fresh(seed));
    kept.aws.grant(TOKEN);
    kept
}

fn assert_written(kept: &InAws) {
    let synced = kept.scenario.sync(0);
    assert_eq!(synced.store(), "written", "{}", synced.outcome);
    assert_eq!(kept.values(), [kept.scenario.dump.json()]);
    assert_eq!(kept.aws.state().strangers, 0);
}

fn assert_discreet(kept: &InAws, outcome: &Outcome) {
    let state = kept.aws.state();
    let (key, caller) = state.granted.clone().unwrap();
    for secret in [TOKEN, &key, &caller.secret, caller.session_token.as_deref().unwrap(), "a word of the server"] {
        assert!(!outcome.output().contains(secret), "{secret} was said: {outcome}");
    }
}

#[test]
fn a_web_identity_of_a_pod_logs_in() {
    let mut kept = granted(1);
    let file = kept.scenario.idkeep.file("web-identity", TOKEN.as_bytes());
    let sts = format!("{}/sts", kept.aws.endpoint());
    kept.scenario.idkeep.env("AWS_WEB_IDENTITY_TOKEN_FILE", &file).env("AWS_ROLE_ARN", ROLE);
    kept.scenario.idkeep.env("AWS_ENDPOINT_URL_STS", sts);
    assert_written(&kept);
    // One login for all that a pass does.
    let logins = kept.aws.server().seen().iter().filter(|seen| seen.path.starts_with("/sts")).count();
    assert_eq!(logins, 1);
    fs::write(&file, "another.identity.token").unwrap();
    let refused = kept.scenario.idkeep.expect(77, &["--log-level", "trace", "sync"]);
    assert!(refused.stderr.contains("AWS does not log this process in"), "{refused}");
    assert!(refused.stderr.contains("hint: does the role's trust policy name this identity"), "{refused}");
    assert_discreet(&kept, &refused);
}

#[test]
fn no_token_goes_to_a_plain_address_of_the_world() {
    let mut kept = granted(2);
    let file = kept.scenario.idkeep.file("web-identity", TOKEN.as_bytes());
    kept.scenario.idkeep.env("AWS_WEB_IDENTITY_TOKEN_FILE", file).env("AWS_ROLE_ARN", ROLE);
    kept.scenario.idkeep.env("AWS_ENDPOINT_URL_STS", "http://sts.acme.example");
    let refused = kept.scenario.sync(78).outcome;
    assert!(refused.stderr.contains("names an `http://` address beyond this machine and its link"), "{refused}");
    assert_discreet(&kept, &refused);
}

#[test]
fn a_pod_identity_logs_in() {
    let mut kept = granted(3);
    let file = kept.scenario.idkeep.file("pod-identity", TOKEN.as_bytes());
    let agent = format!("{}/pod-identity", kept.aws.endpoint());
    kept.scenario.idkeep.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent);
    kept.scenario.idkeep.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file);
    // A proxy has nothing to do between a pod and its agent.
    kept.scenario.idkeep.env("HTTPS_PROXY", "http://127.0.0.1:1").env("HTTP_PROXY", "http://127.0.0.1:1");
    assert_written(&kept);
    fs::write(&file, "another").unwrap();
    let refused = kept.scenario.idkeep.expect(77, &["--log-level", "trace", "sync"]);
    assert!(refused.stderr.contains("AWS does not log this process in"), "{refused}");
    assert_discreet(&kept, &refused);
}

#[test]
fn the_role_of_a_machine_logs_in() {
    let mut kept = granted(4);
    let machine = kept.aws.endpoint();
    kept.scenario.idkeep.env("AWS_EC2_METADATA_DISABLED", "false").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine);
    assert_written(&kept);
    kept.aws.state().granted = None;
    let none = kept.scenario.sync(77).outcome;
    assert!(none.stderr.contains("no credentials that could be used"), "{none}");
}

#[test]
fn a_profile_logs_in_and_no_file_is_written() {
    let mut kept = InAws::of(Dump::fresh(5));
    let home = kept.scenario.idkeep.path("home");
    fs::create_dir_all(home.join(".aws")).unwrap();
    let keys = format!("[canton]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    kept.scenario.idkeep.secret_file("home/.aws/credentials", keys.as_bytes());
    kept.scenario.idkeep.env("HOME", &home).env("AWS_PROFILE", "canton");
    assert_written(&kept);
    let files: Vec<_> = fs::read_dir(home.join(".aws")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["credentials"]);
    // Keys that everybody may read are none.
    kept.scenario.idkeep.file("home/.aws/other", keys.as_bytes());
    kept.scenario.idkeep.env("AWS_SHARED_CREDENTIALS_FILE", home.join(".aws/other"));
    let refused = kept.scenario.sync(78).outcome;
    assert!(refused.stderr.contains("may be read by others") && refused.stderr.contains("chmod o-rwx"), "{refused}");
}

#[test]
fn a_profile_that_signs_in_through_a_browser_is_refused_in_words() {
    let mut kept = InAws::of(Dump::fresh(6));
    let home = kept.scenario.idkeep.path("home");
    fs::create_dir_all(home.join(".aws")).unwrap();
    let sso = "[default]\nsso_account_id = 123456789012\nsso_region = eu-central-1\nsso_role_name = x\n\
               sso_start_url = https://acme.awsapps.com/start\n";
    kept.scenario.idkeep.file("home/.aws/config", sso.as_bytes());
    kept.scenario.idkeep.env("HOME", &home);
    let refused = kept.scenario.sync(77).outcome;
    assert!(refused.stderr.contains("of a kind that is not supported"), "{refused}");
    assert!(refused.stderr.contains("one that signs in through a browser"), "{refused}");
}

#[test]
fn without_credentials_it_says_where_it_looked() {
    let kept = InAws::of(Dump::fresh(7));
    let refused = kept.scenario.sync(77).outcome;
    let words = "no variable, profile, web identity, container or machine of AWS gives any";
    assert!(refused.stderr.contains(words) && refused.stderr.contains("hint: give the process"), "{refused}");
    assert!(kept.aws.state().requests.is_empty());
}

#[test]
fn credentials_that_are_wrong_or_have_run_out_are_77() {
    let mut kept = InAws::of(Dump::fresh(8)).logged_in();
    kept.aws.state().expired.insert(KEY.into());
    let expired = kept.scenario.sync(77).outcome;
    assert!(expired.stderr.contains("the credentials are not accepted"), "{expired}");
    assert!(!expired.output().contains("a word of the server"));
    kept.aws.state().expired.clear();
    kept.scenario.idkeep.env("AWS_SECRET_ACCESS_KEY", "wrong");
    let wrong = kept.scenario.sync(77).outcome;
    assert!(wrong.stderr.contains("the credentials are not accepted"), "{wrong}");
    assert!(kept.aws.state().strangers > 0 && kept.values().is_empty());
}

#[test]
fn the_environment_does_not_lead_the_store_elsewhere() {
    let mut kept = InAws::of(Dump::fresh(9)).logged_in();
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SECRETS_MANAGER"] {
        kept.scenario.idkeep.env(name, "http://127.0.0.1:1");
    }
    kept.scenario.idkeep.env("AWS_REGION", "us-east-1").env("AWS_USE_FIPS_ENDPOINT", "true");
    assert_written(&kept);
}
