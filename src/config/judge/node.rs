//! Rules of a node's identities: where they come from, and which stores keep them.

use super::super::document::Findings;
use super::super::{
    AssertionAudience, Auth, ClientAuth, Config, FileStore, Identity, NamespaceKey, Node, Oauth2, Require, Store,
};
use super::store::kubernetes;
use super::{judge_address, judge_recipients, judge_tls, known};

pub(super) fn judge(config: &Config, node: &Node, path: &str, findings: &mut Findings) {
    for (field, value) in [("network", &node.network), ("party_hint", &node.party_hint)] {
        if value.is_none() {
            let message = format!("`{field}` is not set, so it is not recorded beside the dump");
            let fix = if field == "party_hint" { "add it: recovery needs it" } else { "add it" };
            findings.warning(&format!("{path}.{field}"), message, fix);
        }
    }
    if let Some(network) = &node.network
        && (matches!(network.as_str(), "." | "..") || network.contains('/'))
    {
        findings.mistake(
            &format!("{path}.network"),
            "a network's name has no `/`, and is not `.` or `..`",
            "rename it",
        );
    }
    let identity = &node.identity;
    let path = format!("{path}.identity");
    judge_address(&identity.endpoint, identity.allow_http, &format!("{path}.endpoint"), findings);
    judge_tls(&identity.tls, &format!("{path}.tls"), findings);
    if !identity.endpoint.url().path().trim_end_matches('/').ends_with("/api/validator") {
        findings.warning(
            &format!("{path}.endpoint"),
            "the validator app's API usually ends in `/api/validator`",
            "check the address",
        );
    }
    judge_times(identity, &path, findings);
    judge_stores(config, identity, &path, findings);
    kubernetes::judge_alone(config, identity, &path, findings);
    judge_recipients(&identity.recipients, &format!("{path}.recipients"), findings);
    match &identity.auth {
        Auth::Oauth2(oauth2) => judge_oauth2(oauth2, &format!("{path}.auth.oauth2"), findings),
        Auth::UnsafeHs256(_) => findings.warning(
            &format!("{path}.auth.unsafe_hs256"),
            "whoever knows this shared secret can read the node's keys",
            "give the node an OpenID provider before it holds anything of value",
        ),
        Auth::Token(_) => {}
    }
    if identity.participant.is_none() {
        findings.warning(
            &format!("{path}.participant"),
            "the first sync trusts whichever node answers",
            "add `participant: PAR::…`, as `idkeep sync --dry-run` shows it",
        );
    }
    if identity.namespace_key == NamespaceKey::Offline {
        findings.warning(
            &format!("{path}.namespace_key"),
            "a dump is stored without proof that it holds the root namespace key",
            "keep that key as carefully as these identities",
        );
    }
}

fn judge_times(identity: &Identity, path: &str, findings: &mut Findings) {
    for (field, period) in [("timeout", identity.timeout), ("deadline", identity.deadline)] {
        if period.0.is_zero() {
            findings.mistake(
                &format!("{path}.{field}"),
                format!("`{field}` must be longer than nothing"),
                "for example `30s`",
            );
        }
    }
    if identity.timeout > identity.deadline {
        findings.warning(
            &format!("{path}.timeout"),
            "`timeout` (one answer) is longer than `deadline` (the whole pass)",
            "make `deadline` the longer one, so that a retry fits in",
        );
    }
}

fn judge_stores(config: &Config, identity: &Identity, path: &str, findings: &mut Findings) {
    if identity.stores.is_empty() {
        findings.mistake(&format!("{path}.stores"), "no store is named", "name at least one of those under `stores:`");
    }
    for (index, name) in identity.stores.iter().enumerate() {
        let path = format!("{path}.stores[{index}]");
        match config.stores.get(name) {
            None => {
                let fix = known(config.stores.keys(), "stores");
                findings.mistake(&path, format!("there is no store `{name}`"), fix);
            }
            Some(Store::File(FileStore { recipients, .. }))
                if recipients.is_empty()
                    && identity.recipients.is_empty()
                    && !findings.is_replaced(&format!("stores.{name}")) =>
            {
                findings.mistake(
                    &path,
                    format!("the file store `{name}` has no age recipient, and this node neither"),
                    format!("add `recipients` under `stores.{name}.file`"),
                );
            }
            Some(_) => {}
        }
        if identity.stores[..index].contains(name) {
            findings.mistake(&path, format!("the store `{name}` is named twice"), "take one out");
        }
    }
    if let Require::AtLeast(number) = identity.require
        && number > identity.stores.len()
        && !identity.stores.is_empty()
    {
        let message = format!("{number} stores are required, but {} named", identity.stores.len());
        findings.mistake(&format!("{path}.require"), message, "lower it, or name more stores");
    }
}

fn judge_oauth2(oauth2: &Oauth2, path: &str, findings: &mut Findings) {
    if oauth2.issuer.is_none() && oauth2.token_url.is_none() {
        findings.mistake(path, "neither `issuer` nor `token_url` is set", "add `issuer: https://…`");
    }
    for (field, address) in [("issuer", &oauth2.issuer), ("token_url", &oauth2.token_url)] {
        if let Some(address) = address {
            judge_address(address, oauth2.allow_http, &format!("{path}.{field}"), findings);
        }
    }
    judge_tls(&oauth2.tls, &format!("{path}.tls"), findings);
    let secret = oauth2.client_secret.is_some();
    let key = oauth2.private_key.is_some();
    let cert = oauth2.tls.client_cert_file.is_some();
    let needs = |field: &str, way: &str, findings: &mut Findings| {
        findings.mistake(
            &format!("{path}.{field}"),
            format!("client authentication `{way}` needs `{field}`"),
            "add it",
        );
    };
    match oauth2.client_auth {
        Some(ClientAuth::Basic) if !secret => needs("client_secret", "basic", findings),
        Some(ClientAuth::Post) if !secret => needs("client_secret", "post", findings),
        Some(ClientAuth::PrivateKeyJwt) if !key => needs("private_key", "private_key_jwt", findings),
        Some(ClientAuth::Tls) if !cert => needs("tls.client_cert_file", "tls", findings),
        None if !secret && !key && !cert => findings.mistake(
            &format!("{path}.client_secret"),
            "the client has nothing to authenticate with",
            "add `client_secret`, `private_key` or `tls.client_cert_file`",
        ),
        _ => {}
    }
    for name in oauth2.extra_params.keys() {
        let path = format!("{path}.extra_params.{name}");
        match name.as_str() {
            "client_secret" | "client_assertion" | "password" | "refresh_token" => {
                let fix = "take it out, and change the secret: it has been in a file; idkeep sends `client_secret` and `private_key` itself";
                findings.mistake(&path, "a secret is never written in the file", fix);
            }
            "grant_type" | "client_id" | "client_assertion_type" => {
                findings.mistake(&path, "idkeep sends this field itself", "take it out");
            }
            _ => {}
        }
    }
    if oauth2.assertion_audience == AssertionAudience::Issuer && oauth2.issuer.is_none() {
        findings.mistake(
            &format!("{path}.assertion_audience"),
            "`issuer` is not set",
            "add it, or use `token_endpoint`",
        );
    }
}
