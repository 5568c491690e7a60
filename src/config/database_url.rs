//! A database's address as libpq reads it, without a password.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// `postgres://user@host:port/database?sslmode=verify-full&sslrootcert=…`; a socket's folder may stand as `host=`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "database-url", "examples" = ["postgres://idkeep_backup@host:5432/validator?sslmode=verify-full"]))]
pub struct DatabaseUrl {
    text: String,
    url: Url,
}

/// Parameters that would change what idkeep itself sets, or that hold a secret.
const REFUSED: [(&str, &str); 7] = [
    ("password", "a secret is never written in the file: name it in `password`"),
    ("passfile", "name the password in `password`"),
    ("sslpassword", "a secret is never written in the file: use a key without a passphrase"),
    ("options", "idkeep sets the session's options itself"),
    ("application_name", "idkeep names its sessions itself"),
    ("service", "write the connection out: a service file may hold anything"),
    ("replication", "a dump is no replication"),
];

impl DatabaseUrl {
    /// The user, where one is named.
    #[must_use]
    pub fn user(&self) -> Option<String> {
        self.parameter("user").or_else(|| decoded(self.url.username()))
    }

    /// The host's name or address, or a socket's folder.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        self.parameter("host").or_else(|| decoded(self.url.host_str().unwrap_or_default()))
    }

    /// The port, where one is named.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.parameter("port").and_then(|port| port.parse().ok()).or_else(|| self.url.port())
    }

    /// The database's name, where one is named.
    #[must_use]
    pub fn database(&self) -> Option<String> {
        self.parameter("dbname").or_else(|| decoded(self.url.path().trim_start_matches('/')))
    }

    /// A parameter of the query.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// Every parameter of the query that is not one of user, host, port and dbname.
    #[must_use]
    pub fn other_parameters(&self) -> Vec<(String, String)> {
        let is_other = |key: &str| !matches!(key, "user" | "host" | "port" | "dbname");
        self.url.query_pairs().filter(|(key, _)| is_other(key)).map(|(key, value)| (key.into(), value.into())).collect()
    }

    /// True where what is sent stays on this machine: a socket, or a loopback address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        // `hostaddr` is what libpq connects to, whatever `host` says.
        match self.parameter("hostaddr").or_else(|| self.host()) {
            None => true,
            Some(host) if host.starts_with('/') || host.starts_with('@') => true,
            Some(host) if host == "localhost" => true,
            Some(host) => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    /// True where the server proves who it is, and nobody on the way reads along.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.parameter("sslmode").is_some_and(|mode| mode == "verify-full")
    }
}

fn decoded(text: &str) -> Option<String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    (!decoded.is_empty()).then(|| decoded.into_owned())
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const READS: &str = "a database reads `postgres://user@host:port/database?sslmode=verify-full`, with one host";
        let url = Url::parse(text).map_err(|_| READS.to_owned())?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || url.cannot_be_a_base() {
            return Err(READS.into());
        }
        if url.password().is_some() {
            return Err(
                "a secret is never written in the file: take the password out, and name it in `password`".into()
            );
        }
        if url.fragment().is_some() {
            return Err(READS.into());
        }
        for (key, value) in url.query_pairs() {
            if let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == key) {
                return Err(format!("`{key}` is not allowed in the address: {why}"));
            }
            if !key.chars().all(|c| c.is_ascii_lowercase() || c == '_') || value.chars().any(char::is_control) {
                return Err(READS.into());
            }
        }
        let url = Self { text: text.to_owned(), url };
        let is_several = |host: String| host.contains(',');
        if url.host().is_some_and(is_several) || url.parameter("hostaddr").is_some_and(is_several) {
            return Err("one host: offsets of several servers cannot be compared".into());
        }
        let parts = [url.user(), url.host(), url.database()];
        if parts.into_iter().flatten().any(|part| part.chars().any(char::is_control)) {
            return Err(READS.into());
        }
        Ok(url)
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DatabaseUrl> for String {
    fn from(url: DatabaseUrl) -> Self {
        url.text
    }
}

/// `host:port/database`, what messages name.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host().unwrap_or_else(|| "local socket".into()))?;
        if let Some(port) = self.port() {
            write!(f, ":{port}")?;
        }
        match self.database() {
            Some(database) => write!(f, "/{database}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DatabaseUrl {
        text.parse().unwrap()
    }

    #[test]
    fn every_way_to_write_an_address_is_understood() {
        let url = parse("postgres://idkeep@db.acme.example:5433/validator?sslmode=verify-full");
        assert_eq!((url.user().as_deref(), url.host().as_deref()), (Some("idkeep"), Some("db.acme.example")));
        assert_eq!((url.port(), url.database().as_deref()), (Some(5433), Some("validator")));
        assert!(!url.is_local() && url.is_verified());
        let socket = parse("postgresql://cnadmin@/participant-4?host=/run/postgresql&port=5434");
        assert!(socket.is_local());
        assert_eq!((socket.host().as_deref(), socket.port()), (Some("/run/postgresql"), Some(5434)));
        assert_eq!(socket.database().as_deref(), Some("participant-4"));
        let encoded = parse("postgres://%2Frun%2Fpostgresql/validator");
        assert_eq!(encoded.host().as_deref(), Some("/run/postgresql"));
        assert!(encoded.is_local() && encoded.user().is_none());
        let asked = parse("postgres:///?user=cnadmin&dbname=a%20b");
        assert_eq!((asked.user().as_deref(), asked.database().as_deref()), (Some("cnadmin"), Some("a b")));
    }

    #[test]
    fn an_address_beyond_this_machine_is_not_local_whatever_its_name() {
        for local in ["postgres://localhost/a", "postgres://127.0.0.1/a", "postgres://[::1]/a", "postgres:///a"] {
            assert!(parse(local).is_local(), "{local}");
        }
        for far in ["postgres://db/a", "postgres://10.0.0.1/a", "postgres://localhost/a?hostaddr=10.0.0.1"] {
            assert!(!parse(far).is_local(), "{far}");
        }
    }

    #[test]
    fn secrets_and_what_idkeep_sets_itself_are_refused() {
        for text in [
            "postgres://u:p@h/d",
            "postgres://u@h/d?password=p",
            "postgres://u@h/d?options=-c%20x",
            "postgres://u@h/d?application_name=x",
            "postgres://u@h1,h2/d",
            "postgres://u@/d?host=a,b",
            "mysql://u@h/d",
            "host=h dbname=d",
        ] {
            assert!(text.parse::<DatabaseUrl>().is_err(), "{text}");
        }
    }
}
