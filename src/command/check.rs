//! `check`: what is wrong with the configuration, and with `--live`, what is wrong with the world.

mod backups;
mod heartbeat;
mod issuers;
mod secrets;
mod token;

use std::fmt::Write as _;

use issuers::Tokens;
use jiff::Timestamp;
use serde::Serialize;

use super::{Done, backup, json, protect, runtime};
use crate::backup::repository::open_to_others;
use crate::cli::{Check, Cli, Output};
use crate::config::{self, Config, Findings, Reference};
use crate::error::{Failed, Failure as _, Fault};
use crate::http::Http;
use crate::http::route::Route;
use crate::log::printable;
use crate::receipt::gravest;
use crate::retry::Deadline;
use crate::secret;
use crate::store::Note;
use crate::store::judge::{Accept, Verdict, judge};
use crate::sync::{Pass, Subject};

/// Everything that `check` says.
#[derive(Debug, Serialize)]
struct Checked {
    #[serde(flatten)]
    findings: Findings,
    /// The way to each address.
    routes: Vec<RouteTo>,
    /// What the schedule asks of each issuer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<Tokens>,
    /// What was tried, with `--live`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    live: Vec<Tried>,
}

#[derive(Debug, Serialize)]
struct RouteTo {
    path: String,
    address: String,
    route: String,
}

/// One thing that was tried.
#[derive(Debug, Serialize)]
struct Tried {
    what: String,
    result: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
    #[serde(skip)]
    failed: Option<Failed>,
}

/// Checks and reports.
#[must_use]
pub fn run(cli: &Cli, arguments: &Check) -> Done {
    let (config, mut findings) = match config::inspect(&cli.config) {
        Ok(inspected) => inspected,
        Err(error) => return Done::from(&error),
    };
    if let Some(config) = &config
        && !arguments.offline
    {
        look_at_files(config, &mut findings);
        look_at_folders(config, &mut findings);
        findings.sort();
    }
    let is_usable = findings.mistakes.is_empty();
    let routes = config.iter().flat_map(routes).filter(|route| !findings.is_replaced(&route.path)).collect();
    let tokens = config.as_ref().filter(|_| is_usable).map(issuers::tokens).unwrap_or_default();
    let live = match &config {
        Some(config) if is_usable && arguments.live => match try_all(config) {
            Ok(live) => live,
            Err(failed) => return Done::failed(failed),
        },
        _ => Vec::new(),
    };
    let checked = Checked { findings, routes, tokens, live };
    let exit_code = if is_usable {
        gravest(checked.live.iter().filter_map(|tried| tried.failed.as_ref()))
            .map_or(0, |failed| failed.fault.exit_code())
    } else {
        Fault::Config.exit_code()
    };
    let stdout = match cli.output {
        Output::Json => json(&checked),
        Output::Text => text(&checked, config.as_ref().filter(|_| is_usable)),
    };
    Done { stdout, exit_code, ..Done::default() }
}

fn look_at_files(config: &Config, findings: &mut Findings) {
    for (path, reference) in config.references() {
        let result = match reference {
            Reference::Secret(reference) => secret::probe(reference),
            Reference::PrivateFile(file) => secret::private_file(&file).map(|_| ()),
            Reference::GuardedFile(file) => secret::guarded_file(&file).map(|_| ()),
        };
        if let Err(error) = result {
            findings.mistake(&path, crate::error::chain(&error), error.hint().unwrap_or_default());
        }
    }
}

/// Repositories in folders that others may write to.
fn look_at_folders(config: &Config, findings: &mut Findings) {
    for (name, repository) in &config.repositories {
        let path = format!("repositories.{name}.url");
        let folder = repository.url.folder().filter(|_| !findings.is_replaced(&path));
        if let Some(open) = folder.and_then(|folder| open_to_others(&folder)) {
            findings.warning(
                &path,
                format!("others may write to {}: they can remove sets, or put others in their place", open.display()),
                format!("keep them in another folder, or `chmod o-w {}`", open.display()),
            );
        }
    }
}

fn routes(config: &Config) -> impl Iterator<Item = RouteTo> {
    config.addresses().into_iter().map(|(path, address, _, proxy)| RouteTo {
        path,
        address: address.to_string(),
        route: Route::of(address, proxy).to_string(),
    })
}

fn text(checked: &Checked, usable: Option<&Config>) -> String {
    let mut text = String::new();
    for mistake in &checked.findings.mistakes {
        let _ = writeln!(text, "{}", printable(&checked.findings.line(mistake, "mistake")));
    }
    for warning in &checked.findings.warnings {
        let _ = writeln!(text, "{}", printable(&checked.findings.line(warning, "warning")));
    }
    for RouteTo { path, address, route } in &checked.routes {
        let _ = writeln!(text, "route: {path}: {address}: {route}");
    }
    for tokens in &checked.tokens {
        let _ = writeln!(text, "{tokens}");
    }
    for Tried { what, result, message, fix, .. } in &checked.live {
        let fix = fix.as_ref().map(|fix| format!("; {fix}")).unwrap_or_default();
        let _ = writeln!(text, "{}", printable(&format!("{result}: {what}: {message}{fix}")));
    }
    if let Some(config) = usable {
        let _ = writeln!(text, "{}: {}", checked.findings.file.display(), summary(config));
    } else {
        let file = checked.findings.file.display();
        let _ = writeln!(text, "{file}: {}", count(checked.findings.mistakes.len(), "mistake", "mistakes"));
    }
    text
}

fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

fn summary(config: &Config) -> String {
    let mut counts = vec![
        count(config.nodes.len(), "node", "nodes"),
        count(config.stores.len(), "store", "stores"),
        count(config.repositories.len(), "repository", "repositories"),
    ];
    counts.retain(|count| !count.starts_with("0 repo"));
    format!("no mistakes: {}", counts.join(", "))
}

fn try_all(config: &Config) -> Result<Vec<Tried>, Failed> {
    protect(config, &[], backup::runs_commands(config, &[]))?;
    let pass = Pass::new(config, &[]);
    Ok(runtime()?.block_on(async {
        let mut tried = Vec::new();
        for (subject, http) in pass.subjects() {
            try_node(subject, http, &mut tried).await;
            backups::try_backup(config, subject, pass.secrets(), &mut tried).await;
        }
        secrets::try_rights(config, pass.secrets(), &mut tried).await;
        heartbeat::try_address(config, pass.secrets(), &mut tried).await;
        pass.close().await;
        tried
    }))
}

async fn try_node(subject: &Subject, http: &Http, tried: &mut Vec<Tried>) {
    let node = subject.name.as_str();
    let deadline = Deadline::after(subject.config.identity.deadline.0);
    let what = format!("{node}: token");
    match subject.source.claims(http, deadline).await {
        Ok(Some(claims)) => {
            let odd = token::judge(&claims, &subject.config.identity.auth, Timestamp::now()).into_iter();
            tried.extend(odd.map(|(message, fix)| Tried::unwise(what.clone(), message, fix.into())));
            tried.push(Tried::fine(what, format!("a token came; it says: {claims}")));
        }
        Ok(None) => tried.push(Tried::fine(what, "a token came; it is not a JWT, so it says nothing".into())),
        Err(error) => tried.push(Tried::failed(what, Failed::from(&error))),
    }
    let what = format!("{node}: identities");
    let identities = match tried.last() {
        Some(Tried { failed: Some(_), .. }) => None,
        _ => match subject.source.fetch(http, deadline).await {
            Ok(identities) => Some(identities),
            Err(error) => {
                tried.push(Tried::failed(what.clone(), Failed::from(&error)));
                None
            }
        },
    };
    // The keys are not needed to look at the stores.
    let about = identities.map(|identities| identities.about().clone());
    if let Some(about) = &about {
        let (id, kind, proof) = (&about.participant_id, about.key_kind.as_str(), about.key_proof.as_str());
        tried.push(Tried::fine(what, format!("{id}, {} keys ({kind}), namespace key {proof}", about.keys)));
    }
    let place = subject.place();
    for store in &subject.stores {
        let what = format!("{node}: store {}", store.name());
        match store.probe(place, deadline).await {
            Ok(notes) => tried.extend(notes.into_iter().map(|note| Tried::of(what.clone(), note))),
            Err(error) => {
                tried.push(Tried::failed(what, Failed::from(&error)));
                continue;
            }
        }
        let Some(about) = &about else { continue };
        let rules = subject.rules(&**store, Accept::Stored);
        if let Ok(head) = store.head(place, deadline).await
            && let Verdict::Refuse(refusal) = judge(&head, about, &rules)
        {
            tried.push(Tried::failed(what, Failed::new(Fault::Identity, refusal.to_string(), refusal.hint())));
        }
    }
}

impl Tried {
    fn fine(what: String, message: String) -> Self {
        Self { what, result: "ok", message, fix: None, failed: None }
    }

    fn failed(what: String, failed: Failed) -> Self {
        Self { what, result: "fail", message: failed.message.clone(), fix: failed.hint.clone(), failed: Some(failed) }
    }

    fn unwise(what: String, message: String, fix: String) -> Self {
        Self { result: "warn", fix: Some(fix), ..Self::fine(what, message) }
    }

    fn unknown(what: String, message: String) -> Self {
        Self { result: "unknown", ..Self::fine(what, message) }
    }

    fn of(what: String, note: Note) -> Self {
        match note {
            Note::Fine(message) => Self::fine(what, message),
            Note::Unwise(message, fix) => Self::unwise(what, message, fix),
            Note::Unknown(message) => Self::unknown(what, message),
            Note::TooMuch(message, fix) | Note::TooLittle(message, fix) => {
                Self::failed(what, Failed::new(Fault::Credentials, message, fix))
            }
        }
    }
}
