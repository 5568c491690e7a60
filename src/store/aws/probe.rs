//! What `check --live` finds: can the facts be seen, can what is stored be read. Nothing is read to know it.

use super::SecretsManager;
use super::call::Call;
use super::refusal::Refusal;
use crate::error::{Failure as _, Fault};
use crate::retry::Deadline;
use crate::store::cloud::{Error, Reason};
use crate::store::{Error as StoreError, Note, Place};

/// The id of a version that nobody has made: a reader is told that there is none, everybody else that he may not ask.
const NO_VERSION: &str = "00000000-0000-4000-8000-000000000000";

const READ: Call = Call { doing: "asking whether it could read", right: "secretsmanager:GetSecretValue" };

impl SecretsManager {
    pub(super) async fn notes(&self, place: Place<'_>, deadline: Deadline) -> Result<Vec<Note>, StoreError> {
        let secret = self.secret(place);
        let Some(seen) = self.look(place, deadline).await? else {
            return Ok(vec![Note::Unknown(format!(
                "{secret}: it does not exist yet; the first pass creates it if it may (`secretsmanager:CreateSecret`)"
            ))]);
        };
        let mut notes = vec![Note::Fine(format!("{secret}: its versions and facts can be seen"))];
        notes.push(Note::Unknown(format!(
            "{secret}: AWS tells nobody whether he may write; the first pass that has something to write shows it"
        )));
        notes.extend(self.reading(&secret, place, deadline).await?);
        if seen.is_rotated {
            notes.push(Note::Unwise(
                format!("{secret}: a rotation is switched on, which replaces the identities by something else"),
                format!("aws secretsmanager cancel-rotate-secret --secret-id {secret}"),
            ));
        }
        if let (Some(key), None) = (&self.config.kms_key_id, &seen.kms_key_id) {
            notes.push(Note::Unwise(
                format!("{secret}: it is encrypted with `aws/secretsmanager`, not with the key of the configuration"),
                format!("aws secretsmanager update-secret --secret-id {secret} --kms-key-id {key}"),
            ));
        }
        Ok(notes)
    }

    /// AWS judges the right before it looks for the version.
    async fn reading(&self, secret: &str, place: Place<'_>, deadline: Deadline) -> Result<Option<Note>, StoreError> {
        let asked = self.call(READ, deadline, async |client| {
            client.get_secret_value().secret_id(secret).version_id(NO_VERSION).send().await
        });
        let too_much = || {
            Note::TooMuch(
                format!("{secret}: this identity may read what it only needs to write"),
                "take `secretsmanager:GetSecretValue` away from it (a managed policy such as SecretsManagerReadWrite has it), \
                 or keep the statement `NeverReadsRemovesOrGivesAway` of `idkeep policy aws`"
                    .into(),
            )
        };
        Ok(match asked.await {
            Ok(_) | Err(Refusal::NotFound) => Some(too_much()),
            Err(refusal) => match self.failed(place, READ, refusal) {
                error if is_denied(&error) => Some(Note::Fine(format!("{secret}: what is stored cannot be read"))),
                error if error.fault() == Fault::Transient => return Err(error),
                _ => Some(Note::Unknown(format!("{secret}: whether what is stored can be read"))),
            },
        })
    }
}

fn is_denied(error: &StoreError) -> bool {
    matches!(error, StoreError::Cloud(Error { reason: Reason::Denied(_), .. }))
}
