//! What is applied: the JSON of a server-side apply, and the request that carries it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use k8s_openapi::api::core::v1::Secret;
use kube::Resource as _;
use kube::api::{GetParams, Patch, PatchParams};
use kube::core::request::Request as Requests;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::metadata::{CLAIM, CONTENT, MANAGED_BY, NOTES, OWNER};
use crate::seal::{self, Envelope};
use crate::store::cloud::Reason;

/// One Secret of one namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl Target<'_> {
    /// Asks for the metadata alone.
    pub(super) fn get(self) -> Result<Request<Bytes>, Reason> {
        let request = self.requests().get_metadata(self.name, &GetParams::default());
        Ok(request.map_err(|_| Reason::Rejected("that is no name"))?.map(Bytes::from))
    }

    /// An empty Secret. Whoever else makes it says the same, so nothing that is there already is changed.
    pub(super) fn claim(self) -> Result<Request<Bytes>, Reason> {
        let mut object = self.object([], &BTreeMap::new());
        object["metadata"]["labels"] = json!({MANAGED_BY: OWNER});
        object["type"] = "Opaque".into();
        self.apply(CLAIM, object.to_string())
    }

    /// Facts that are refreshed without the data.
    pub(super) fn notes(
        self,
        seen: [(&'static str, String); 2],
        notes: &BTreeMap<String, String>,
    ) -> Result<Request<Bytes>, Reason> {
        self.apply(NOTES, self.object(seen, notes).to_string())
    }

    /// The data with the facts about it, in one piece and in memory that is wiped.
    pub(super) fn version(
        self,
        seen: [(&'static str, String); 2],
        facts: &BTreeMap<String, String>,
        envelope: &Envelope<'_>,
    ) -> Result<Result<Request<Bytes>, Reason>, seal::Error> {
        let armored;
        let content = match envelope {
            Envelope::Plain(identities) => identities.expose(),
            Envelope::Sealed(sealed) => {
                armored = sealed.armored()?;
                armored.as_bytes()
            }
        };
        let mut object = self.object(seen, facts);
        object["metadata"]["labels"] = json!({MANAGED_BY: OWNER});
        object["type"] = "Opaque".into();
        let public = object.to_string();
        let encoded = content.len().div_ceil(3) * 4;
        // Room for all of it, so that nothing moves.
        let mut body = Zeroizing::new(Vec::with_capacity(public.len() + encoded + 32));
        body.extend_from_slice(public.strip_suffix('}').unwrap_or(&public).as_bytes());
        body.extend_from_slice(format!(",\"data\":{{\"{CONTENT}\":\"").as_bytes());
        let start = body.len();
        body.resize(start + encoded, 0);
        STANDARD.encode_slice(content, &mut body[start..]).map_err(|_| seal::Error::Seal)?;
        body.extend_from_slice(b"\"}}");
        Ok(self.apply(OWNER, Bytes::from_owner(body)))
    }

    fn object(
        self,
        seen: impl IntoIterator<Item = (&'static str, String)>,
        annotations: &BTreeMap<String, String>,
    ) -> Value {
        let mut metadata = json!({"name": self.name, "namespace": self.namespace});
        for (field, value) in seen {
            metadata[field] = value.into();
        }
        if !annotations.is_empty() {
            metadata["annotations"] = json!(annotations);
        }
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    }

    /// Never by force: what others own is refused by the server, too.
    fn apply(self, manager: &str, body: impl Into<Bytes>) -> Result<Request<Bytes>, Reason> {
        let options = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
        let request = self.requests().patch_metadata(self.name, &options, &Patch::Apply(()));
        Ok(request.map_err(|_| Reason::Rejected("that is no name"))?.map(|_| body.into()))
    }

    fn requests(self) -> Requests {
        Requests::new(Secret::url_path(&(), Some(self.namespace)))
    }
}
