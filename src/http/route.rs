//! The way to an address: directly, or through which proxy.
//!
//! Proxies named in the environment are used for https only, and never for this machine: a plain
//! request through a proxy would show keys to it.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::config::{Address, Proxy};

/// How an address is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Route {
    /// Without a proxy.
    Direct,
    /// Through a proxy.
    Through {
        /// The proxy; may hold credentials when it comes from the environment.
        url: Url,
        /// Where it is named.
        source: &'static str,
    },
}

impl Route {
    /// The route to this address.
    #[must_use]
    pub fn of(address: &Address, proxy: Option<&Proxy>) -> Self {
        Self::choose(address, proxy, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn choose(address: &Address, proxy: Option<&Proxy>, env: &dyn Fn(&str) -> Option<String>) -> Self {
        if let Some(proxy) = proxy {
            return Self::unless_excluded(address, proxy.url.url().clone(), &proxy.no_proxy.join(","), "configuration");
        }
        if address.is_plain() || address.is_loopback() {
            return Self::Direct;
        }
        let either = |name: &str| env(&name.to_lowercase()).or_else(|| env(name));
        let Some(named) = either("HTTPS_PROXY").or_else(|| either("ALL_PROXY")) else {
            return Self::Direct;
        };
        let with_scheme = if named.contains("://") { named } else { format!("http://{named}") };
        let Ok(url) = Url::parse(&with_scheme) else {
            return Self::Direct;
        };
        Self::unless_excluded(address, url, &either("NO_PROXY").unwrap_or_default(), "environment")
    }

    fn unless_excluded(address: &Address, url: Url, excluded: &str, source: &'static str) -> Self {
        let matcher = Matcher::builder().all(url.as_str()).no(excluded).build();
        let target: Option<http::Uri> = address.url().as_str().parse().ok();
        if target.and_then(|target| matcher.intercept(&target)).is_some() {
            Self::Through { url, source }
        } else {
            Self::Direct
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Through { url, source } => {
                write!(f, "through the proxy {} ({source})", url.origin().ascii_serialization())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(address: &str, env: &[(&str, &str)]) -> String {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Route::choose(&address.parse().unwrap(), None, &env).to_string()
    }

    #[test]
    fn the_environment_counts_for_https_beyond_this_machine_only() {
        let env = [
            ("HTTPS_PROXY", "http://user:pass@proxy:3128"),
            ("HTTP_PROXY", "http://other:1"),
            ("ALL_PROXY", "http://all:1"),
        ];
        assert_eq!(route("https://vault.acme.example", &env), "through the proxy http://proxy:3128 (environment)");
        assert_eq!(route("http://vault.acme.example", &env), "direct");
        assert_eq!(route("https://127.0.0.1:8200", &env), "direct");
        assert_eq!(route("https://localhost:8200", &env), "direct");
    }

    #[test]
    fn exclusions_count() {
        let env = [("https_proxy", "proxy:3128"), ("no_proxy", ".acme.example,10.0.0.0/8")];
        assert_eq!(route("https://vault.acme.example", &env), "direct");
        assert_eq!(route("https://10.1.2.3", &env), "direct");
        assert_eq!(route("https://vault.other.example", &env), "through the proxy http://proxy:3128 (environment)");
    }

    #[test]
    fn a_configured_proxy_is_used_whatever_the_environment_says() {
        let proxy = Proxy { url: "http://gate:8080".parse().unwrap(), no_proxy: vec!["vault.acme.example".into()] };
        let of = |address: &str| Route::choose(&address.parse().unwrap(), Some(&proxy), &|_| None).to_string();
        assert_eq!(of("https://node.acme.example"), "through the proxy http://gate:8080 (configuration)");
        assert_eq!(of("https://vault.acme.example"), "direct");
    }
}
