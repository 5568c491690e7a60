//! Tokens: of Entra for workloads and clients, of a machine for its managed identity.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use super::super::client::parse_form;
use super::super::jwt;
use super::super::keys;
use super::super::server::{Reply, Seen};
use super::{AUDIENCE, CLIENT, MACHINE, SUBJECT, State, TENANT};

/// The cluster that the federated credential names.
const ISSUER: &str = "https://cluster.example/issuer";

/// What Kubernetes projects into the pod of a workload.
pub fn assertion(subject: &str) -> String {
    let now = jwt::now();
    jwt::mint(&json!({
        "iss": ISSUER, "sub": subject, "aud": ["api://AzureADTokenExchange"], "iat": now, "exp": now + 3600,
    }))
}

fn is_good_assertion(assertion: &str) -> bool {
    let key = DecodingKey::from_jwk(&serde_json::from_value(jwt::jwk(keys::SYNTHETIC_ISSUER)).unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&["api://AzureADTokenExchange"]);
    rules.set_issuer(&[ISSUER]);
    rules.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    let claims = jsonwebtoken::decode::<Value>(assertion, &key, &rules);
    claims.is_ok_and(|token| token.claims["sub"] == SUBJECT)
}

fn issue(state: &mut State, to: &str) -> String {
    let token = format!("canary-azure-token-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    state.tokens.insert(token.clone(), to.to_owned());
    token
}

/// `POST /TENANT/oauth2/v2.0/token`.
pub fn of_entra(state: &mut State, seen: &Seen) -> Reply {
    state.token_requests += 1;
    let refuse = |status: u16, error: &str| {
        Reply::json(
            status,
            &json!({"error": error, "error_description": "AADSTS CANARY of the other side", "error_codes": [700_016]}),
        )
    };
    if let Some(reply) = state.spoiled("TOKEN") {
        return reply;
    }
    let is_form = seen.header("content-type") == Some("application/x-www-form-urlencoded");
    if seen.method != "POST" || !is_form || seen.header("authorization").is_some() {
        return refuse(400, "invalid_request");
    }
    if seen.path != format!("/{TENANT}/oauth2/v2.0/token") {
        return refuse(400, "invalid_request");
    }
    let form = parse_form(&seen.body);
    let get = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if get("grant_type") != "client_credentials" {
        return refuse(400, "unsupported_grant_type");
    }
    if get("client_id") != CLIENT {
        return refuse(400, "unauthorized_client");
    }
    let is_known = match form.get("client_secret") {
        Some(secret) => *secret == state.client_secret,
        None => {
            get("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
                && is_good_assertion(get("client_assertion"))
        }
    };
    if !is_known {
        return refuse(401, "invalid_client");
    }
    if get("scope") != format!("{AUDIENCE}/.default") {
        return refuse(400, "invalid_scope");
    }
    let token = issue(state, CLIENT);
    Reply::json(
        200,
        &json!({"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token}),
    )
}

/// `GET /msi/token`, as App Service and Container Apps have it.
pub fn of_machine(state: &mut State, seen: &Seen) -> Reply {
    state.token_requests += 1;
    let query = parse_form(seen.query.as_deref().unwrap_or_default().as_bytes());
    let get = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let is_asked_well = seen.method == "GET" && seen.path == "/msi/token" && get("api-version") == "2019-08-01";
    if !is_asked_well || get("resource") != AUDIENCE {
        return Reply::json(400, &json!({"statusCode": 400, "message": "CANARY of the other side"}));
    }
    if seen.header("x-identity-header") != Some(state.identity_header.as_str()) {
        return Reply::json(401, &json!({"statusCode": 401}));
    }
    if get("client_id") != MACHINE {
        return Reply::json(
            400,
            &json!({"statusCode": 400, "message": "No User Assigned or Delegated Managed Identity found"}),
        );
    }
    let token = issue(state, MACHINE);
    let expires_on = (jwt::now() + 86_400).to_string();
    Reply::json(
        200,
        &json!({"access_token": token, "expires_on": expires_on, "resource": AUDIENCE, "token_type": "Bearer", "client_id": MACHINE}),
    )
}
