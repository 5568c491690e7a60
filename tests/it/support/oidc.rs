//! The certified `oidc-provider`, as the issuer of client-credentials tokens.

use std::path::PathBuf;
use std::process::Stdio;

use rcgen::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::pki::{Identity, Pki};
use super::process::{self, Server};
use super::{jwt, keys, parts};

/// The audience that its tokens are for, asked for as `resource`.
pub const AUDIENCE: &str = "https://validator.example.com";
/// A second resource that it knows, which the validator does not accept.
pub const OTHER_AUDIENCE: &str = "https://ledger.example.com";
/// The scope that it grants for [`AUDIENCE`].
pub const SCOPE: &str = "daml_ledger_api";

/// A running issuer. Its tokens are RS256 JWTs whose `sub` is the client's id.
pub struct OidcProvider {
    /// The issuer's URL, without a `/` at the end.
    pub issuer: String,
    pub ca_file: Option<PathBuf>,
    /// Registered for `client_secret_basic`; id and secret change under form-encoding.
    pub basic: Secret,
    /// Registered for `client_secret_post`; likewise.
    pub post: Secret,
    /// Registered for `private_key_jwt` with RS256.
    pub rs256: Key,
    /// Registered for `private_key_jwt` with ES256.
    pub es256: Key,
    /// Registered for `tls_client_auth`, where there is TLS.
    pub tls: Option<Certificate>,
    pki: Pki,
    process: Server,
    folder: TempDir,
}

/// A client with a secret.
pub struct Secret {
    pub id: String,
    pub secret: String,
}

/// A client with a signing key.
pub struct Key {
    pub id: String,
    pub key_id: String,
    /// PKCS #8 PEM.
    pub private_key: String,
}

/// A client with a certificate.
pub struct Certificate {
    pub id: String,
    pub identity: Identity,
}

impl OidcProvider {
    /// Over plain HTTP; tokens live ten minutes.
    pub fn http() -> Self {
        Self::start(false, 600)
    }

    /// Over TLS, with a certificate of its own authority.
    pub fn https() -> Self {
        Self::start(true, 600)
    }

    /// Over plain HTTP or TLS, with tokens that live so many seconds.
    pub fn start(tls: bool, lifetime: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new();
        let basic = Secret { id: "a:b/c d%".into(), secret: "p+q&r=s%20:t/u~*".into() };
        let post = Secret { id: "post:client/1 %".into(), secret: "s3cret +&=%41/~".into() };
        let rs256 =
            Key { id: "rs256-client".into(), key_id: "rs-1".into(), private_key: keys::pem(keys::SYNTHETIC_CLIENT) };
        let es256 = Key {
            id: "es256-client".into(),
            key_id: "es-1".into(),
            private_key: KeyPair::generate().unwrap().serialize_pem(),
        };
        let certificate = tls.then(|| Certificate { id: "tls-client".into(), identity: pki.client("tls-client") });
        let settings = json!({
            "clients": clients(&basic, &post, &rs256, &es256, tls),
            "resources": {AUDIENCE: {"scope": SCOPE}, OTHER_AUDIENCE: {}},
            "jwks": {"keys": [private_jwk()]},
            "lifetime": lifetime,
            "tls": tls.then(|| {
                let server = pki.server();
                json!({"cert_file": server.certificate_file, "key_file": server.key_file, "ca_file": pki.ca_file()})
            }),
        });
        let log = folder.path().join("issuer.log");
        let start = Server::start(&parts::node(), &log, |command| {
            command.env("IDKEEP_NODE_MODULES", parts::node_modules()).env("HOME", folder.path());
            command.arg(parts::script("issuer.mjs")).arg(settings.to_string());
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        });
        let mut process = start.unwrap();
        let line =
            process.first_line().unwrap_or_else(|| panic!("the issuer did not start:\n{}", process::log_of(&log)));
        let said: Value = serde_json::from_str(&line).unwrap();
        Self {
            issuer: said["issuer"].as_str().unwrap().to_owned(),
            ca_file: tls.then(|| pki.ca_file()),
            basic,
            post,
            rs256,
            es256,
            tls: certificate,
            pki,
            process,
            folder,
        }
    }

    pub fn token_url(&self) -> String {
        format!("{}/token", self.issuer)
    }

    pub fn jwks_uri(&self) -> String {
        format!("{}/jwks", self.issuer)
    }

    /// What it complained about.
    pub fn log(&self) -> String {
        process::log_of(&self.folder.path().join("issuer.log"))
    }

    pub fn pki(&self) -> &Pki {
        &self.pki
    }
}

impl Key {
    /// An assertion for `private_key_jwt`, to try the issuer without idkeep.
    pub fn assertion(&self, audience: &str) -> String {
        use jsonwebtoken::{Algorithm, EncodingKey, Header};
        let (algorithm, key) = if self.id.starts_with("rs") {
            (Algorithm::RS256, EncodingKey::from_rsa_pem(self.private_key.as_bytes()))
        } else {
            (Algorithm::ES256, EncodingKey::from_ec_pem(self.private_key.as_bytes()))
        };
        let now = jwt::now();
        let claims = json!({
            "iss": self.id, "sub": self.id, "aud": audience, "iat": now, "exp": now + 60,
            "jti": format!("{:016x}", fastrand::u64(..)),
        });
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &claims, &key.unwrap()).unwrap()
    }
}

fn clients(basic: &Secret, post: &Secret, rs256: &Key, es256: &Key, tls: bool) -> Value {
    let mut rs_jwk = jwt::jwk(keys::SYNTHETIC_CLIENT);
    rs_jwk["kid"] = json!(rs256.key_id);
    let mut es_jwk = jwt::ec_jwk(&es256.private_key);
    es_jwk["kid"] = json!(es256.key_id);
    let mut clients = vec![
        json!({
            "client_id": basic.id, "client_secret": basic.secret, "scope": SCOPE,
            "token_endpoint_auth_method": "client_secret_basic",
        }),
        json!({
            "client_id": post.id, "client_secret": post.secret, "scope": SCOPE,
            "token_endpoint_auth_method": "client_secret_post",
        }),
        json!({
            "client_id": rs256.id, "jwks": {"keys": [rs_jwk]}, "token_endpoint_auth_signing_alg": "RS256",
            "scope": SCOPE, "token_endpoint_auth_method": "private_key_jwt",
        }),
        json!({
            "client_id": es256.id, "jwks": {"keys": [es_jwk]}, "token_endpoint_auth_signing_alg": "ES256",
            "scope": SCOPE, "token_endpoint_auth_method": "private_key_jwt",
        }),
    ];
    if tls {
        clients.push(json!({
            "client_id": "tls-client", "tls_client_auth_subject_dn": "CN=tls-client", "scope": SCOPE,
            "token_endpoint_auth_method": "tls_client_auth",
        }));
    }
    json!(clients)
}

/// The synthetic issuer key with its private half, as the provider's own key set has it.
fn private_jwk() -> Value {
    let mut jwk = jwt::jwk(keys::SYNTHETIC_ISSUER);
    let numbers = super::dump::rsa_numbers(&keys::der(keys::SYNTHETIC_ISSUER));
    for (name, number) in ["d", "p", "q", "dp", "dq", "qi"].iter().zip(&numbers[1..]) {
        use base64::Engine as _;
        jwk[*name] = json!(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(number));
    }
    jwk
}
