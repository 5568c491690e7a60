//! What a token says about itself, held against what the node will want to see.

use jiff::{SignedDuration, Timestamp};

use crate::config::Auth;
use crate::oauth::Claims;

/// A token that lives less than this may run out within a pass.
const SHORT: SignedDuration = SignedDuration::from_secs(60);
/// Whoever finds a token may fetch the private keys for as long as it lives.
const LONG: SignedDuration = SignedDuration::from_hours(24);

/// What is odd about these claims: each with what to do. The node alone decides; it is asked next.
pub(super) fn judge(claims: &Claims, auth: &Auth, now: Timestamp) -> Vec<(String, &'static str)> {
    let mut odd = Vec::new();
    let wanted = match auth {
        Auth::Oauth2(oauth2) => oauth2.audience.as_deref(),
        Auth::UnsafeHs256(unsafe_hs256) => Some(unsafe_hs256.audience.as_str()),
        Auth::Token(_) => None,
    };
    match (&claims.audience, wanted) {
        (None, _) => odd.push((
            "the token names no audience, and the node wants its own in it".to_owned(),
            "let the issuer put the validator's audience into `aud`: `audience` (Auth0), a scope or a mapper (Keycloak)",
        )),
        (Some(has), Some(wanted)) if !has.split(", ").any(|one| one == wanted) => odd.push((
            format!("the token is for {has}, not for the `audience` that is configured, {wanted}"),
            "an issuer that ignores `audience` (Keycloak) takes a scope or an audience mapper instead",
        )),
        _ => {}
    }
    if matches!(auth, Auth::Oauth2(_)) && claims.algorithm.as_deref().is_some_and(is_symmetric) {
        odd.push((
            "the token is signed with a shared secret or not at all, and the node checks it with the issuer's public keys"
                .to_owned(),
            "let the issuer sign this API's tokens with RS256",
        ));
    }
    let life = claims.expires.and_then(|at| Timestamp::from_second(at).ok()).map(|at| at.duration_since(now));
    match life {
        Some(life) if life.is_negative() || life.is_zero() => {
            odd.push(("the token has run out".to_owned(), "is this machine's clock right, and who renews the token?"));
        }
        Some(life) if life < SHORT => odd.push((
            format!("the token lives for {} s more, which a slow pass may outlast", life.as_secs()),
            "let the issuer give it some minutes",
        )),
        Some(life) if life > LONG => odd.push((
            "the token lives longer than a day, and whoever finds it may fetch the keys until then".to_owned(),
            "let the issuer give it minutes: idkeep asks for a new one in time",
        )),
        _ => {}
    }
    odd
}

fn is_symmetric(algorithm: &str) -> bool {
    algorithm.starts_with("HS") || algorithm.eq_ignore_ascii_case("none")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn auth(json: serde_json::Value) -> Auth {
        serde_json::from_value(json).unwrap()
    }

    fn oauth2(audience: Option<&str>) -> Auth {
        let mut oauth2 = serde_json::json!({"issuer": "https://issuer.example", "client_id": "one"});
        if let Some(audience) = audience {
            oauth2["audience"] = audience.into();
        }
        auth(serde_json::json!({ "oauth2": oauth2 }))
    }

    fn claims() -> Claims {
        Claims {
            audience: Some("https://a.example, https://b.example".into()),
            subject: Some("me".into()),
            expires: Some(NOW + 600),
            algorithm: Some("RS256".into()),
        }
    }

    fn odd(claims: &Claims, auth: &Auth) -> Vec<String> {
        let now = Timestamp::from_second(NOW).unwrap();
        judge(claims, auth, now).into_iter().map(|(message, _)| message).collect()
    }

    #[test]
    fn a_token_as_it_should_be_is_not_odd() {
        assert!(odd(&claims(), &oauth2(Some("https://b.example"))).is_empty());
        assert!(odd(&claims(), &oauth2(None)).is_empty());
    }

    #[test]
    fn another_audience_or_none_is_named() {
        let wrong = odd(&claims(), &oauth2(Some("https://validator.example")));
        assert!(wrong[0].contains("not for the `audience` that is configured, https://validator.example"), "{wrong:?}");
        // A part of an audience is none.
        assert_eq!(odd(&claims(), &oauth2(Some("https://b"))).len(), 1);
        let none = odd(&Claims { audience: None, ..claims() }, &oauth2(None));
        assert!(none[0].contains("names no audience"), "{none:?}");
    }

    #[test]
    fn a_life_that_is_over_too_short_or_too_long_is_named() {
        for (seconds, part) in [(0, "run out"), (-5, "run out"), (59, "59 s more"), (86_401, "longer than a day")] {
            let said = odd(&Claims { expires: Some(NOW + seconds), ..claims() }, &oauth2(None));
            assert!(said.len() == 1 && said[0].contains(part), "{seconds}: {said:?}");
        }
        for seconds in [60, 86_400] {
            assert!(odd(&Claims { expires: Some(NOW + seconds), ..claims() }, &oauth2(None)).is_empty(), "{seconds}");
        }
    }

    #[test]
    fn a_symmetric_signature_is_odd_where_an_issuer_signs() {
        let symmetric = Claims { algorithm: Some("HS256".into()), ..claims() };
        assert!(odd(&symmetric, &oauth2(None))[0].contains("shared secret"));
        let compose = auth(serde_json::json!({
            "unsafe_hs256": {"secret": {"env": "S"}, "user": "u", "audience": "https://a.example"}
        }));
        assert!(odd(&symmetric, &compose).is_empty());
    }
}
