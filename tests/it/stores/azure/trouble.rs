//! What a vault refuses, and what is said about it.

use super::Vault;
use crate::support::azure::Version;
use crate::support::server::Reply;

#[test]
fn a_secret_that_was_deleted_and_can_be_recovered_is_left_to_the_operator() {
    let vault = Vault::new(40);
    vault.sync(0);
    vault.azure.delete(&vault.secret());
    let refused = vault.sync(78);
    assert!(refused.stderr().contains("a deleted secret of this name can still be recovered"), "{}", refused.outcome);
    assert!(
        refused.stderr().contains("hint: bring it back with all its versions: `az keyvault secret recover"),
        "{}",
        refused.outcome
    );
    assert_eq!(vault.azure.state().deleted[&vault.secret().to_lowercase()].len(), 1);
    assert!(vault.azure.versions(&vault.secret()).is_empty());
}

#[test]
fn a_secret_that_belongs_to_a_certificate_is_not_ours() {
    let vault = Vault::new(41);
    let managed = Version { is_managed: true, ..Version::foreign("pem") };
    vault.azure.state().secrets.insert(vault.secret().to_lowercase(), vec![managed]);
    let refused = vault.sync(78);
    assert!(refused.stderr().contains("it belongs to a certificate"), "{}", refused.outcome);
    assert_eq!(vault.azure.versions(&vault.secret()).len(), 1);
}

#[test]
fn each_refusal_is_told_in_our_own_words() {
    let mut vault = Vault::new(42);
    vault.scenario.identity("deadline: 3s");
    for (method, status, code, exit, part) in [
        ("GET", 403, "ForbiddenByFirewall", 77, "the vault's firewall does not let this machine in"),
        ("GET", 403, "ForbiddenByPolicy", 77, "the vault's access policies do not allow it"),
        ("PUT", 403, "ForbiddenByRbac", 77, "no role of this identity allows it"),
        ("GET", 401, "AKV10032", 77, "the credentials are not accepted"),
        ("PUT", 400, "BadParameter", 78, "it does not take the request as it is"),
        ("PUT", 302, "", 78, "it redirects, which is never followed"),
        ("GET", 503, "", 75, "status 503, the server has trouble of its own"),
        ("PUT", 409, "ObjectIsBeingDeleted", 75, "status 409"),
    ] {
        vault.azure.state().trouble.clear();
        vault.azure.spoil(method, 100, status, code, &[("location", "https://canary.example/")]);
        let refused = vault.sync(exit);
        assert!(refused.stderr().contains(part), "{method} {status} {code}: {}", refused.outcome);
        let said = refused.outcome.output();
        assert!(!said.contains("CANARY") && !said.contains("canary"), "{}", refused.outcome);
        assert!(said.contains(&format!("`{}` in Azure Key Vault", vault.secret())), "{}", refused.outcome);
    }
    assert!(vault.azure.versions(&vault.secret()).is_empty());
}

#[test]
fn a_wait_beyond_the_deadline_is_not_waited_for() {
    let mut vault = Vault::new(43);
    vault.scenario.identity("deadline: 20s");
    vault.azure.spoil("PUT", 1, 429, "", &[("retry-after", "3600")]);
    let outcome = vault.sync(75).outcome;
    assert!(outcome.stderr.contains("rate limited"), "{outcome}");
    assert!(outcome.elapsed.as_secs() < 15, "{outcome}");
}

#[test]
fn an_answer_that_is_none_is_not_believed() {
    let vault = Vault::new(44);
    vault.sync(0);
    for id in ["", "a_version", "<script>"] {
        vault.azure.newest(&vault.secret(), |newest| newest.id = id.into());
        let refused = vault.sync(78);
        assert!(refused.stderr().contains("the answer is not what the API says"), "{}", refused.outcome);
    }
    let mut vault = vault;
    let page = crate::support::server::Server::start(
        Some(crate::support::pki::Pki::new().server_config(crate::support::pki::Clients::Anonymous)),
        |_| async { Reply::new(200, "text/html", "<html>") },
    );
    vault.address = page.origin();
    vault.configure();
    assert!(vault.sync(78).stderr().contains("certificate not trusted"));
}
