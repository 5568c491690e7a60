//! The chart, rendered by the real Helm engine, and what comes of it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use super::parts;

/// The oldest version of Kubernetes that the chart names, one between and the newest.
const VERSIONS: [&str; 3] = ["1.29", "1.33", "1.37"];

pub const RELEASE: &str = "one";
pub const NAMESPACE: &str = "canton";
pub const REVISION: u32 = 7;

/// Values, and how they are meant to be seen in a message.
pub struct Case {
    pub name: String,
    pub chart: PathBuf,
    pub values: String,
    pub is_linted: bool,
}

/// What came of one case.
#[derive(Debug, Deserialize)]
pub struct Rendered {
    #[serde(skip)]
    pub name: String,
    pub error: Option<String>,
    pub lint: Vec<String>,
    pub files: BTreeMap<String, String>,
    pub manifests: Vec<Value>,
    pub problems: Vec<String>,
}

/// The chart's folder.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("helm/idkeep")
}

impl Case {
    pub fn new(name: impl Into<String>, values: impl Into<String>) -> Self {
        Self { name: name.into(), chart: folder(), values: values.into(), is_linted: false }
    }

    pub fn linted(self) -> Self {
        Self { is_linted: true, ..self }
    }

    pub fn of(self, chart: &Path) -> Self {
        Self { chart: chart.to_owned(), ..self }
    }
}

/// `mode`, other values as they are, and a configuration.
pub fn values(mode: &str, others: &str, config: &str) -> String {
    let config: String = config.lines().map(|line| format!("  {line}\n")).collect();
    format!("mode: {mode}\n{others}\nconfig:\n{config}")
}

/// All of them in one process, whose start is what takes time.
pub fn render(cases: Vec<Case>) -> Vec<Rendered> {
    let asked: Vec<Value> = cases
        .iter()
        .map(|case| {
            json!({"chart": case.chart, "values": case.values, "lint": case.is_linted, "name": RELEASE, "namespace": NAMESPACE,
                   "revision": REVISION})
        })
        .collect();
    let request = json!({"cases": asked, "versions": VERSIONS}).to_string();
    let mut child = Command::new(parts::chart_python())
        .arg(parts::script("chart.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || stdin.write_all(request.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut answers: Vec<Rendered> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), cases.len());
    for (answer, case) in answers.iter_mut().zip(cases) {
        answer.name = case.name;
    }
    answers
}

/// The one case, which has to be without fault.
pub fn render_one(values: impl Into<String>) -> Rendered {
    let rendered = render(vec![Case::new("this", values)]).remove(0);
    rendered.assert_good();
    rendered
}

impl Rendered {
    pub fn assert_good(&self) {
        let Self { name, error, lint, problems, .. } = self;
        assert!(error.is_none(), "{name}: {}", error.as_deref().unwrap_or_default());
        assert!(lint.is_empty(), "{name}: {lint:#?}");
        assert!(problems.is_empty(), "{name}: {problems:#?}");
    }

    /// Every manifest of this kind.
    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.manifests.iter().filter(|manifest| manifest["kind"] == kind).collect()
    }

    /// The only manifest of this kind.
    pub fn one(&self, kind: &str) -> &Value {
        let found = self.of_kind(kind);
        assert_eq!(found.len(), 1, "{}: {kind}", self.name);
        found[0]
    }

    /// Every pod that would run, with the name of what makes it.
    pub fn pods(&self) -> Vec<(String, &Value)> {
        let found = self.manifests.iter().filter_map(|manifest| {
            let path = match manifest["kind"].as_str()? {
                "Deployment" | "Job" => "/spec/template/spec",
                "CronJob" => "/spec/jobTemplate/spec/template/spec",
                _ => return None,
            };
            Some((manifest["metadata"]["name"].as_str()?.to_owned(), manifest.pointer(path)?))
        });
        found.collect()
    }

    /// The only pod.
    pub fn pod(&self) -> &Value {
        let pods = self.pods();
        assert_eq!(pods.len(), 1, "{}", self.name);
        pods[0].1
    }

    /// idkeep's configuration as it is mounted.
    pub fn config(&self) -> &str {
        self.one("ConfigMap")["data"]["idkeep.yaml"].as_str().unwrap()
    }

    /// What is said once it is installed.
    pub fn notes(&self) -> &str {
        let notes = self.files.iter().find(|(path, _)| path.ends_with("/NOTES.txt"));
        notes.map(|(_, text)| text.as_str()).unwrap_or_default()
    }

    /// The ports that the configuration's addresses may be reached at.
    pub fn egress_ports(&self) -> Vec<u64> {
        let rules = self.one("NetworkPolicy")["spec"]["egress"].as_array().unwrap();
        let ports = |rule: &Value| -> Vec<u64> {
            rule["ports"].as_array().unwrap().iter().map(|port| port["port"].as_u64().unwrap()).collect()
        };
        assert_eq!(ports(&rules[0]), [53, 53], "the first rule is DNS");
        rules.get(1).map(ports).unwrap_or_default()
    }
}

/// `containers` and `initContainers` of a pod.
pub fn containers(pod: &Value) -> Vec<&Value> {
    ["initContainers", "containers"].iter().filter_map(|key| pod[key].as_array()).flatten().collect()
}
