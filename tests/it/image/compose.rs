//! The compose file that joins a node's network.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::{USER, root};
use crate::support::parts;
use crate::support::podman::said;

fn folder() -> PathBuf {
    root().join("docs/examples/compose")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

fn parsed(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// The file as an implementation of compose reads it, with every variable filled in.
fn resolved(environment: &[(&str, &str)]) -> Value {
    let mut compose = Command::new(parts::podman_compose());
    compose.args(["-f", "compose.idkeep.yaml", "config"]).current_dir(folder()).envs(environment.iter().copied());
    // Another implementation may have left its answers here.
    compose.env_remove("COMPOSE_FILE").env_remove("COMPOSE_PROJECT_NAME");
    parsed(&said(&mut compose))
}

#[test]
fn beside_a_compose_node_idkeep_has_no_right_and_no_socket() {
    let file = parsed(&read("compose.idkeep.yaml"));
    let services = file["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["idkeep"]);
    let idkeep = &services["idkeep"];
    assert_eq!(idkeep["user"], format!("{USER}:{USER}"));
    assert_eq!(idkeep["read_only"], true);
    assert_eq!(idkeep["cap_drop"], json!(["ALL"]));
    assert_eq!(idkeep["security_opt"], json!(["no-new-privileges:true"]));
    assert_eq!(idkeep["mem_limit"], idkeep["memswap_limit"]);
    assert!(idkeep["mem_limit"].is_string() && idkeep["ulimits"] == json!({"memlock": -1, "core": 0}));
    assert_eq!((&idkeep["restart"], &idkeep["command"]), (&json!("unless-stopped"), &json!(["run"])));
    assert!(texts(&idkeep["tmpfs"])[0].starts_with("/tmp:"));
    for granted in ["privileged", "cap_add", "devices", "pid", "ipc", "network_mode", "userns_mode", "group_add"] {
        assert!(idkeep.get(granted).is_none(), "{granted}");
    }
    // Nothing of the machine's but the configuration, which is for reading.
    assert_eq!(texts(&idkeep["volumes"]), ["./idkeep.yaml:/etc/idkeep/idkeep.yaml:ro"]);
    assert!(!read("compose.idkeep.yaml").contains("docker.sock") && !read("idkeep.yaml").contains("exec:"));
    // So `status` may be for all who reach it: asked from the host, the container sees its gateway and not loopback.
    assert_eq!(texts(&idkeep["ports"]), ["127.0.0.1:9464:9464"]);
    let server = &parsed(&read("idkeep.yaml"))["server"];
    assert_eq!(*server, json!({"listen": "0.0.0.0:9464", "status": "all"}));
}

#[test]
fn the_secrets_beside_a_compose_node_are_files_and_each_is_used() {
    let (file, configuration) = (parsed(&read("compose.idkeep.yaml")), read("idkeep.yaml"));
    let declared = file["secrets"].as_object().unwrap();
    let given: BTreeSet<&str> = texts(&file["services"]["idkeep"]["secrets"]).into_iter().collect();
    assert_eq!(declared.keys().map(String::as_str).collect::<BTreeSet<_>>(), given);
    for (name, secret) in declared {
        assert_eq!(*secret, json!({"file": format!("./secrets/{name}")}));
    }
    let environment = file["services"]["idkeep"]["environment"].to_string();
    for name in &given {
        let place = format!("/run/secrets/{name}");
        assert!(configuration.contains(&place) || environment.contains(&place), "{name} is of no use");
    }
    let named: BTreeSet<&str> = configuration
        .split("/run/secrets/")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap())
        .collect();
    assert!(named.is_subset(&given), "{named:?} and {given:?}");
    // In the environment stands a path.
    let values = file["services"]["idkeep"]["environment"].as_object().unwrap().values();
    assert!(values.clone().count() > 0);
    assert!(values.into_iter().all(|value| value.as_str().unwrap().starts_with("/run/secrets/")));
}

#[test]
fn an_implementation_of_compose_reads_the_file_and_joins_the_nodes_network() {
    let default = resolved(&[]);
    assert_eq!(default["networks"]["splice"]["name"], "splice-validator_splice_validator");
    assert_eq!(default["networks"]["splice"]["external"], true);
    assert_eq!(default["services"]["idkeep"]["image"], "idkeep-postgres:latest");
    assert_eq!(default["services"]["idkeep"]["read_only"], true);
    let other = resolved(&[("SPLICE_NETWORK", "onvpn"), ("IDKEEP_IMAGE", "registry.acme.example/idkeep-postgres:1")]);
    assert_eq!(other["networks"]["splice"]["name"], "onvpn");
    assert_eq!(other["services"]["idkeep"]["image"], "registry.acme.example/idkeep-postgres:1");
}
