//! A node: where its identities come from and where they go.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Address, AgeRecipient, Backup, Name, ParticipantName, Period, Proxy, SecretRef, Tls};

/// One validator.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The network's name (`mainnet`), recorded beside the dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 128))]
    pub network: Option<String>,
    /// The hint of the validator's party, recorded beside the dump; recovery needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 185))]
    pub party_hint: Option<String>,
    /// Where the identities come from, and where they go.
    pub identity: Identity,
    /// The node's database backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
}

/// Where a node's identities come from, and where they go.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Base of the validator app's API; ends in `/api/validator`.
    pub endpoint: Address,
    /// `Host` header to send, for compose's nginx (`wallet.localhost`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Allows an `http://` endpoint.
    #[serde(default)]
    pub allow_http: bool,
    /// TLS files for the endpoint.
    #[serde(default)]
    pub tls: Tls,
    /// Proxy for the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// Time for one answer, to its last byte.
    #[serde(default = "thirty_seconds")]
    pub timeout: Period,
    /// Time for the whole pass with all its retries.
    #[serde(default = "sixty_seconds")]
    pub deadline: Period,
    /// How to get a bearer token: exactly one way.
    pub auth: Auth,
    /// Names of the stores that keep the identities.
    pub stores: Vec<Name>,
    /// How many stores must succeed.
    #[serde(default)]
    pub require: Require,
    /// Seals the dump to these age recipients before any store sees it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<AgeRecipient>,
    /// Where the participant's root namespace key is.
    #[serde(default)]
    pub namespace_key: NamespaceKey,
    /// Refuses any other identity, on the first sync too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant: Option<ParticipantName>,
    /// More new versions than this within 24 hours are refused.
    #[serde(default = "five")]
    #[schemars(range(min = 1))]
    pub max_changes_per_day: u32,
}

const fn thirty_seconds() -> Period {
    Period::seconds(30)
}

const fn sixty_seconds() -> Period {
    Period::seconds(60)
}

const fn five() -> u32 {
    5
}

/// How the node's bearer token is obtained.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schemars(extend("examples" = [{"token": {"file": "/run/secrets/idkeep"}}]))]
pub enum Auth {
    /// OAuth 2.0 client credentials.
    Oauth2(Box<Oauth2>),
    /// A token signed by ourselves, for compose without authentication.
    #[serde(rename = "unsafe_hs256")]
    UnsafeHs256(UnsafeHs256),
    /// A ready bearer token.
    Token(SecretRef),
}

/// OAuth 2.0 client credentials (RFC 6749 section 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oauth2 {
    /// The issuer, whose discovery document names the token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Address>,
    /// The token endpoint itself; used instead of discovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<Address>,
    /// The client's id.
    #[schemars(extend("examples" = ["idkeep"]))]
    pub client_id: String,
    /// The client's secret, for `basic` and `post`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretRef>,
    /// How the client authenticates. Default: what discovery allows, else `basic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// How id and secret are written in the `Authorization` header.
    #[serde(default)]
    pub basic_encoding: BasicEncoding,
    /// PEM private key, for `private_key_jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<SecretRef>,
    /// The `kid` of that key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The audience of the client assertion.
    #[serde(default)]
    pub assertion_audience: AssertionAudience,
    /// The audience to ask for (Auth0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The resource to ask for (RFC 8707).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Scopes, separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Further form fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_params: BTreeMap<String, String>,
    /// Allows `http://` for the issuer and the token endpoint.
    #[serde(default)]
    pub allow_http: bool,
    /// TLS files for the issuer.
    #[serde(default)]
    pub tls: Tls,
    /// Proxy for the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// How a client proves who it is to the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
    /// A signed assertion (RFC 7523).
    PrivateKeyJwt,
    /// `tls_client_auth` (RFC 8705), with the certificate under `tls`.
    Tls,
}

/// How `basic` writes id and secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BasicEncoding {
    /// Form-encoded before base64 (RFC 6749 section 2.3.1).
    #[default]
    Rfc6749,
    /// As they are.
    Raw,
}

/// Whom a client assertion is addressed to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssertionAudience {
    /// The token endpoint's address.
    #[default]
    TokenEndpoint,
    /// The issuer's identifier.
    Issuer,
}

/// The token that a compose node without authentication trusts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnsafeHs256 {
    /// The shared secret (`unsafe`, unless the node was told another).
    pub secret: SecretRef,
    /// The token's `sub`.
    #[serde(default = "ledger_api_user")]
    pub user: String,
    /// The token's `aud`.
    #[serde(default = "validator_audience")]
    pub audience: String,
}

fn ledger_api_user() -> String {
    "ledger-api-user".into()
}

fn validator_audience() -> String {
    "https://validator.example.com".into()
}

/// Where the participant's root namespace key is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceKey {
    /// In the dump, which must prove it.
    #[default]
    InDump,
    /// Kept elsewhere; the participant holds a delegated key.
    Offline,
}

/// How many stores must succeed: `all`, `any` or a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Require {
    /// Every store.
    #[default]
    All,
    /// At least this many.
    AtLeast(usize),
}

impl Require {
    /// True if `succeeded` of `total` stores are enough.
    #[must_use]
    pub const fn is_met(self, succeeded: usize, total: usize) -> bool {
        match self {
            Self::All => succeeded == total,
            Self::AtLeast(number) => succeeded >= number,
        }
    }
}

impl<'de> Deserialize<'de> for Require {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(usize),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(Self::AtLeast(number)),
            Written::Word(word) if word == "all" => Ok(Self::All),
            Written::Word(word) if word == "any" => Ok(Self::AtLeast(1)),
            Written::Word(_) => Err(serde::de::Error::custom("expected `all`, `any` or a number")),
        }
    }
}

impl Serialize for Require {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::AtLeast(1) => serializer.serialize_str("any"),
            Self::AtLeast(number) => serializer.serialize_u64(*number as u64),
        }
    }
}

impl JsonSchema for Require {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Require".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How many stores must succeed: `all`, `any` or a number.",
            "x-expected": "`all`, `any` or a number from 1",
            "anyOf": [{"type": "string", "enum": ["all", "any"]}, {"type": "integer", "minimum": 1}]
        })
    }
}
