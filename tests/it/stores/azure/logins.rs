//! Whose token is asked for, where, and to whom it goes.

use super::Vault;
use crate::support::azure::{AUDIENCE, CLIENT, MACHINE, TENANT};
use crate::support::dump::Dump;
use crate::support::idkeep::Idkeep;
use crate::support::proxy::{HttpProxy, refused};
use crate::support::server::{Reply, Server};

/// The same node with another environment.
fn with_environment(seed: u64, set: impl Fn(&Vault, &mut Idkeep)) -> Vault {
    let mut vault = Vault::without_rights(Dump::fresh(seed));
    for caller in [CLIENT, MACHINE] {
        vault.azure.grant(caller, &vault.secret(), &super::WRITER);
    }
    let mut idkeep = Idkeep::new();
    for name in ["client-secret", "secret-id"] {
        idkeep.secret_file(name, &std::fs::read(vault.scenario.idkeep.path(name)).unwrap());
    }
    vault.scenario.config.auth = vault
        .scenario
        .config
        .auth
        .replace(vault.scenario.idkeep.folder().to_str().unwrap(), idkeep.folder().to_str().unwrap());
    set(&vault, &mut idkeep);
    vault.scenario.idkeep = idkeep;
    vault.configure();
    vault
}

#[test]
fn a_token_is_asked_for_once_and_no_body_goes_before_it() {
    let vault = Vault::new(1);
    assert_eq!(vault.sync(0).store(), "written");
    let state = vault.azure.state();
    assert_eq!((state.token_requests, state.unguarded_bodies, state.deletes_tried), (1, 0, 0));
    drop(state);
    let vaults: Vec<_> =
        vault.azure.server.seen().into_iter().filter(|seen| seen.path.starts_with("/secrets/")).collect();
    // The challenge, two looks and the write.
    assert_eq!(vaults.len(), 4, "{vaults:#?}");
    let versions = vault.azure.versions(&vault.secret());
    assert_eq!(versions[0].content_type, "application/json");
    assert!(versions[0].tags.len() <= 15 && !versions[0].tags.contains_key("idkeep_stored_version"));
}

#[test]
fn a_managed_identity_is_asked_for_on_the_machine_alone() {
    let mut vault = with_environment(2, |vault, idkeep| vault.azure.machine(idkeep));
    // A proxy is for the vault, never for this.
    let proxy = HttpProxy::start();
    vault.line(&format!("proxy: {{url: \"{}\"}}", proxy.url()));
    vault.line(&format!("client_id: {MACHINE}"));
    assert_eq!(vault.sync(0).store(), "written");
    assert_eq!(proxy.seen().in_clear, Vec::<String>::new());
    assert_eq!(vault.azure.state().token_requests, 1);
    // Another one is not there, which is said without a word of the other side.
    vault.line("client_id: 00000000-0000-4000-8000-000000000000");
    let refused = vault.sync(77);
    assert!(
        refused.stderr().contains("this machine has no managed identity, or none with this `client_id`"),
        "{}",
        refused.outcome
    );
    assert!(!refused.stderr().contains("Delegated"), "{}", refused.outcome);
}

#[test]
fn a_client_with_a_secret_is_one_too() {
    let vault = with_environment(3, |vault, idkeep| {
        let secret = vault.azure.state().client_secret.clone();
        idkeep.env("AZURE_TENANT_ID", TENANT).env("AZURE_CLIENT_ID", CLIENT).env("AZURE_CLIENT_SECRET", secret);
        idkeep.env("AZURE_AUTHORITY_HOST", vault.azure.origin.as_str());
    });
    assert_eq!(vault.sync(0).store(), "written");
    vault.azure.state().client_secret = "another".into();
    let refused = vault.sync(77);
    assert!(refused.stderr().contains("the token endpoint refuses this client"), "{}", refused.outcome);
    assert!(!refused.stderr().contains("AADSTS"), "{}", refused.outcome);
}

#[test]
fn nobody_is_a_matter_of_credentials() {
    let nowhere = with_environment(4, |_, idkeep| {
        idkeep.env("IDENTITY_ENDPOINT", format!("http://{}/msi/token", refused())).env("IDENTITY_HEADER", "x");
    });
    let outcome = nowhere.sync(77);
    assert!(outcome.stderr().contains("no managed identity answers on this machine"), "{}", outcome.outcome);
    let by_halves = with_environment(4, |_, idkeep| {
        idkeep.env("AZURE_FEDERATED_TOKEN_FILE", "/nowhere");
    });
    let outcome = by_halves.sync(77);
    assert!(outcome.stderr().contains("AZURE_TENANT_ID or AZURE_CLIENT_ID is not"), "{}", outcome.outcome);
    let no_file = with_environment(4, |vault, idkeep| {
        vault.azure.workload(idkeep);
        idkeep.env("AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token");
    });
    let outcome = no_file.sync(78);
    assert!(outcome.stderr().contains("reading /nowhere/token"), "{}", outcome.outcome);
}

#[test]
fn a_workload_that_its_cluster_does_not_vouch_for_is_refused() {
    let vault = Vault::new(5);
    vault.scenario.idkeep.file("federated-token", b"not.a.token");
    let outcome = vault.sync(77);
    assert!(outcome.stderr().contains("does its federated credential name this issuer"), "{}", outcome.outcome);
    assert!(!outcome.stderr().contains("CANARY"), "{}", outcome.outcome);
}

#[test]
fn a_token_endpoint_that_is_busy_is_asked_again() {
    let vault = Vault::new(6);
    vault.azure.spoil("TOKEN", 1, 503, "", &[]);
    vault.azure.spoil("TOKEN", 1, 429, "", &[("retry-after", "0")]);
    assert_eq!(vault.sync(0).store(), "written");
    assert_eq!(vault.azure.state().token_requests, 3);
}

/// The names that Azure has, and no `audience`: the SDK's own rule holds.
#[test]
fn under_its_real_name_a_vault_needs_no_more_than_its_address() {
    let mut vault = with_environment(7, |vault, idkeep| {
        vault.azure.workload(idkeep);
        idkeep.env("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com");
    });
    let proxy = HttpProxy::leading_to(vault.azure.server.address);
    vault.lines =
        vec![format!("tls: {{ca_file: {:?}}}", vault.azure.ca_file), format!("proxy: {{url: \"{}\"}}", proxy.url())];
    vault.address = "https://acme-canton.vault.azure.net".into();
    vault.configure();
    vault.azure.state().origin = vault.address.clone();
    assert_eq!(vault.sync(0).store(), "written");
    let mut tunnels = proxy.seen().tunnels;
    tunnels.sort();
    tunnels.dedup();
    assert_eq!(tunnels, ["acme-canton.vault.azure.net:443", "login.microsoftonline.com:443"]);
    // One that asks for tokens of another service gets none.
    vault.azure.state().resource = "resource=\"https://management.azure.com\"".into();
    let before = vault.azure.state().token_requests;
    let refused = vault.sync(78);
    assert!(refused.stderr().contains("no token was sent"), "{}", refused.outcome);
    assert_eq!(vault.azure.state().token_requests, before);
}

#[test]
fn a_private_name_needs_the_audience_written_out() {
    let mut vault = Vault::new(8);
    vault.lines.retain(|line| !line.starts_with("audience"));
    vault.configure();
    let refused = vault.sync(78);
    assert!(refused.stderr().contains("no token was sent"), "{}", refused.outcome);
    assert!(refused.stderr().contains("hint: is `vault_url` right?"), "{}", refused.outcome);
    // And then no other counts.
    vault.line("audience: https://vault.azure.cn");
    assert!(vault.sync(78).stderr().contains("no token was sent"));
    assert_eq!(vault.azure.state().token_requests, 0);
    vault.line(&format!("audience: {AUDIENCE}"));
    assert_eq!(vault.sync(0).store(), "written");
}

#[test]
fn a_list_that_goes_on_elsewhere_is_not_followed() {
    let vault = Vault::new(9);
    vault.sync(0);
    let elsewhere = Server::plain(|_| async { Reply::empty(200) });
    let garbled = "the answer is not what the API says";
    for (link, part) in [
        ("https://login.example".to_owned(), "it links to another host, where its token must not go"),
        (elsewhere.origin().replace("http", "https"), "it links to another host, where its token must not go"),
        // Azure's SDK sends no token in clear.
        (elsewhere.origin(), garbled),
        (vault.azure.origin.replace("https", "http"), garbled),
    ] {
        vault.azure.state().next_link = Some(format!("{link}/secrets/x/versions?api-version=7.4"));
        let refused = vault.sync(78);
        assert!(refused.stderr().contains(part), "{link}: {}", refused.outcome);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn an_address_of_a_vault_is_a_host_and_no_more() {
    let mut vault = Vault::new(10);
    vault.address += "/secrets";
    vault.line("audience: http://vault.azure.net");
    let outcome = vault.scenario.idkeep.expect(78, &["check"]);
    assert!(outcome.stdout.contains("the address of a vault has no path"), "{outcome}");
    assert!(outcome.stdout.contains("stores.azure.azure.audience: this address is not encrypted"), "{outcome}");
}
