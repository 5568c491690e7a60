//! A database's address as libpq reads it, without a password.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `postgres://user@host:port/database?sslmode=verify-full&sslrootcert=…`; a socket's folder may stand as `host=`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "database-url", "examples" = ["postgres://idkeep_backup@host:5432/validator?sslmode=verify-full"]))]
pub struct DatabaseUrl {
    text: String,
    /// Every part by libpq's name for it: `user`, `host`, `port`, `dbname` and the parameters of the query.
    parts: BTreeMap<String, String>,
}

/// Parameters that would change what idkeep itself sets, or that hold a secret.
const REFUSED: [(&str, &str); 11] = [
    ("password", "a secret is never written in the file: name it in `password`"),
    ("passfile", "name the password in `password`"),
    ("sslpassword", "a secret is never written in the file: use a key without a passphrase"),
    ("oauth_client_secret", "a secret is never written in the file: use a password or a certificate"),
    ("scram_client_key", "a secret is never written in the file: name the password in `password`"),
    ("scram_server_key", "a secret is never written in the file: name the password in `password`"),
    ("sslkeylogfile", "it would write down what opens the connection's encryption"),
    ("options", "idkeep sets the session's options itself"),
    ("application_name", "idkeep names its sessions itself"),
    ("service", "write the connection out: a service file may hold anything"),
    ("replication", "a dump is no replication"),
];

/// Every word that libpq knows, from the weakest on.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

const READS: &str = "a database reads `postgres://user@host:port/database?sslmode=verify-full`, with one host";

impl DatabaseUrl {
    /// The user, where one is named.
    #[must_use]
    pub fn user(&self) -> Option<String> {
        self.parameter("user")
    }

    /// The host's name or address, or a socket's folder.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        self.parameter("host")
    }

    /// The port, where one is named.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.parameter("port").and_then(|port| port.parse().ok())
    }

    /// The database's name, where one is named.
    #[must_use]
    pub fn database(&self) -> Option<String> {
        self.parameter("dbname")
    }

    /// A part by libpq's name for it, a parameter of the query or one that stands before it.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parts.get(name).cloned()
    }

    /// Every parameter that is not one of user, host, port and dbname.
    #[must_use]
    pub fn other_parameters(&self) -> Vec<(String, String)> {
        let is_other = |key: &str| !matches!(key, "user" | "host" | "port" | "dbname");
        self.parts.iter().filter(|(key, _)| is_other(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// True where what is sent stays on this machine: a socket, or a loopback address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        // `hostaddr` is what libpq connects to, whatever `host` says.
        match self.parameter("hostaddr").or_else(|| self.host()) {
            None => true,
            Some(host) if host.starts_with('/') || host.starts_with('@') => true,
            Some(host) if host == "localhost" => true,
            Some(host) => host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        }
    }

    /// True where the server proves who it is, and nobody on the way reads along.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.parameter("sslmode").is_some_and(|mode| mode == "verify-full")
    }

    /// Adds a part unless it is empty; one that stands in the query replaces what stands before it, as in libpq.
    fn insert(&mut self, key: &str, value: &str) -> Result<(), String> {
        let value = decoded(value)?;
        if key == "sslmode" && !SSL_MODES.contains(&value.as_str()) {
            return Err(format!("`sslmode` is one of {}", SSL_MODES.join(", ")));
        }
        if matches!(key, "host" | "hostaddr") && value.contains(',') {
            return Err("one host: offsets of several servers cannot be compared".into());
        }
        if value.is_empty() {
            return Ok(());
        }
        if key == "port" && !value.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err("`port` is one number from 1 to 65535".into());
        }
        self.parts.insert(key.to_owned(), value);
        Ok(())
    }

    /// `[user@][host][:port]`, of which each part may be missing.
    fn insert_authority(&mut self, authority: &str) -> Result<(), String> {
        let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') {
            return Err(
                "a secret is never written in the file: take the password out, and name it in `password`".into()
            );
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or(READS)?,
            None => place.split_at(place.find(':').unwrap_or(place.len())),
        };
        if !port.is_empty() && !port.starts_with(':') || user.contains('@') {
            return Err(READS.into());
        }
        self.insert("user", user)?;
        self.insert("host", host)?;
        self.insert("port", port.trim_start_matches(':'))
    }

    fn insert_query(&mut self, query: &str) -> Result<(), String> {
        let mut keys = Vec::new();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').ok_or(READS)?;
            if let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == key) {
                return Err(format!("`{key}` is not allowed in the address: {why}"));
            }
            let is_name = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if !is_name || keys.contains(&key) {
                return Err(READS.into());
            }
            self.insert(key, value)?;
            keys.push(key);
        }
        Ok(())
    }
}

/// `%20` and the like as libpq decodes them: `+` stands for itself.
fn decoded(text: &str) -> Result<String, String> {
    let is_hex = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    if !text.match_indices('%').all(|(at, _)| is_hex(at + 1) && is_hex(at + 2)) {
        return Err(READS.into());
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().map_err(|_| READS.to_owned())?;
    if decoded.chars().any(char::is_control) { Err(READS.into()) } else { Ok(decoded.into_owned()) }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.filter(|rest| !rest.contains([' ', '#'])).ok_or(READS)?;
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        if database.contains('/') {
            return Err(READS.into());
        }
        let mut url = Self { text: text.to_owned(), parts: BTreeMap::new() };
        url.insert_authority(authority)?;
        url.insert("dbname", database)?;
        if let Some(query) = query {
            url.insert_query(query)?;
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
            "postgres://u:@h/d",
            "postgres://u:a@b@h/d",
            "postgres://u@h:x/d",
            "postgres://u@h:0/d",
            "postgres://u@h/d#e",
            "postgres://u@h/d/e",
            "postgres://u@[::1/d",
            "postgres://u@h/d?sslmode",
            "postgres://u@h/%zz",
            "postgres://u@h/%00",
            "postgres:u@h/d",
            "postgres://u@h/a b",
            "postgres://u@h/d?password=p",
            "postgres://u@h/d?oauth_client_secret=s",
            "postgres://u@h/d?scram_client_key=k",
            "postgres://u@h/d?scram_server_key=k",
            "postgres://u@h/d?sslkeylogfile=f",
            "postgres://u@h/d?options=-c%20x",
            "postgres://u@h/d?application_name=x",
            "postgres://u@h1,h2/d",
            "postgres://u@/d?host=a,b",
            "mysql://u@h/d",
            "host=h dbname=d",
            "postgres://u@h/d?sslmode=verify_full",
            "postgres://u@h/d?port=1,2",
            "postgres://u@h/d?sslmode=verify-full&sslmode=disable",
        ] {
            assert!(text.parse::<DatabaseUrl>().is_err(), "{text}");
        }
    }
}
