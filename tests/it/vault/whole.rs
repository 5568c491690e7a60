//! The whole path with everything on: TLS everywhere, authorities of one's own, the real policy.

use serde_json::json;

use super::keys;
use crate::support::age::AgeKey;
use crate::support::dump::Dump;
use crate::support::idkeep::Idkeep;
use crate::support::issuer::{AUDIENCE, Issuer};
use crate::support::openbao::{OpenBao, writer_policy};
use crate::support::pki::Pki;
use crate::support::scenario::Scenario;
use crate::support::server::Tls;
use crate::support::validator::Validator;

/// Issuer, node and OpenBao over TLS, each signed by an authority of its own.
struct Secure {
    bao: OpenBao,
    validator: Validator,
    issuer: Issuer,
    idkeep: Idkeep,
    yaml: String,
    _authorities: [Pki; 2],
}

const PATH: &str = "canton/secure/identities";

impl Secure {
    fn new(dump: &Dump) -> Self {
        let bao = OpenBao::tls();
        bao.policy("secure", &writer_policy(PATH));
        let (role_id, secret_id) = bao.approle("secure", &["secure"], json!({}));
        let authorities = [Pki::new(), Pki::new()];
        let issuer = Issuer::settings().tls(Tls::of(&authorities[0])).start();
        let validator = Validator::trusting(&issuer.jwks_uri(), issuer.ca_file.as_deref())
            .tls(Tls::of(&authorities[1]))
            .user(&issuer.subject())
            .dump(&dump.json())
            .start();
        let mut idkeep = Idkeep::new();
        let client_secret = idkeep.secret_file("client-secret", issuer.client_secret.as_bytes());
        let secret_id = idkeep.secret_file("secret-id", secret_id.as_bytes());
        let yaml = format!(
            "nodes:\n  secure:\n    network: mainnet\n    party_hint: acme-1\n    identity:\n      \
             endpoint: {endpoint}\n      tls: {{ca_file: {node_ca:?}}}\n      stores: [vault]\n      deadline: 20s\n      \
             auth:\n        oauth2:\n          issuer: {issuer}\n          client_id: {client}\n          \
             client_secret: {{file: {client_secret:?}}}\n          audience: {AUDIENCE}\n          \
             tls: {{ca_file: {issuer_ca:?}}}\n\
             stores:\n  vault:\n    vault:\n      address: {address}\n      path: canton/{{node}}/identities\n      \
             auth: {{approle: {{role_id: {role_id}, secret_id: {{file: {secret_id:?}}}}}}}\n      \
             tls: {{ca_file: {vault_ca:?}}}\n",
            endpoint = validator.endpoint(),
            node_ca = authorities[1].ca_file(),
            issuer = issuer.url(),
            client = issuer.client_id,
            issuer_ca = authorities[0].ca_file(),
            address = bao.address,
            vault_ca = bao.ca_file.as_ref().unwrap(),
        );
        idkeep.config(&yaml);
        Self { bao, validator, issuer, idkeep, yaml, _authorities: authorities }
    }
}

#[test]
fn identities_reach_the_store_over_tls_byte_for_byte_and_are_never_read_back() {
    let dump = Dump::prefixed(7, "acme-");
    let secure = Secure::new(&dump);
    secure.bao.kv_put_metadata(PATH, json!({"custom_metadata": {"team": "canton", "rota": "b"}}));
    for outcome in ["written", "unchanged"] {
        assert_eq!(secure.idkeep.sync(0).json()["nodes"][0]["stores"][0]["outcome"], outcome);
    }
    let stored = secure.bao.kv_get(PATH).unwrap();
    assert_eq!(stored.version, 1);
    assert_eq!(stored.data["content"].as_str().unwrap().as_bytes(), dump.json());
    assert_eq!(stored.data, json!({"content": stored.data["content"], "encoding": "json"}));
    let facts = &secure.bao.kv_metadata(PATH).unwrap()["custom_metadata"];
    let expected = [
        "idkeep_captured_at",
        "idkeep_checked_at",
        "idkeep_digest",
        "idkeep_dump_version",
        "idkeep_key_kind",
        "idkeep_key_proof",
        "idkeep_network",
        "idkeep_participant_id",
        "idkeep_party_hint",
        "idkeep_stored_version",
        "rota",
        "team",
    ];
    assert_eq!(keys(facts), expected);
    assert_eq!([&facts["team"], &facts["rota"]], ["canton", "b"]);
    assert_eq!(facts["idkeep_dump_version"], "0.7.5");
    for at in ["idkeep_captured_at", "idkeep_checked_at"] {
        let at = facts[at].as_str().unwrap();
        assert!(at.ends_with('Z') && at.parse::<jiff::Timestamp>().is_ok(), "{at}");
    }

    // What root just read above stands in the audit log, so a read of ours would.
    let log = secure.bao.audit_log();
    let read = |line: &&str| line.contains("\"operation\":\"read\"") && line.contains(&format!("secret/data/{PATH}"));
    assert!(log.lines().any(|line| read(&line)), "the audit log does not show reads");
    let ours = secure.bao.audited();
    let data: Vec<_> = ours.iter().filter(|(_, path)| path.starts_with("secret/data/")).collect();
    assert_eq!(data, [&("update".to_owned(), format!("secret/data/{PATH}"))]);
    assert_eq!(secure.issuer.token_requests().len(), 2);
    assert_eq!(secure.validator.identity_requests().len(), 2);
}

#[test]
fn a_store_whose_authority_is_another_gets_nothing() {
    let secure = Secure::new(&Dump::fresh(1));
    let other = Pki::new();
    let mut idkeep = secure.idkeep;
    idkeep.config(
        &secure.yaml.replace(&format!("{:?}", secure.bao.ca_file.as_ref().unwrap()), &format!("{:?}", other.ca_file())),
    );
    let outcome = idkeep.sync(78);
    assert!(outcome.stderr.contains("certificate not trusted: signed by an unknown authority"), "{outcome}");
    assert!(outcome.stderr.contains("`tls.ca_file`"), "{outcome}");
    assert!(secure.bao.kv_metadata(PATH).is_none());
    assert!(!secure.bao.audit_log().contains("auth/approle/login"));
}

#[test]
fn a_node_with_recipients_is_stored_as_armor_that_the_stock_age_opens() {
    let key = AgeKey::new();
    let mut scenario = Scenario::new(3);
    scenario.identity(&format!("recipients: [{}]", key.recipient));
    assert_eq!(scenario.sync(0).store(), "written");
    let stored = scenario.bao.kv_get(&scenario.path()).unwrap().data;
    assert_eq!(stored["encoding"], "age");
    assert_eq!(stored.as_object().unwrap().len(), 2);
    let armor = stored["content"].as_str().unwrap();
    assert!(armor.starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"), "{armor}");
    assert_eq!(key.open(armor.as_bytes()).unwrap(), scenario.dump.json());
    assert!(AgeKey::new().open(armor.as_bytes()).is_err());
    assert_eq!(scenario.sync(0).store(), "unchanged");
    assert_eq!(scenario.versions(), 1);
}

#[test]
fn a_thousand_passes_make_one_version() {
    const NODES: usize = 25;
    const RUNS: usize = 40;
    let scenario = Scenario::on(super::own_bao(), Dump::fresh(1));
    scenario.bao.policy(&scenario.node, &writer_policy("canton/+/identities"));
    let yaml = scenario.yaml();
    let (node, stores) = yaml.split_once("stores:\n  vault:").unwrap();
    let node = node.strip_prefix("nodes:\n").unwrap();
    let nodes: String = (0..NODES).map(|n| node.replacen(&scenario.node, &format!("many-{n}"), 1)).collect();
    let mut idkeep = Idkeep::new();
    idkeep.config(&format!("nodes:\n{nodes}stores:\n  vault:{stores}"));
    for run in 0..RUNS {
        let report = idkeep.sync(0).json();
        let nodes = report["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), NODES);
        let expected = if run == 0 { "written" } else { "unchanged" };
        assert!(nodes.iter().all(|node| node["stores"][0]["outcome"] == expected), "run {run}: {report}");
    }
    for node in 0..NODES {
        let metadata = scenario.bao.kv_metadata(&format!("canton/many-{node}/identities")).unwrap();
        assert_eq!(metadata["current_version"], 1);
    }
}
