//! What libpq is told about a connection, in its own form. It stands in an argument list, so it holds no secret.

use super::target::Target;

/// What every session of ours sets: nothing ends one that waits for a dump, no name means what the database's owner
/// has put in its way, and no policy of the owner's decides what is seen.
const SETTINGS: &str = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=60000 \
    -c search_path=pg_catalog -c row_security=off";

/// The longest name of a session that a server keeps, in bytes.
const MAX_NAME: usize = 63;

/// `key='value' …` for a session by this name, marked so that a pooler in between is noticed.
pub(super) fn conninfo(target: &Target, application_name: &str, mark: &str) -> String {
    let mut parts = vec![("dbname".to_owned(), target.database().to_owned())];
    if let Some(user) = target.user() {
        parts.push(("user".into(), user.to_owned()));
    }
    if let Some(url) = target.url() {
        // Brackets belong to addresses in URLs only.
        let host = url.host().map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned());
        parts.extend(host.map(|host| ("host".into(), host)));
        parts.extend(url.port().map(|port| ("port".into(), port.to_string())));
        parts.extend(url.other_parameters());
    }
    let defaults = [
        // Encryption by Kerberos would go before TLS, and `sslmode` would mean nothing.
        ("gssencmode", "disable"),
        ("connect_timeout", "10"),
        // A server that is gone is noticed within two minutes, however long it has nothing to say.
        ("keepalives_idle", "60"),
        ("keepalives_interval", "10"),
        ("keepalives_count", "6"),
    ];
    for (key, value) in defaults {
        if !parts.iter().any(|(known, _)| known == key) {
            parts.push((key.into(), value.into()));
        }
    }
    parts.push(("application_name".into(), shortened(application_name)));
    parts.push(("options".into(), format!("-c idkeep.session={mark} {SETTINGS}")));
    let parts: Vec<String> = parts.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    parts.join(" ")
}

/// The name as the server will know it: what it would cut off, or replace, is gone before.
pub(super) fn shortened(application_name: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
    let name: String = application_name.chars().filter(is_plain).collect();
    // Its end tells one run from another.
    name[name.len().saturating_sub(MAX_NAME)..].to_owned()
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_end_its_quotes() {
        assert_eq!(quoted(r"a' host='b\"), r"'a\' host=\'b\\'");
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        let name = shortened(&format!("idkeep/{}/participant/0123abcd", "n".repeat(63)));
        assert_eq!(name.len(), MAX_NAME);
        assert!(name.ends_with("n/participant/0123abcd"));
        assert_eq!(shortened("idkeep/a'; drop/ü"), "idkeep/adrop/");
    }
}
