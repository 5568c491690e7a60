//! What the agent may do with a node's two secrets, asked of Google (`testIamPermissions`), never tried.

use super::client::Client;
use super::sibling;
use crate::config::GcpStore;
use crate::retry::Deadline;
use crate::store::Note;
use crate::store::cloud::{Error, Reason};

pub(super) const ADD: &str = "secretmanager.versions.add";
const LIST: &str = "secretmanager.versions.list";
const ACCESS: &str = "secretmanager.versions.access";
const DISABLE: &str = "secretmanager.versions.disable";

/// Rights that nobody needs who keeps identities, each with what it could do.
const NEVER: [(&str, &str); 5] = [
    ("secretmanager.versions.destroy", "destroy versions"),
    ("secretmanager.versions.enable", "enable versions"),
    ("secretmanager.secrets.delete", "delete it"),
    ("secretmanager.secrets.update", "let it expire"),
    ("secretmanager.secrets.setIamPolicy", "give itself any right"),
];

/// What the rights on one secret should be.
struct Expected {
    needed: Vec<&'static str>,
    too_much: Vec<(&'static str, &'static str)>,
}

impl Expected {
    fn of_identities(config: &GcpStore) -> Self {
        let mut expected = Self { needed: vec![ADD, LIST], too_much: vec![(ACCESS, "read what it wrote")] };
        if config.keep_versions.is_some() {
            expected.needed.push(DISABLE);
        } else {
            expected.too_much.push((DISABLE, "disable versions"));
        }
        expected.too_much.extend(NEVER);
        expected
    }

    fn of_facts() -> Self {
        let mut expected = Self { needed: vec![ADD, LIST, ACCESS], too_much: vec![(DISABLE, "disable versions")] };
        expected.too_much.extend(NEVER);
        expected
    }

    fn all(&self) -> Vec<&'static str> {
        self.needed.iter().copied().chain(self.too_much.iter().map(|(right, _)| *right)).collect()
    }
}

/// Looks at both secrets.
pub(super) async fn probe(
    client: &Client,
    config: &GcpStore,
    secret: &str,
    deadline: Deadline,
) -> Result<Vec<Note>, Error> {
    let mut notes = look(client, secret, &Expected::of_identities(config), deadline).await?;
    notes.extend(look(client, &sibling(secret), &Expected::of_facts(), deadline).await?);
    Ok(notes)
}

async fn look(client: &Client, secret: &str, expected: &Expected, deadline: Deadline) -> Result<Vec<Note>, Error> {
    let Some(rights) = client.rights(secret, &expected.all(), deadline).await? else {
        return Ok(vec![Note::Unknown(format!("the rights on {secret}: the server does not say"))]);
    };
    if rights.is_empty() {
        return Ok(vec![nothing(client, secret, deadline).await?]);
    }
    Ok(judge(secret, expected, &rights))
}

/// Google answers "none" also where there is no such secret.
async fn nothing(client: &Client, secret: &str, deadline: Deadline) -> Result<Note, Error> {
    match client.versions(secret, deadline).await {
        Ok(None) => Ok(Note::Unknown(format!(
            "{secret} is not there yet: what the agent may do with it can be asked once it is"
        ))),
        Ok(Some(_)) | Err(Error { reason: Reason::Denied(_), .. }) => Ok(Note::TooLittle(
            format!("{secret}: the agent may do nothing with it, or it does not exist"),
            "run the commands that `idkeep policy gcp` prints".into(),
        )),
        Err(error) => Err(error),
    }
}

fn judge(secret: &str, expected: &Expected, rights: &[String]) -> Vec<Note> {
    let has = |right: &str| rights.iter().any(|held| held == right);
    let missing: Vec<&str> = expected.needed.iter().copied().filter(|right| !has(right)).collect();
    let excess: Vec<_> = expected.too_much.iter().filter(|(right, _)| has(right)).collect();
    let mut notes = Vec::new();
    if !missing.is_empty() {
        notes.push(Note::TooLittle(
            format!("{secret}: {} is missing", missing.join(", ")),
            "`idkeep policy gcp` prints what is needed".into(),
        ));
    }
    if !excess.is_empty() {
        let deeds: Vec<&str> = excess.iter().map(|(_, deed)| *deed).collect();
        let names: Vec<&str> = excess.iter().map(|(right, _)| *right).collect();
        notes.push(Note::TooMuch(
            format!("{secret}: the agent may {}, and needs not", deeds.join(", ")),
            format!(
                "take `{}` from it: `gcloud secrets get-iam-policy {secret}` and `gcloud projects get-iam-policy` show \
                 the roles that give it; `idkeep policy gcp` prints what is needed",
                names.join("`, `")
            ),
        ));
    }
    if notes.is_empty() {
        notes.push(Note::Fine(format!("{secret}: {}", expected.needed.join(", "))));
    }
    notes
}
