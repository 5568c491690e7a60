//! The parser of metrics, with Prometheus' own for a second opinion.

use crate::support::metrics::{Metrics, promtool};

const GOOD: &str = "# HELP a_total What \\\\ is\\ncounted.\n# TYPE a_total counter\n\
    a_total{node=\"one\",said=\"\\\"so\\\\n\\n\"} 3\na_total{node=\"two\",said=\"\"} 1e3\n\
    # HELP b Of something.\n# TYPE b gauge\nb -0.25\n# HELP c Of nothing.\n# TYPE c gauge\nc{x=\"1\"} NaN\nc{x=\"2\"} +Inf\n";

#[test]
fn what_prometheus_reads_is_read_with_its_escapes_and_values() {
    let (is_read, said) = promtool(GOOD);
    assert!(is_read, "{said}");
    let metrics = Metrics::parse(GOOD).unwrap();
    assert_eq!(metrics.value("a_total", &[("node", "one"), ("said", "\"so\\n\n")]), Some(3.0));
    assert_eq!(metrics.count("a_total", &[]), 1003);
    assert_eq!(metrics.value("b", &[]), Some(-0.25));
    assert!(metrics.value("c", &[("x", "1")]).unwrap().is_nan());
    assert_eq!(metrics.value("c", &[("x", "2")]), Some(f64::INFINITY));
    assert_eq!(metrics.value("c", &[("x", "3")]), None);
    assert_eq!(metrics.family("a_total").unwrap().help, "What \\ is\ncounted.");
}

#[test]
fn what_prometheus_refuses_is_refused() {
    for (old, new) in [
        ("b -0.25", "b -0,25"),
        ("b -0.25", "b"),
        ("b -0.25", "b  "),
        ("b -0.25", "b{x=\"1\" 2"),
        ("b -0.25", "b{x=1} 2"),
        ("b -0.25", "b{x=\"1} 2"),
        ("b -0.25", "b{1x=\"1\"} 2"),
        ("b -0.25", "b{x=\"1\" y=\"2\"} 2"),
        ("b -0.25", "b{x=\"1\",x=\"2\"} 2"),
        ("b -0.25", "b{x=\"\\t\"} 2"),
        ("b -0.25", "2b 1"),
        ("b -0.25", "b-c 1"),
        ("b -0.25", "b 1 now"),
        ("# TYPE b gauge", "# TYPE b measure"),
        ("# TYPE b gauge", "# TYPE b gauge\n# TYPE b gauge"),
        ("# HELP b Of something.", "# HELP b Of something.\n# HELP b Of something else."),
        ("b -0.25", "b -0.25\n# TYPE a_total counter"),
        ("said=\"\"} 1e3", "said=\"\"} 1e3\na_total{said=\"\",node=\"two\"} 1"),
        ("x=\"2\"} +Inf\n", "x=\"2\"} +Inf"),
    ] {
        let text = GOOD.replace(old, new);
        assert_ne!(text, GOOD);
        let (is_read, said) = promtool(&text);
        // Only about series that come twice is promtool silent: a server drops the second.
        assert!(!is_read || new.contains("two"), "promtool reads this: {new}\n{said}");
        assert!(Metrics::parse(&text).is_err(), "{new} is read");
    }
}

#[test]
fn what_prometheus_only_objects_to_is_refused_too() {
    for (old, new) in [
        ("# HELP b Of something.\n", ""),
        ("# TYPE a_total counter", "# TYPE a_total gauge"),
        ("# TYPE b gauge", "# TYPE b counter"),
        ("b -0.25\n", "b -0.25\na_total{node=\"three\",said=\"\"} 1\n"),
        ("said=\"\"} 1e3", "said=\"\"} -1"),
        ("# TYPE b gauge\n", ""),
    ] {
        let text = GOOD.replace(old, new);
        assert_ne!(text, GOOD);
        assert!(Metrics::parse(&text).is_err(), "{new} is read");
    }
}
