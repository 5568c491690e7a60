//! What the agent may do with Secrets, asked of the API server, never tried.

use futures_util::future::try_join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Resource as _;
use kube::api::PostParams;
use kube::core::request::Request as Requests;

use super::client::{Client, Refusal};
use super::patch::Target;
use crate::retry::Deadline;
use crate::store::Note;
use crate::store::cloud::Reason;

/// What the agent needs on its own Secret.
const NEEDED: [&str; 3] = ["get", "patch", "create"];

/// What it does not need anywhere.
const TOO_MUCH: [&str; 5] = ["list", "watch", "update", "delete", "deletecollection"];

/// Where it is printed what is needed.
const SEE: &str = "`idkeep policy kubernetes` prints the Role that is needed";

/// The rights on this Secret, and on all others of its namespace. `is_there`: it has been made already.
pub(super) async fn look(
    client: &Client,
    target: Target<'_>,
    is_there: bool,
    deadline: Deadline,
) -> Result<Vec<Note>, Reason> {
    let own = target.name.to_owned();
    // No Secret of anybody's has this name: whoever may get it may get them all.
    let other = format!("{own}.idkeep-check");
    let asked = |verbs: &'static [&'static str], name: &str| {
        let name = name.to_owned();
        try_join_all(verbs.iter().map(move |verb| {
            let name = name.clone();
            async move { Ok::<_, Reason>((*verb, may(client, target.namespace, verb, name, deadline).await?)) }
        }))
    };
    let needed = asked(&NEEDED, &own).await?;
    let too_much = asked(&TOO_MUCH, &own).await?;
    let elsewhere = asked(&NEEDED, &other).await?;
    let secret = format!("{}/{own}", target.namespace);
    if needed.iter().chain(&too_much).chain(&elsewhere).any(|(_, answer)| answer.is_none()) {
        let why = "this user may not ask (`selfsubjectaccessreviews`)";
        return Ok(vec![Note::Unknown(format!("the rights on {secret}: {why}")), unwise(&secret)]);
    }
    let mut missing = verbs(&needed, false);
    // Only the first write makes it.
    missing.retain(|verb| *verb != "create" || !is_there);
    let mut notes = judged(&secret, &missing, &verbs(&too_much, true));
    let everywhere = verbs(&elsewhere, true);
    if !everywhere.is_empty() {
        let (everywhere, namespace) = (everywhere.join(", "), target.namespace);
        let message =
            format!("the agent may {everywhere} every Secret of the namespace `{namespace}`, not only `{own}`");
        let fix = format!("put `resourceNames: [{own}]` beside `resources: [secrets]` in the Role; {SEE}");
        notes.push(Note::TooMuch(message, fix));
    }
    if notes.is_empty() {
        notes.push(Note::Fine(format!("{secret}: {}", verbs(&needed, true).join(", "))));
    }
    notes.push(unwise(&secret));
    Ok(notes)
}

/// The verbs to which the answer was this one.
fn verbs(answers: &[(&'static str, Option<bool>)], held: bool) -> Vec<&'static str> {
    answers.iter().filter(|(_, answer)| *answer == Some(held)).map(|(verb, _)| *verb).collect()
}

fn judged(secret: &str, missing: &[&str], excess: &[&str]) -> Vec<Note> {
    let mut notes = Vec::new();
    if !missing.is_empty() {
        notes.push(Note::TooLittle(format!("{secret}: {} is missing", missing.join(", ")), SEE.into()));
    }
    if !excess.is_empty() {
        let fix = format!("take `{}` out of the Role; {SEE}", excess.join("`, `"));
        notes.push(Note::TooMuch(format!("{secret}: the agent may {}, and needs not", excess.join(", ")), fix));
    }
    notes
}

fn unwise(secret: &str) -> Note {
    Note::Unwise(
        format!(
            "{secret}: whoever may write it may read it, since Kubernetes cannot split the two (idkeep asks for \
             metadata only); and it holds one version"
        ),
        "seal the identities (`recipients`), and keep them in a store with versions, too".into(),
    )
}

/// None where the server does not say.
async fn may(
    client: &Client,
    namespace: &str,
    verb: &str,
    name: String,
    deadline: Deadline,
) -> Result<Option<bool>, Reason> {
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some(verb.to_owned()),
        version: Some("v1".into()),
        resource: Some("secrets".into()),
        name: Some(name),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let body = serde_json::to_vec(&review).map_err(|_| Reason::Garbled)?;
    let requests = Requests::new(SelfSubjectAccessReview::url_path(&(), None));
    let request = requests.create(&PostParams::default(), body).map_err(|_| Reason::Garbled)?;
    let answer = client.send(request, deadline).await?;
    match answer.status {
        200 | 201 => {
            let review: SelfSubjectAccessReview = answer.parse()?;
            Ok(review.status.map(|status| status.allowed))
        }
        403 | 404 => Ok(None),
        _ => Err(match answer.refusal("asking for rights") {
            Refusal::Because(reason) => reason,
            Refusal::Conflict | Refusal::TooLarge => Reason::Garbled,
        }),
    }
}
