//! Google's and Azure's protocols, against strict stand-ins: conditions, parts, refusals.

use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use idkeep::backup::repository::{Pending, Repository};
use jiff::Timestamp;

use super::told;
use crate::support::s3::{bytes, local};
use crate::support::server::{Reply, Seen, Server};

const PART: usize = 5 << 20;

fn open(url: &str, server: &Server, environment: &[(&str, &str)]) -> Rc<Repository> {
    let config = serde_json::json!({"url": url, "endpoint": server.origin(), "allow_http": true});
    let config = serde_json::from_value(config).unwrap();
    let environment: Vec<_> = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Rc::new(Repository::open_with("dr", &config, &environment).unwrap())
}

fn google(server: &Server) -> Rc<Repository> {
    open("gs://bucket/prefix", server, &[("GOOGLE_BEARER_TOKEN", "synthetic")])
}

fn azure(server: &Server) -> Rc<Repository> {
    let key = ("AZURE_STORAGE_ACCOUNT_KEY", "c3ludGhldGlj");
    open("az://container/prefix", server, &[("AZURE_STORAGE_ACCOUNT_NAME", "account"), key])
}

fn stored(status: u16) -> Reply {
    Reply::empty(status).header("etag", "\"1\"").header("last-modified", "Mon, 23 Nov 2026 12:00:00 GMT")
}

fn document(text: &str) -> Reply {
    Reply::new(200, "application/xml", format!("<?xml version=\"1.0\"?>{text}"))
}

fn error(status: u16, code: &str) -> Reply {
    Reply::new(status, "application/xml", format!("<Error><Code>{code}</Code><Message>of the server</Message></Error>"))
}

fn empty_list() -> Reply {
    document("<ListBucketResult></ListBucketResult>")
}

/// The path, whose slashes Google's client encodes.
fn path(seen: &Seen) -> String {
    percent_encoding::percent_decode_str(&seen.path).decode_utf8_lossy().into_owned()
}

/// Two parts, committed.
async fn upload(repository: &Rc<Repository>) {
    let mut pending = Pending::begin(repository, "node", Timestamp::now()).await.unwrap();
    let mut upload = repository.upload("node/set/dump", PART, &mut pending).await.unwrap();
    for seed in 0..2 {
        upload.push(bytes(PART, seed)).await.unwrap();
    }
    upload.commit().await.unwrap();
}

#[test]
fn google_is_asked_with_its_own_condition() {
    let server = Server::plain(|seen: Seen| {
        let is_conditional = seen.header("x-goog-if-generation-match") == Some("0");
        std::future::ready(match (seen.method.as_str(), path(&seen).as_str()) {
            ("PUT", "/bucket/prefix/node/new") if is_conditional => stored(200),
            ("PUT", "/bucket/prefix/node/old") if is_conditional => error(412, "PreconditionFailed"),
            ("PUT", "/bucket/prefix/node/old") => stored(200),
            ("DELETE", "/bucket/prefix/node/held") => error(403, "AccessDenied"),
            ("DELETE", _) => error(404, "NoSuchKey"),
            _ => Reply::empty(418),
        })
    });
    local(async {
        let repository = google(&server);
        assert!(repository.create("node/new", "a".into()).await.unwrap());
        assert!(!repository.create("node/old", "a".into()).await.unwrap());
        repository.replace("node/old", "a".into()).await.unwrap();
        assert_eq!(told(repository.remove("node/held").await).0, 77);
        repository.remove("node/gone").await.unwrap();
    });
    let sent = server.seen();
    assert!(sent.iter().all(|seen| seen.header("authorization") == Some("Bearer synthetic")));
}

#[test]
fn google_gets_an_object_in_parts() {
    let server = Server::plain(|seen: Seen| {
        let query = seen.query.clone().unwrap_or_default();
        let names = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        std::future::ready(match seen.method.as_str() {
            "GET" => empty_list(),
            "POST" if names("uploads") => {
                document("<InitiateMultipartUploadResult><UploadId>id-1</UploadId></InitiateMultipartUploadResult>")
            }
            "PUT" if names("partNumber") && seen.body.len() == PART => stored(200),
            "PUT" if path(&seen).ends_with("pending.json") => stored(200),
            "POST" if names("uploadId") => {
                document("<CompleteMultipartUploadResult><ETag>\"2\"</ETag></CompleteMultipartUploadResult>")
            }
            "HEAD" => stored(200).header("content-length", &(2 * PART).to_string()),
            _ => Reply::empty(418),
        })
    });
    local(async { upload(&google(&server)).await });
}

#[test]
fn azure_is_asked_with_its_own_condition_and_its_batches_are_looked_into() {
    fn batch(status: &str) -> Reply {
        let body = format!(
            "--batchresponse_1\r\nContent-Type: application/http\r\nContent-ID: 0\r\n\r\nHTTP/1.1 {status}\r\n\
             x-ms-request-id: 1\r\n\r\n--batchresponse_1--"
        );
        Reply::new(202, "multipart/mixed; boundary=batchresponse_1", body)
    }
    let server = Server::plain(|seen: Seen| {
        let is_conditional = seen.header("if-none-match") == Some("*");
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        std::future::ready(match (seen.method.as_str(), seen.path.as_str()) {
            ("PUT", "/container/prefix/node/new") if is_conditional => stored(201),
            ("PUT", "/container/prefix/node/old") if is_conditional => error(409, "BlobAlreadyExists"),
            ("PUT", "/container/prefix/node/old") => stored(201),
            ("PUT", "/container/prefix/node/closed") => {
                Reply::empty(403).header("x-ms-error-code", "AuthenticationFailed")
            }
            ("POST", _) if body.contains("/node/held ") => batch("403 This request is not authorized"),
            ("POST", _) if body.contains("/node/gone ") => batch("404 The specified blob does not exist."),
            ("POST", _) if body.contains("/node/there ") => batch("202 Accepted"),
            _ => Reply::empty(418),
        })
    });
    local(async {
        let repository = azure(&server);
        assert!(repository.create("node/new", "a".into()).await.unwrap());
        assert!(!repository.create("node/old", "a".into()).await.unwrap());
        repository.replace("node/old", "a".into()).await.unwrap();
        let (code, message, _) = told(repository.replace("node/closed", "a".into()).await);
        assert_eq!((code, message.contains("the credentials are not accepted")), (77, true), "{message}");
        assert_eq!(told(repository.remove("node/held").await).0, 77);
        repository.remove("node/gone").await.unwrap();
        repository.remove("node/there").await.unwrap();
    });
    assert_eq!(server.seen().len(), 7);
}

#[test]
fn azure_gets_an_object_in_blocks_and_a_lost_one_is_sent_again() {
    let blocks = AtomicUsize::new(0);
    let server = Server::plain(move |seen: Seen| {
        let query = seen.query.clone().unwrap_or_default();
        std::future::ready(match seen.method.as_str() {
            "GET" => document("<EnumerationResults><Blobs></Blobs></EnumerationResults>"),
            "PUT" if query.contains("comp=blocklist") => stored(201),
            "PUT" if query.contains("comp=block") && blocks.fetch_add(1, Ordering::SeqCst) == 0 => {
                error(503, "ServerBusy")
            }
            "PUT" if query.contains("comp=block") && seen.body.len() == PART => Reply::empty(201),
            "PUT" if path(&seen).ends_with("pending.json") => stored(201),
            "HEAD" => stored(200).header("content-length", &(2 * PART).to_string()),
            _ => Reply::empty(418),
        })
    });
    local(async { upload(&azure(&server)).await });
    let is_block = |seen: &Seen| seen.query.as_ref().is_some_and(|query| query.contains("comp=block&"));
    assert_eq!(server.seen().iter().filter(|seen| is_block(seen)).count(), 3);
}

#[test]
fn an_azure_account_that_nothing_names_is_a_mistake_of_the_configuration() {
    let config = serde_json::from_value(serde_json::json!({"url": "az://container/prefix"})).unwrap();
    let (code, message, hint) = told(Repository::open_with("dr", &config, &[]));
    assert_eq!((code, message.as_str()), (78, "repository dr: the storage account is not known"));
    assert!(hint.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{hint}");
}

#[test]
fn credentials_that_cannot_be_read_are_told_without_their_content() {
    for (url, name) in
        [("gs://bucket/prefix", "GOOGLE_SERVICE_ACCOUNT_KEY"), ("s3://bucket/prefix", "AWS_ACCESS_KEY_ID")]
    {
        let config = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
        let environment = [(name.to_owned(), "{\"synthetic\": secret".to_owned())];
        let (code, message, _) = told(Repository::open_with("dr", &config, &environment));
        assert_eq!(
            (code, message.as_str()),
            (78, "repository dr: its cloud's credentials in the environment cannot be used")
        );
    }
}
