//! Why Azure did not do it: statuses and the codes that we know, in our own words.

use std::time::Duration;

use serde::Deserialize;

use crate::error::Fault;
use crate::store::cloud::Reason;

#[derive(Deserialize)]
struct Body {
    error: Cause,
}

/// Nested; the innermost code says most.
#[derive(Deserialize)]
struct Cause {
    code: Option<String>,
    innererror: Option<Box<Cause>>,
}

impl Cause {
    fn innermost(self) -> Option<String> {
        match self.innererror.and_then(|inner| inner.innermost()) {
            Some(code) => Some(code),
            None => self.code,
        }
    }
}

/// The answer of a vault. Codes: Key Vault REST API, "error codes".
pub(super) fn of_vault(status: u16, body: &[u8], retry_after: Option<Duration>) -> Reason {
    let code = serde_json::from_slice::<Body>(body).ok().and_then(|body| body.error.innermost());
    match (status, code.as_deref().unwrap_or_default()) {
        (401, _) => Reason::Unauthorized,
        (403, "ForbiddenByRbac") => Reason::Denied("no role of this identity allows it"),
        (403, "ForbiddenByPolicy" | "AccessDenied") => {
            Reason::Denied("the vault's access policies do not allow it: is its permission model `Azure RBAC`?")
        }
        (403, "ForbiddenByFirewall") => Reason::Denied("the vault's firewall does not let this machine in"),
        (403, "ForbiddenByConnection") => Reason::Denied("the vault takes no connection from this network"),
        (403, _) => Reason::Denied("status 403"),
        (404, _) => Reason::Missing,
        (409, "ObjectIsDeletedButRecoverable") => Reason::InTheWay {
            why: "a deleted secret of this name can still be recovered, and until then nothing can be written",
            fix: "bring it back with all its versions: `az keyvault secret recover --vault-name VAULT --name NAME`; \
                  and find out who deleted it",
            fault: Fault::Config,
        },
        (429, _) => Reason::Throttled { retry_after },
        // 409: an object that is being deleted, recovered, or changed by somebody else.
        (408 | 409 | 500.., _) => Reason::Busy { status },
        (300..=399, _) => Reason::Rejected("it redirects, which is never followed"),
        (400, _) => Reason::Rejected("status 400, it does not take the request as it is"),
        _ => Reason::Rejected("a status that the API does not name"),
    }
}

#[derive(Deserialize)]
struct TokenError {
    error: String,
}

/// The answer of a token endpoint.
pub(super) fn of_token(status: u16, body: &[u8], retry_after: Option<Duration>) -> Reason {
    let error = serde_json::from_slice::<TokenError>(body).map(|body| body.error).unwrap_or_default();
    match (status, error.as_str()) {
        (429, _) => Reason::Throttled { retry_after },
        (408 | 500.., _) => Reason::Busy { status },
        (401, _) | (400, "invalid_client" | "unauthorized_client" | "invalid_grant") => Reason::NoCredentials(
            "the token endpoint refuses this client: does its federated credential name this issuer, subject and \
             audience, or has its secret run out?",
        ),
        _ => Reason::Rejected(
            "the token endpoint refuses the request: are tenant and client id right, and has the identity a federated \
             credential?",
        ),
    }
}

/// The answer of this machine's service for managed identities.
pub(super) fn of_machine(status: u16, retry_after: Option<Duration>) -> Reason {
    match status {
        429 => Reason::Throttled { retry_after },
        // 404 and 410: it is being updated.
        404 | 408 | 410 | 500.. => Reason::Busy { status },
        _ => Reason::NoCredentials("this machine has no managed identity, or none with this `client_id`"),
    }
}

/// What remains the reason where nothing comes after the challenge.
pub(super) fn foreign_challenge() -> Reason {
    Reason::InTheWay {
        why: "it wants a token for something else than the domain that it stands in: no token was sent",
        fix: "is `vault_url` right? A vault under a private name needs its `audience`, such as https://vault.azure.net",
        fault: Fault::Config,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(status: u16, code: &str, inner: &str) -> String {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"CANARY","innererror":{{"code":"{inner}"}}}}}}"#);
        of_vault(status, body.as_bytes(), None).to_string()
    }

    #[test]
    fn the_innermost_code_counts_and_no_word_of_the_other_side_is_said() {
        assert!(vault(403, "Forbidden", "ForbiddenByRbac").contains("no role"));
        assert!(vault(403, "Forbidden", "ForbiddenByPolicy").contains("access policies"));
        assert!(vault(403, "Forbidden", "ForbiddenByFirewall").contains("firewall"));
        assert!(vault(403, "Forbidden", "CANARY").contains("status 403"));
        assert!(vault(409, "Conflict", "ObjectIsDeletedButRecoverable").contains("recovered"));
        assert!(vault(409, "Conflict", "ObjectIsBeingDeleted").contains("409"));
        for status in [200, 302, 400, 401, 403, 404, 405, 409, 418, 429, 500, 503, 599] {
            assert!(!vault(status, "CANARY", "CANARY").contains("CANARY"), "{status}");
        }
        assert!(matches!(of_vault(403, b"<html>", None), Reason::Denied(_)));
    }

    #[test]
    fn a_token_endpoint_that_knows_the_client_no_more_is_a_matter_of_credentials() {
        for error in ["invalid_client", "unauthorized_client", "invalid_grant"] {
            let body = format!(r#"{{"error":"{error}","error_description":"AADSTS"}}"#);
            assert!(matches!(of_token(400, body.as_bytes(), None), Reason::NoCredentials(_)));
        }
        assert!(matches!(of_token(400, br#"{"error":"invalid_scope"}"#, None), Reason::Rejected(_)));
        assert!(matches!(of_token(503, b"", None), Reason::Busy { status: 503 }));
        assert!(matches!(of_machine(410, None), Reason::Busy { .. }));
        assert!(matches!(of_machine(400, None), Reason::NoCredentials(_)));
    }
}
