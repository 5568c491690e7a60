//! Proxies: named in the environment or configured, and what is never sent through one.

use crate::support::issuer::Issuer;
use crate::support::node::{Node, path, quoted};
use crate::support::pki::Pki;
use crate::support::proxy::{Fault, FaultProxy, HttpProxy, refused};
use crate::support::server::{Reply, Server, Tls};
use crate::support::validator::BASE;

const VARIABLES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// Beyond this machine, and nowhere: only a proxy could reach it.
const FAR: &str = "node.acme.invalid";

fn environment(node: &mut Node, names: &[&str], url: &str) {
    for name in names {
        node.idkeep.env(name, url);
    }
}

fn assert_unused(proxy: &HttpProxy) {
    let seen = proxy.seen();
    assert!(seen.tunnels.is_empty() && seen.in_clear.is_empty(), "{seen:?}");
}

/// A node and an issuer over TLS, which need their authority to be believed.
fn with_tls(pki: &Pki) -> Node {
    Node::with(Issuer::settings().tls(Tls::of(pki)).start(), |settings| settings.tls(Tls::of(pki)))
}

#[test]
fn nothing_in_clear_goes_through_a_proxy_of_the_environment() {
    let proxy = HttpProxy::start();
    let mut node = Node::new();
    environment(&mut node, &VARIABLES, &proxy.url());
    node.succeeds();
    node.set("endpoint", quoted(&format!("http://{FAR}{BASE}"))).set("deadline", "1s");
    node.fails(75, &["the host's name does not resolve"]);
    assert_unused(&proxy);
}

#[test]
fn this_machine_is_never_reached_through_a_proxy_of_the_environment() {
    let (proxy, pki) = (HttpProxy::start(), Pki::new());
    for host in ["127.0.0.1", "localhost"] {
        let mut node = with_tls(&pki);
        environment(&mut node, &VARIABLES, &proxy.url());
        let endpoint = node.validator.endpoint_at(host);
        node.set("endpoint", quoted(&endpoint)).succeeds();
    }
    assert_unused(&proxy);
}

#[test]
fn https_beyond_this_machine_goes_through_a_proxy_of_the_environment() {
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        let proxy = HttpProxy::start();
        let mut node = Node::new();
        environment(&mut node, &[name], &proxy.url());
        node.set("endpoint", quoted(&format!("https://{FAR}{BASE}"))).set("deadline", "1s");
        node.fails(75, &[&format!("https://{FAR}: the proxy does not connect to it"), "`idkeep check`", "NO_PROXY"]);
        let seen = proxy.seen();
        assert!(!seen.tunnels.is_empty() && seen.tunnels.iter().all(|place| *place == format!("{FAR}:443")), "{name}");
        assert!(seen.in_clear.is_empty());
    }
}

#[test]
fn the_proxy_for_plain_http_is_never_used() {
    let proxy = HttpProxy::start();
    let mut node = Node::new();
    environment(&mut node, &["HTTP_PROXY", "http_proxy"], &proxy.url());
    for scheme in ["http", "https"] {
        node.set("endpoint", quoted(&format!("{scheme}://{FAR}{BASE}"))).set("deadline", "1s");
        node.fails(75, &["the host's name does not resolve"]);
    }
    assert_unused(&proxy);
}

#[test]
fn the_environment_can_exclude_a_host() {
    for (name, excluded) in [
        ("NO_PROXY", FAR),
        ("no_proxy", ".acme.invalid"),
        ("NO_PROXY", "other.example, acme.invalid"),
        ("no_proxy", "*"),
    ] {
        let proxy = HttpProxy::start();
        let mut node = Node::new();
        environment(&mut node, &["HTTPS_PROXY"], &proxy.url());
        node.idkeep.env(name, excluded);
        node.set("endpoint", quoted(&format!("https://{FAR}{BASE}"))).set("deadline", "1s");
        node.fails(75, &["the host's name does not resolve"]);
        assert_unused(&proxy);
    }
}

#[test]
fn a_configured_proxy_tunnels_what_it_is_configured_for() {
    let (proxy, other, pki) = (HttpProxy::start(), HttpProxy::start(), Pki::new());
    let mut node = with_tls(&pki);
    environment(&mut node, &VARIABLES, &other.url());
    let through = format!("{{url: {}}}", quoted(&proxy.url()));
    node.set("proxy", through.as_str()).succeeds();
    assert_eq!(proxy.seen().tunnels, [node.validator.server().address.to_string()]);
    node.oauth2("proxy", through.as_str()).run(0, &[]);
    let issuer = node.issuer.server().address.to_string();
    assert!(proxy.seen().tunnels.contains(&issuer) && proxy.seen().in_clear.is_empty());
    assert_unused(&other);
}

#[test]
fn a_configured_proxy_can_exclude_hosts_and_networks() {
    let (proxy, pki) = (HttpProxy::start(), Pki::new());
    for excluded in ["127.0.0.1", "127.0.0.0/8"] {
        let mut node = with_tls(&pki);
        node.set("proxy", format!("{{url: {}, no_proxy: [other.example, {excluded}]}}", quoted(&proxy.url())));
        node.succeeds();
    }
    assert_unused(&proxy);
}

#[test]
fn a_certificate_is_judged_at_the_far_end_of_the_tunnel() {
    let (proxy, pki, other) = (HttpProxy::start(), Pki::new(), Pki::new());
    let mut node = with_tls(&pki);
    node.set("proxy", format!("{{url: {}}}", quoted(&proxy.url())));
    node.set("tls", format!("{{ca_file: {}}}", path(&other.ca_file())))
        .fails(78, &["certificate not trusted", "signed by an unknown authority"]);
    assert_eq!(proxy.seen().tunnels.len(), 1);
    assert!(node.validator.requests().is_empty());
}

#[test]
fn a_proxy_that_is_not_there_is_named_as_what_fails() {
    let pki = Pki::new();
    let mut node = with_tls(&pki);
    node.set("proxy", format!("{{url: 'http://{}'}}", refused())).set("deadline", "2s");
    node.fails(75, &["asking for the identities", "the proxy cannot be reached", "`proxy.no_proxy`"]);
    assert!(node.validator.requests().is_empty());
}

#[test]
fn a_proxy_that_refuses_is_told_from_the_node() {
    let pki = Pki::new();
    for (status, code, said) in
        [(403, 75, "the proxy does not connect to it"), (407, 77, "the proxy wants a user name and password")]
    {
        let proxy = Server::plain(move |_| async move { Reply::empty(status) });
        let mut node = with_tls(&pki);
        node.set("proxy", format!("{{url: {}}}", quoted(&proxy.origin()))).set("deadline", "2s");
        node.fails(code, &["asking for the identities", said]);
        assert!(proxy.seen().iter().all(|seen| seen.method == "CONNECT" && seen.header("authorization").is_none()));
        assert_eq!(proxy.seen().len() > 1, code == 75, "{status}");
    }
}

#[test]
fn a_proxys_password_is_shown_to_the_proxy_and_to_nobody_else() {
    let proxy = Server::plain(|_| async { Reply::empty(407) });
    let mut node = Node::new();
    let url = proxy.origin().replace("http://", "http://user:canary@");
    environment(&mut node, &["HTTPS_PROXY"], &url);
    node.set("endpoint", quoted(&format!("https://{FAR}{BASE}")));
    let ran = node.fails(77, &["the proxy wants a user name and password"]);
    assert!(!ran.0.output().contains("canary"), "{}", ran.0);
    assert_eq!(proxy.seen()[0].header("proxy-authorization"), Some("Basic dXNlcjpjYW5hcnk="));
}

#[test]
fn a_proxy_that_swallows_everything_ends_with_the_deadline() {
    let (pki, through) = (Pki::new(), HttpProxy::start());
    let hole = FaultProxy::before(through.address, Fault::BlackHole);
    let mut node = with_tls(&pki);
    node.set("proxy", format!("{{url: 'http://{}'}}", hole.address)).set("deadline", "1s");
    node.fails(75, &["no whole answer within"]);
    hole.set(Fault::None);
    node.set("deadline", "60s").succeeds();
}
