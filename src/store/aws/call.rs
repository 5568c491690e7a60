//! One call to the service, and the look at a secret that all that is done with it begins with.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::SdkError;
use aws_sdk_secretsmanager::types::SecretVersionsListEntry;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use futures_util::future::join;

use super::SecretsManager;
use super::refusal::{DELETED, Refusal, Told};
use super::seen::Seen;
use super::wire::TIMEOUT;
use crate::config::Address;
use crate::http as web;
use crate::log::printable;
use crate::retry::{Deadline, retry};
use crate::store::cloud::{Error, Reason, System};
use crate::store::{Error as StoreError, Place};

/// Pages of versions that are read, of a hundred each: AWS itself keeps few more than a hundred versions.
const MAX_PAGES: usize = 50;

/// One call to the service.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) doing: &'static str,
    pub(super) right: &'static str,
}

pub(super) const DESCRIBE: Call = Call {
    doing: "looking at",
    right: "secretsmanager:DescribeSecret; AWS answers the same where there is no such secret and the policy names it by its ARN alone",
};
pub(super) const LIST: Call = Call { doing: "listing the versions of", right: "secretsmanager:ListSecretVersionIds" };
pub(super) const PUT: Call = Call { doing: "adding a version to", right: "secretsmanager:PutSecretValue" };
pub(super) const CREATE: Call =
    Call { doing: "creating", right: "secretsmanager:CreateSecret, secretsmanager:TagResource" };
pub(super) const TAG: Call = Call { doing: "writing the facts of", right: "secretsmanager:TagResource" };

impl SecretsManager {
    pub(super) fn secret(&self, place: Place<'_>) -> String {
        self.config.secret.fill(place.node, place.network)
    }

    pub(super) fn error(&self, place: Place<'_>, doing: &'static str, reason: Reason) -> StoreError {
        Error { system: System::Aws, doing, secret: self.secret(place), reason }.into()
    }

    fn origin(&self) -> String {
        let usual = || format!("https://secretsmanager.{}.amazonaws.com", self.config.region);
        self.config.endpoint.as_ref().map_or_else(usual, Address::origin)
    }

    /// Logs in if that is due, and sends; credentials that have run out meanwhile are replaced once.
    pub(super) async fn call<T, E: Told>(
        &self,
        call: Call,
        deadline: Deadline,
        send: impl AsyncFn(Client) -> Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<T, Refusal> {
        let mut is_second = false;
        loop {
            let left = TIMEOUT.min(deadline.remaining());
            let sending = async {
                let client = self.session.client().await.map_err(Refusal::Other)?;
                send(client).await.map_err(|error| Refusal::of(error, call.right))
            };
            let result = tokio::time::timeout(left, sending).await.unwrap_or_else(|_| {
                let (doing, origin) = ("talking to AWS Secrets Manager", self.origin());
                Err(Refusal::Other(Reason::Http(if left.is_zero() {
                    web::Error::NoTime { doing, origin }
                } else {
                    web::Error::Timeout { doing, origin, after: left }
                })))
            });
            match result {
                Err(Refusal::Expired) if !is_second => {
                    self.session.forget().await;
                    is_second = true;
                }
                result => return result,
            }
        }
    }

    pub(super) fn failed(&self, place: Place<'_>, call: Call, refusal: Refusal) -> StoreError {
        let reason = match refusal {
            Refusal::Other(reason) => reason,
            Refusal::Expired => Reason::Unauthorized,
            Refusal::NotFound => Reason::Missing,
            Refusal::Exists => return StoreError::Conflict,
        };
        self.error(place, call.doing, reason)
    }

    /// All that is known without the value; `None` where there is no such secret.
    pub(super) async fn look(&self, place: Place<'_>, deadline: Deadline) -> Result<Option<Seen>, StoreError> {
        let secret = self.secret(place);
        let describing =
            self.call(DESCRIBE, deadline, async |client| client.describe_secret().secret_id(&secret).send().await);
        let (described, listed) = join(describing, self.list(&secret, deadline)).await;
        let described = match described {
            Ok(described) => described,
            Err(Refusal::NotFound) => return Ok(None),
            Err(refusal) => return Err(self.failed(place, DESCRIBE, refusal)),
        };
        if described.deleted_date().is_some() {
            return Err(self.error(place, DESCRIBE.doing, DELETED));
        }
        if let Some(owner) = described.owning_service() {
            let owner = printable(owner);
            return Err(self.error(
                place,
                DESCRIBE.doing,
                Reason::Foreign(format!("it belongs to the service `{owner}`")),
            ));
        }
        match listed {
            Ok(listed) => Ok(Some(Seen::new(&described, &listed))),
            // It was deleted between the two.
            Err(Refusal::NotFound) => Ok(None),
            Err(refusal) => Err(self.failed(place, LIST, refusal)),
        }
    }

    async fn list(&self, secret: &str, deadline: Deadline) -> Result<Vec<SecretVersionsListEntry>, Refusal> {
        let mut all = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let page = self.call(LIST, deadline, async |client| {
                let list = client.list_secret_version_ids().secret_id(secret).include_deprecated(true).max_results(100);
                list.set_next_token(next.clone()).send().await
            });
            let page = page.await?;
            all.extend_from_slice(page.versions());
            next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if next.is_none() {
                return Ok(all);
            }
        }
        Err(Refusal::Other(Reason::Garbled))
    }

    /// Sends until it is done or refused for good: the same bytes under the same id, so that nothing is done twice.
    pub(super) async fn persist<T, E: Told>(
        &self,
        place: Place<'_>,
        (call, deadline): (Call, Deadline),
        send: impl AsyncFn(Client) -> Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<T, StoreError> {
        let answer = retry(deadline, "write", async || match self.call(call, deadline, &send).await {
            Ok(answer) => Ok(Ok(answer)),
            // What was there when it was looked at is not any more, or the other way round: that has to be judged anew.
            Err(Refusal::Exists | Refusal::NotFound) => Ok(Err(StoreError::Conflict)),
            Err(refusal) => Err(self.failed(place, call, refusal)),
        });
        answer.await?
    }
}
