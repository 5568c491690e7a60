//! A token endpoint's answer, read as leniently as issuers write it.

use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{AccessToken, Client, EndpointNotSet, RefreshToken, Scope, StandardRevocableToken, TokenResponse};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::time::Duration;

/// The `oauth2` crate's client, with our answer in place of its own.
pub(super) type TokenClient = Client<
    BasicErrorResponse,
    Answer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
>;

/// What is read of it. The crate's token is redacted when printed.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Answer {
    access_token: AccessToken,
    token_type: BasicTokenType,
    /// Entra's version 1 endpoint writes a number as text.
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    })
}

impl TokenResponse for Answer {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &BasicTokenType {
        &self.token_type
    }

    fn expires_in(&self) -> Option<Duration> {
        self.expires_in.map(Duration::from_secs)
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        None
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_read_however_it_is_written() {
        let read = |lifetime: &str| {
            let json = format!(r#"{{"access_token": "t", "token_type": "Bearer"{lifetime}}}"#);
            serde_json::from_str::<Answer>(&json).unwrap().expires_in()
        };
        let hour = Some(Duration::from_hours(1));
        assert_eq!(read(r#", "expires_in": 3600"#), hour);
        assert_eq!(read(r#", "expires_in": "3600""#), hour);
        for unknown in ["", r#", "expires_in": null"#, r#", "expires_in": "soon""#, r#", "expires_in": -1"#] {
            assert_eq!(read(unknown), None, "{unknown}");
        }
    }
}
