//! Connections that break, servers that are busy, gone, full, or not what the configuration says.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use idkeep::backup::repository::{Pending, Repository};
use jiff::Timestamp;
use serde_json::json;

use super::{digest, sha256, told};
use crate::support::client::Client;
use crate::support::idkeep::write_private;
use crate::support::pki::Pki;
use crate::support::proxy::{Fault, FaultProxy, refused};
use crate::support::s3::{S3, bytes, credentials, is_whole, local, relay};
use crate::support::server::{Reply, Seen, Server, Step, Tls};

const PART: usize = 5 << 20;

/// The part numbers that came in whole, sorted.
fn whole_parts(server: &Server) -> Vec<String> {
    let seen = server.seen();
    let parts = seen.iter().filter(|seen| is_whole(seen)).filter_map(|seen| {
        let query = seen.query.as_deref()?;
        Some(query.split('&').find_map(|pair| pair.strip_prefix("partNumber="))?.to_owned())
    });
    let mut parts: Vec<String> = parts.collect();
    parts.sort();
    parts
}

fn origin(address: SocketAddr) -> String {
    format!("http://{address}")
}

async fn upload(repository: &Rc<Repository>, parts: &[bytes::Bytes], between: impl AsyncFn(usize)) {
    let mut pending = Pending::begin(repository, "node", Timestamp::now()).await.unwrap();
    let mut upload = repository.upload("node/set/dump", PART, &mut pending).await.unwrap();
    for (index, part) in parts.iter().enumerate() {
        upload.push(part.clone()).await.unwrap();
        between(index).await;
    }
    upload.commit().await.unwrap();
}

#[test]
fn a_connection_cut_in_the_middle_of_a_part_sends_that_part_again_and_no_other() {
    for fault in [Fault::CutUpAfter(3 << 20), Fault::ResetUpAfter(3 << 20)] {
        let bucket = S3::shared().bucket();
        let counted = relay(bucket.s3.address, |_| None);
        let proxy = FaultProxy::before(counted.address, Fault::None);
        local(async {
            let repository = Rc::new(bucket.repository_at(&origin(proxy.address)));
            let parts = [bytes(PART, 1), bytes(PART, 2), bytes(PART, 3), bytes(PART, 4), bytes(7, 5)];
            upload(&repository, &parts, async |index| {
                if index == 1 {
                    // Whatever is on its way breaks, and new connections break once more.
                    proxy.set(fault);
                    proxy.break_off();
                    proxy.broken(2).await;
                    proxy.set(Fault::None);
                }
            })
            .await;
            assert_eq!(digest(&repository, "node/set/dump").await, sha256(&parts));
        });
        assert_eq!(whole_parts(&counted), ["1", "2", "3", "4", "5"], "{fault:?}");
        assert_eq!(bucket.uploads(), [""; 0]);
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let bucket = S3::shared().bucket();
    let turns = Arc::new(AtomicUsize::new(0));
    let busy = relay(bucket.s3.address, move |seen| {
        let is_turn = seen.method != "HEAD" && turns.fetch_add(1, Ordering::SeqCst).is_multiple_of(3);
        let page = "<Error><Code>SlowDown</Code></Error>";
        is_turn.then(|| Reply::new(503, "application/xml", page))
    });
    local(async {
        let repository = Rc::new(bucket.repository_at(&busy.origin()));
        let parts = [bytes(PART, 1), bytes(PART, 2), bytes(1, 3)];
        upload(&repository, &parts, async |_| {}).await;
        assert_eq!(digest(&repository, "node/set/dump").await, sha256(&parts));
    });
}

#[test]
fn an_answer_that_is_lost_is_not_taken_for_another_writers_success() {
    let bucket = S3::shared().bucket();
    let to = bucket.s3.address;
    let lost = Arc::new(AtomicUsize::new(0));
    let client = crate::support::client::Client::new(None);
    let server = Server::plain(move |seen| {
        let (lost, client) = (lost.clone(), client.clone());
        async move {
            let is_create = seen.header("if-none-match").is_some();
            let is_complete =
                seen.method == "POST" && seen.query.as_ref().is_some_and(|query| query.starts_with("uploadId"));
            let is_marked = is_create || is_complete;
            let reply = crate::support::s3::forward(&client, to, seen).await;
            // Done by the server, and then the connection breaks: each time once.
            if is_marked && lost.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                return Reply::with_steps(200, "text/plain", [Step::Cut]).header("content-length", "100");
            }
            reply
        }
    });
    local(async {
        let repository = Rc::new(bucket.repository_at(&server.origin()));
        assert!(repository.create("node/once", "ours".into()).await.unwrap());
        bucket.put("prefix/node/theirs", b"theirs");
        assert!(!repository.create("node/theirs", "ours".into()).await.unwrap());
        let parts = [bytes(PART, 1), bytes(9, 2)];
        upload(&repository, &parts, async |_| {}).await;
        assert_eq!(digest(&repository, "node/set/dump").await, sha256(&parts));
    });
    let completed = server.seen().iter().filter(|seen| is_complete(seen)).count();
    assert_eq!(completed, 2, "asked for once more, after the answer was lost");
}

#[test]
fn an_object_that_may_be_ours_is_never_said_to_be_anothers() {
    let bucket = S3::shared().bucket();
    let (to, puts, client) = (bucket.s3.address, Arc::new(AtomicUsize::new(0)), Client::new(None));
    let server = Server::plain(move |seen| {
        let (puts, client) = (puts.clone(), client.clone());
        async move {
            // Written, and the answer is lost; then it can be found there, but not read.
            match seen.method.as_str() {
                "PUT" if puts.fetch_add(1, Ordering::SeqCst) == 0 => {
                    crate::support::s3::forward(&client, to, seen).await;
                    Reply::with_steps(200, "text/plain", [Step::Cut]).header("content-length", "100")
                }
                "GET" => Reply::new(403, "application/xml", "<Error><Code>AccessDenied</Code></Error>"),
                _ => crate::support::s3::forward(&client, to, seen).await,
            }
        }
    });
    local(async {
        let repository = Rc::new(bucket.repository_at(&server.origin()));
        let (code, message, hint) = told(repository.create("node/once", "ours".into()).await);
        assert_eq!(
            (code, message.as_str()),
            (
                75,
                "repository dr: writing node/once: it is there, and whether this run wrote it is not known: \
                 repository dr: reading node/once: permission denied"
            )
        );
        assert!(hint.contains("idkeep policy"), "{hint}");
    });
}

#[test]
fn a_stream_goes_on_where_its_connection_broke() {
    let bucket = S3::shared().bucket();
    let whole = bytes(3 << 20, 1);
    bucket.put("prefix/node/dump", &whole);
    let proxy = FaultProxy::before(bucket.s3.address, Fault::CutAfter(1_300_000));
    local(async {
        let repository = bucket.repository_at(&origin(proxy.address));
        assert_eq!(digest(&repository, "node/dump").await, sha256(&[whole]));
    });
}

#[test]
fn a_stream_never_goes_on_in_another_version() {
    let bucket = S3::shared().bucket();
    bucket.put("prefix/node/dump", &bytes(3 << 20, 1));
    let proxy = FaultProxy::before(bucket.s3.address, Fault::CutAfter(1_300_000));
    local(async {
        use futures_util::StreamExt as _;
        let repository = bucket.repository_at(&origin(proxy.address));
        let mut stream = repository.stream("node/dump").await.unwrap();
        stream.next().await.unwrap().unwrap();
        bucket.put("prefix/node/dump", &bytes(3 << 20, 2));
        let mut last = None;
        while let Some(piece) = stream.next().await {
            last = Some(piece);
        }
        let (code, message, _) = told(last.unwrap());
        assert_eq!((code, message.contains("another writer was there first")), (75, true), "{message}");
    });
}

fn is_complete(seen: &Seen) -> bool {
    seen.method == "POST" && seen.query.as_ref().is_some_and(|query| query.starts_with("uploadId"))
}

/// A server that gives one answer to everything.
fn answering(status: u16, code: &str) -> Server {
    let page = format!("<Error><Code>{code}</Code><Message>text of the server</Message></Error>");
    Server::plain(move |_| std::future::ready(Reply::new(status, "application/xml", page.clone())))
}

#[test]
fn an_answer_of_failure_says_in_our_words_who_has_to_act() {
    let bucket = S3::shared().bucket();
    for (status, code, exit, words) in [
        (403, "AccessDenied", 77, "permission denied"),
        (403, "InvalidAccessKeyId", 77, "the credentials are not accepted"),
        (403, "SignatureDoesNotMatch", 77, "the credentials are not accepted"),
        (400, "ExpiredToken", 77, "the credentials have expired"),
        (404, "NoSuchBucket", 78, "the bucket or container is not there"),
        (301, "PermanentRedirect", 78, "the bucket is in another region"),
        (400, "AuthorizationHeaderMalformed", 78, "the bucket is in another region"),
        (403, "RequestTimeTooSkewed", 78, "this machine's clock is wrong"),
        (501, "NotImplemented", 78, "the server does not know how to do that"),
    ] {
        let server = answering(status, code);
        local(async {
            let repository = bucket.repository_at(&server.origin());
            let (exit_code, message, hint) = told(repository.create("node/a", "a".into()).await);
            assert_eq!(
                (exit_code, message.as_str()),
                (exit, format!("repository dr: writing node/a: {words}").as_str())
            );
            assert!(!hint.is_empty() && !hint.contains("text of the server"), "{hint}");
        });
        assert_eq!(server.seen().len(), 1, "asking again would not help");
    }
}

#[test]
fn a_missing_bucket_is_told_by_the_real_server_too() {
    let bucket = S3::shared().bucket();
    let mut config = bucket.config(&bucket.s3.endpoint(), json!({}));
    config.url = "s3://no-such-bucket/prefix".parse().unwrap();
    local(async {
        let repository = Repository::open_with("dr", &config, &credentials()).unwrap();
        for result in [repository.create("node/a", "a".into()).await.map(drop), repository.list("node").await.map(drop)]
        {
            let (code, message, _) = told(result);
            assert_eq!((code, message.contains("the bucket or container is not there")), (78, true), "{message}");
        }
    });
}

#[test]
fn a_certificate_that_is_not_trusted_is_a_mistake_of_the_configuration() {
    let bucket = S3::shared().bucket();
    let pki = Pki::new();
    let server = Server::start(Some(Tls::of(&pki).config), |_| std::future::ready(Reply::empty(403)));
    local(async {
        let config = bucket.config(&server.origin(), json!({}));
        let repository = Repository::open_with("dr", &config, &credentials()).unwrap();
        let (code, message, hint) = told(repository.create("node/a", "a".into()).await);
        assert_eq!((code, message.contains("signed by an unknown authority")), (78, true), "{message}");
        assert!(hint.contains("tls.ca_file"), "{hint}");
        let config = bucket.config(&server.origin(), json!({"tls": {"ca_file": pki.ca_file()}}));
        let repository = Repository::open_with("dr", &config, &credentials()).unwrap();
        assert_eq!(told(repository.replace("node/a", "a".into()).await).0, 77);
    });
    assert_eq!(server.seen().len(), 1, "with its authority it is asked");
}

#[test]
fn a_missing_authority_file_is_known_when_the_repository_is_opened() {
    let bucket = S3::shared().bucket();
    let config = bucket.config("https://127.0.0.1:1", json!({"tls": {"ca_file": "/nowhere/ca.pem"}}));
    let (code, message, _) = told(Repository::open_with("dr", &config, &credentials()));
    assert_eq!((code, message.contains("/nowhere/ca.pem")), (78, true), "{message}");
}

#[test]
fn without_credentials_the_machines_metadata_service_is_asked_and_no_one_else() {
    let bucket = S3::shared().bucket();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let paths = asked.clone();
    let expiration = (Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string();
    let metadata = Server::plain(move |seen| {
        paths.lock().unwrap().push(format!("{} {}", seen.method, seen.path));
        let keys = json!({
            "AccessKeyId": "AKIDOFROLE", "SecretAccessKey": "synthetic", "Token": "session", "Expiration": expiration,
            "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
        });
        std::future::ready(match seen.path.as_str() {
            "/latest/api/token" => Reply::new(200, "text/plain", "token"),
            "/latest/meta-data/iam/security-credentials/" => Reply::new(200, "text/plain", "role"),
            _ => Reply::json(200, &keys),
        })
    });
    let config = bucket.config(&bucket.s3.endpoint(), json!({}));
    local(async {
        let environment = [("AWS_METADATA_ENDPOINT".to_owned(), metadata.origin())];
        let repository = Repository::open_with("dr", &config, &environment).unwrap();
        assert!(repository.create("node/a", "a".into()).await.unwrap());
    });
    assert_eq!(asked.lock().unwrap().len(), 3);
    local(async {
        let environment = [("AWS_METADATA_ENDPOINT".to_owned(), origin(refused()))];
        let repository = Repository::open_with("dr", &config, &environment).unwrap();
        let (code, message, _) = told(repository.create("node/a", "a".into()).await);
        assert_eq!((code, message.contains("no credentials")), (77, true), "{message}");
        let environment = [("AWS_METADATA_ENDPOINT".to_owned(), "http://metadata.acme.example".to_owned())];
        let repository = Repository::open_with("dr", &config, &environment).unwrap();
        let (code, message, _) = told(repository.create("node/a", "a".into()).await);
        assert_eq!((code, message.contains("without TLS")), (78, true), "{message}");
    });
}

#[test]
fn the_credentials_file_of_other_tools_is_used_and_read_again() {
    let bucket = S3::shared().bucket();
    let seen = relay(bucket.s3.address, |_| None);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let write = |id: &str| {
        let text = format!(
            "[default]\naws_access_key_id = other\n[dr]\naws_access_key_id = {id}\naws_secret_access_key = s\n"
        );
        write_private(&file, text.as_bytes());
    };
    let config = bucket.config(&seen.origin(), json!({}));
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut environment =
        vec![variable("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()), variable("AWS_PROFILE", "dr")];
    write("AKIDFIRST");
    local(async {
        let repository = Repository::open_with("dr", &config, &environment).unwrap();
        assert!(repository.create("node/a", "a".into()).await.unwrap());
        write("AKIDSECOND");
        assert!(repository.create("node/b", "b".into()).await.unwrap());
    });
    let ids: Vec<String> = seen.seen().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
    assert!(ids[0].contains("Credential=AKIDFIRST/") && ids[1].contains("Credential=AKIDSECOND/"), "{ids:?}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let opened = |environment: &[(String, String)]| told(Repository::open_with("dr", &config, environment));
    assert_eq!(opened(&environment).0, 78, "others may read it");
    write_private(&file, b"[dr]\nsso_session = x\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (code, message, _) = opened(&environment);
    assert_eq!((code, message.contains("AWS_PROFILE")), (78, true), "{message}");
    // Keys in the environment come first.
    environment.extend(credentials().to_vec());
    assert!(Repository::open_with("dr", &config, &environment).is_ok());
}

#[test]
fn a_variable_of_the_environment_changes_no_address() {
    let bucket = S3::shared().bucket();
    let elsewhere = Server::plain(|_| std::future::ready(Reply::empty(200)));
    let mut environment = credentials().to_vec();
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"] {
        environment.push((name.to_owned(), elsewhere.origin()));
    }
    environment.push(("AWS_SKIP_SIGNATURE".to_owned(), "true".to_owned()));
    let config = bucket.config(&bucket.s3.endpoint(), json!({}));
    local(async {
        let repository = Repository::open_with("dr", &config, &environment).unwrap();
        assert!(repository.create("node/a", "a".into()).await.unwrap());
    });
    assert_eq!(bucket.keys(), ["prefix/node/a"]);
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn every_put_carries_a_digest_that_the_server_checks() {
    let bucket = S3::shared().bucket();
    let watched = relay(bucket.s3.address, |_| None);
    local(async {
        let repository = Rc::new(bucket.repository_at(&watched.origin()));
        upload(&repository, &[bytes(PART, 1), bytes(9, 2)], async |_| {}).await;
    });
    let puts: Vec<_> = watched.seen().into_iter().filter(|seen| seen.method == "PUT").collect();
    assert!(puts.len() >= 4, "{}", puts.len());
    for put in puts {
        assert!(put.header("x-amz-checksum-sha256").is_some(), "{} {:?}", put.path, put.query);
    }
}
