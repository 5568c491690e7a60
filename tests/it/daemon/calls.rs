//! Calls of the heartbeat that are lost on their way: one that is missed would be an alarm about nothing.

use super::{SELDOM, scheduled};
use crate::support::block_on;
use crate::support::daemon::{Daemon, ENDED, passes};
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::server::{Reply, Server};

#[test]
fn a_call_whose_connection_is_reset_comes_in_the_same_round() {
    let watch = Server::plain(|_| std::future::ready(Reply::new(200, "text/plain", "OK")));
    let proxy = FaultProxy::before(watch.address, Fault::ResetAfter(0));
    let mut scenario = scheduled(925, SELDOM);
    let url = scenario.idkeep.secret_file("heartbeat", format!("http://{}/ping/1", proxy.address).as_bytes());
    scenario.top(&format!("{SELDOM}\nheartbeat: {{url: {{file: {url:?}}}, allow_http: true, timeout: 30s}}"));
    let daemon = Daemon::start(&scenario.idkeep);
    block_on(proxy.broken(1));
    proxy.set(Fault::None);
    let metrics = daemon.wait_for_metrics("the heartbeat", |metrics| {
        let done = metrics.count("idkeep_heartbeat_total", &[("outcome", "done")]);
        (done == 1).then(|| daemon.metrics())
    });
    assert_eq!(metrics.count("idkeep_heartbeat_total", &[("outcome", "failed")]), 0, "{}", metrics.text);
    assert_eq!(passes(&metrics, &scenario.node, ENDED), 1, "{}", metrics.text);
    assert_eq!(watch.seen().last().map(|seen| seen.path.clone()), Some("/ping/1".to_owned()));
    assert!(daemon.events().iter().any(|event| event.is("trying again") && event.text("what") == "heartbeat"));
}
