//! The token endpoint: as configured, or as the issuer's discovery document names it.
//!
//! A document is believed only if it is the issuer's own and sends the client's secret nowhere else.

use serde::Deserialize;
use url::Url;

use super::Error;
use crate::config::{Address, ClientAuth, Oauth2};
use crate::http::{self, Exchange, Http};
use crate::retry::Deadline;

/// The largest document that is read, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// Where tokens are asked for, and how the client may authenticate there.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) address: Address,
    /// The issuer's identifier as it writes it itself, where it is known.
    pub(super) issuer: Option<String>,
    pub(super) client_auth: ClientAuth,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    token_endpoint: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    mtls_endpoint_aliases: Option<Aliases>,
}

#[derive(Deserialize)]
struct Aliases {
    #[serde(default)]
    token_endpoint: Option<String>,
}

/// The endpoint of this configuration; asks the issuer where `token_url` is not set.
pub(super) async fn endpoint(config: &Oauth2, http: &Http, deadline: Deadline) -> Result<Endpoint, Error> {
    if let Some(address) = &config.token_url {
        let client_auth = config.client_auth.unwrap_or_else(|| own_method(config));
        let issuer = config.issuer.as_ref().map(|issuer| issuer.as_written().to_owned());
        return Ok(Endpoint { address: address.clone(), issuer, client_auth });
    }
    let Some(issuer) = &config.issuer else {
        return Err(Error::Discovery { issuer: "?".into(), why: "neither `issuer` nor `token_url` is set".into() });
    };
    let document = fetch(config, issuer, http, deadline).await?;
    let wrong = |why: String| Error::Discovery { issuer: issuer.to_string(), why };
    if !is_same(&document.issuer, issuer) {
        return Err(wrong(format!("it names another issuer, {}", place_of(&document.issuer, issuer))));
    }
    let client_auth = config.client_auth.unwrap_or_else(|| offered_method(config, &document));
    let alias = document.mtls_endpoint_aliases.and_then(|aliases| aliases.token_endpoint);
    let named = alias.filter(|_| client_auth == ClientAuth::Tls).unwrap_or(document.token_endpoint);
    let address = believed(&named, issuer, config.allow_http).map_err(wrong)?;
    Ok(Endpoint { address, issuer: Some(document.issuer), client_auth })
}

/// Equal but for one `/` at the end; the configured one counts as written and in its normal form.
fn is_same(named: &str, configured: &Address) -> bool {
    let without_slash = |text: &'_ str| text.strip_suffix('/').unwrap_or(text).to_owned();
    let named = without_slash(named);
    named == without_slash(configured.as_written()) || named == without_slash(configured.url().as_str())
}

/// Where another issuer stands; no more of its name than that.
fn place_of(named: &str, configured: &Address) -> String {
    match Url::parse(named).map(|url| url.origin().ascii_serialization()) {
        Ok(origin) if origin == configured.origin() => "of the same host (compare path and capitals)".into(),
        Ok(origin) => format!("at {origin}"),
        Err(_) => "whose name is no address".into(),
    }
}

/// The token endpoint, if it stands where the issuer stands.
fn believed(named: &str, issuer: &Address, allow_http: bool) -> Result<Address, String> {
    let url = Url::parse(named).map_err(|_| "its token endpoint is not an address".to_owned())?;
    let is_same_place = url.host_str() == issuer.url().host_str()
        && url.port_or_known_default() == issuer.url().port_or_known_default();
    if !is_same_place {
        let place = url.origin().ascii_serialization();
        return Err(format!("its token endpoint is elsewhere, at {place}"));
    }
    let address: Address = named.parse().map_err(|_| "its token endpoint is not an address".to_owned())?;
    if address.is_plain() && !allow_http {
        return Err("its token endpoint is not encrypted (`http://`)".into());
    }
    Ok(address)
}

async fn fetch(config: &Oauth2, issuer: &Address, http: &Http, deadline: Deadline) -> Result<Document, Error> {
    let client = http.client(issuer, &config.tls, config.proxy.as_ref())?;
    let origin = issuer.origin();
    let exchange = Exchange {
        doing: "reading the discovery document",
        origin: &origin,
        cap: MAX_BYTES,
        timeout: deadline.remaining().min(super::endpoint::TIMEOUT),
    };
    let wrong = |why: String| Error::Discovery { issuer: issuer.to_string(), why };
    let answer = match exchange.run(client.get(issuer.join("/.well-known/openid-configuration"))).await {
        Err(http::Error::TooLarge { cap, .. }) => return Err(wrong(format!("it is larger than {cap} bytes"))),
        answer => answer?,
    };
    let status = answer.status.as_u16();
    match status {
        200 => serde_json::from_slice(&answer.body).map_err(|_| wrong("the answer is no discovery document".into())),
        408 | 425 | 429 | 500..=599 => {
            Err(Error::Busy { origin, what: "the discovery document", status, retry_after: answer.retry_after() })
        }
        300..=399 => Err(wrong(format!("redirected to {}, which is not followed", answer.redirect_host()))),
        _ => Err(wrong(format!("status {status}"))),
    }
}

/// The method for which the configuration holds what is needed.
fn own_method(config: &Oauth2) -> ClientAuth {
    if config.client_secret.is_some() {
        ClientAuth::Basic
    } else if config.private_key.is_some() {
        ClientAuth::PrivateKeyJwt
    } else {
        ClientAuth::Tls
    }
}

/// The same, but `post` where the issuer does not offer `basic`.
fn offered_method(config: &Oauth2, document: &Document) -> ClientAuth {
    let offers = |method: &str| {
        let offered = document.token_endpoint_auth_methods_supported.as_ref();
        offered.is_some_and(|methods| methods.iter().any(|offer| offer == method))
    };
    match own_method(config) {
        ClientAuth::Basic if offers("client_secret_post") && !offers("client_secret_basic") => ClientAuth::Post,
        method => method,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_the_same_but_for_one_slash_at_the_end() {
        let configured: Address = "https://ID.acme.example:443/realm/".parse().unwrap();
        for same in [
            "https://ID.acme.example:443/realm/",
            "https://ID.acme.example:443/realm",
            "https://id.acme.example/realm",
            "https://id.acme.example/realm/",
        ] {
            assert!(is_same(same, &configured), "{same}");
        }
        for other in [
            "https://id.acme.example/realm//",
            "https://id.acme.example/Realm",
            "https://id.acme.example/",
            "https://id.acme.example.evil.example/realm",
            "http://id.acme.example/realm",
            "",
        ] {
            assert!(!is_same(other, &configured), "{other}");
        }
    }

    #[test]
    fn a_token_endpoint_elsewhere_is_not_believed() {
        let issuer: Address = "https://id.acme.example/realm".parse().unwrap();
        assert!(believed("https://id.acme.example/token", &issuer, false).is_ok());
        assert!(believed("https://id.acme.example:443/token", &issuer, false).is_ok());
        for elsewhere in [
            "https://evil.example/token",
            "https://id.acme.example:8443/token",
            "https://id.acme.example@evil.example/token",
            "http://id.acme.example/token",
            "http://id.acme.example:443/token",
            "/token",
        ] {
            assert!(believed(elsewhere, &issuer, false).is_err(), "{elsewhere}");
        }
    }
}
