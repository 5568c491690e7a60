//! Secrets that the server makes for a while and takes back: leases. Each dies with the token that asked for it.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use super::{Error, Vault};
use crate::http::Answer;
use crate::retry::{Deadline, retry};

/// Credentials of a database, made for whoever asked.
pub struct Lease {
    /// What it is renewed and revoked by.
    pub id: String,
    /// How long they are good from now.
    pub duration: Duration,
    /// Whether that can be prolonged.
    pub is_renewable: bool,
    /// The user.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

#[derive(Deserialize)]
struct LeaseAnswer {
    lease_id: String,
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: SecretString,
}

impl Vault {
    /// Reads a path that makes credentials (`database/creds/ROLE`).
    pub async fn lease(&self, path: &str, deadline: Deadline) -> Result<Lease, Error> {
        const DOING: &str = "asking for credentials at";
        let client = &self.client()?;
        let path = path.trim_matches('/');
        // Each try makes a user: one whose answer is lost lives until its lease ends, so the tries are few.
        let answer = retry(deadline, "credentials", async || {
            let send = async |token: &_| client.get(path).token(token).send(DOING, deadline).await;
            accepted(client, self.session.call(client, deadline, send).await?, DOING, path)
        })
        .await?;
        let garbled = || Error::Garbled { doing: DOING, path: format!("{}/v1/{path}", client.origin) };
        let lease: LeaseAnswer = serde_json::from_slice(&answer.body).map_err(|_| garbled())?;
        let made: Credentials = super::client::data(&answer.body).ok_or_else(garbled)?;
        Ok(Lease {
            id: lease.lease_id,
            duration: Duration::from_secs(lease.lease_duration),
            is_renewable: lease.renewable,
            username: made.username,
            password: made.password,
        })
    }

    /// Prolongs a lease by what the server allows of `increment` from now on; returns that.
    pub async fn renew_lease(&self, id: &str, increment: Duration, deadline: Deadline) -> Result<Duration, Error> {
        const PATH: &str = "sys/leases/renew";
        let body = json!({"lease_id": id, "increment": increment.as_secs()});
        let answer = self.about_lease(PATH, "renewing credentials at", &body, deadline).await?;
        let renewed = serde_json::from_slice::<LeaseAnswer>(&answer.body);
        renewed
            .map(|lease| Duration::from_secs(lease.lease_duration))
            .map_err(|_| Error::Garbled { doing: "renewing credentials at", path: PATH.into() })
    }

    /// Ends a lease, and waits until its user is gone.
    pub async fn revoke_lease(&self, id: &str, deadline: Deadline) -> Result<(), Error> {
        let body = json!({"lease_id": id, "sync": true});
        self.about_lease("sys/leases/revoke", "revoking credentials at", &body, deadline).await.map(|_| ())
    }

    /// How long our token, and with it every lease, can be made to live if that is `wanted`; `None` for ever.
    pub async fn token_life(&self, wanted: Duration, deadline: Deadline) -> Result<Option<Duration>, Error> {
        self.session.prolong(&self.client()?, wanted, deadline).await
    }

    /// When the token has to be renewed next, so that it does not take its leases with it.
    pub async fn token_due_in(&self) -> Option<Duration> {
        self.session.due_in().await
    }

    /// Renews the token if that is due.
    pub async fn keep_token(&self, deadline: Deadline) -> Result<(), Error> {
        self.session.keep(&self.client()?, deadline).await
    }

    async fn about_lease(
        &self,
        path: &'static str,
        doing: &'static str,
        body: &serde_json::Value,
        deadline: Deadline,
    ) -> Result<Answer, Error> {
        let client = &self.client()?;
        let body = bytes::Bytes::from(body.to_string());
        retry(deadline, "lease", async || {
            let send = async |token: &_| client.post(path).token(token).body(body.clone()).send(doing, deadline).await;
            accepted(client, self.session.call(client, deadline, send).await?, doing, path)
        })
        .await
    }
}

fn accepted(client: &Client, answer: Answer, doing: &'static str, path: &str) -> Result<Answer, Error> {
    if answer.status.is_success() { Ok(answer) } else { Err(client.refusal(&answer, doing, path)) }
}
