//! Rules of a repository, and of places that two repositories might share.

use super::super::document::Findings;
use super::super::{Config, Name, Period, Repository, RepositoryKind, RepositoryUrl, Signer, Tls};
use super::{judge_address, judge_period, judge_tls};

/// All repositories.
pub(super) fn judge(config: &Config, findings: &mut Findings) {
    for (name, repository) in &config.repositories {
        let path = format!("repositories.{name}");
        judge_one(repository, &path, findings);
        judge_signatures(repository, &path, findings);
        if !config.nodes.values().any(|node| node.backup.as_ref().is_some_and(|backup| backup.repository == *name)) {
            findings.warning(
                &path,
                "no node uses this repository",
                "name it as a node's `backup.repository`, or take it out",
            );
        }
    }
    judge_places(config, findings);
}

fn judge_one(repository: &Repository, path: &str, findings: &mut Findings) {
    if let Some(endpoint) = &repository.endpoint {
        judge_address(endpoint, repository.allow_http, &format!("{path}.endpoint"), findings);
    }
    judge_tls(&repository.tls, &format!("{path}.tls"), findings);
    judge_period(repository.lock_expiry, Period::seconds(1), &format!("{path}.lock_expiry"), findings);
    if findings.is_replaced(&format!("{path}.url")) {
        return;
    }
    let kind = repository.url.kind();
    if let Some(region) = &repository.region {
        let is_region = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let path = format!("{path}.region");
        if kind != RepositoryKind::S3 {
            findings.mistake(&path, "only an `s3://` repository has a region", "take it out");
        } else if !(1..=63).contains(&region.len()) || !region.chars().all(is_region) {
            findings.mistake(&path, "a region is 1 to 63 of a-z, 0-9 and `-`", "for example `eu-central-1`");
        }
    }
    if kind == RepositoryKind::File {
        let network = [
            ("endpoint", repository.endpoint.is_some()),
            ("allow_http", repository.allow_http),
            ("tls", repository.tls != Tls::default()),
            ("proxy", repository.proxy.is_some()),
        ];
        for (field, _) in network.into_iter().filter(|(_, is_there)| *is_there) {
            findings.mistake(
                &format!("{path}.{field}"),
                format!("a folder is not on the network: it has no `{field}`"),
                "take it out",
            );
        }
        findings.warning(
            &format!("{path}.url"),
            "a folder of this machine is lost together with it: this alone is no disaster recovery",
            "use `s3://`, `gs://` or `az://`, or copy the folder elsewhere",
        );
    }
}

fn judge_signatures(repository: &Repository, path: &str, findings: &mut Findings) {
    let (sign, signers) = (format!("{path}.sign"), format!("{path}.signers"));
    if findings.is_replaced(&sign) || findings.is_replaced(&signers) {
        return;
    }
    let (has_key, has_signers) = (repository.sign.is_some(), !repository.signers.is_empty());
    if !has_key && has_signers {
        findings.warning(
            &sign,
            "`signers` believes signed sets only, and nothing signs those that are taken here",
            "add `sign: {file: PATH}`, unless this machine only restores: what it verifies does not count as verified either",
        );
    } else if !has_key {
        findings.warning(
            &sign,
            "manifests are not signed: whoever can write to this repository can forge a set",
            "make a key (`ssh-keygen -t ed25519 -f KEYFILE`), add `sign: {file: KEYFILE}` and its public half to `signers`",
        );
    } else if !has_signers {
        findings.warning(
            &signers,
            "manifests are signed, but any set is believed, signed or not",
            "add the public half of the key: `signers: [ssh-ed25519 AAAA…]`",
        );
    }
    for (index, signer) in repository.signers.iter().enumerate() {
        if signer.as_str() == Signer::EXAMPLE {
            findings.warning(
                &format!("{signers}[{index}]"),
                "this is the signer of the examples, whose private half nobody has",
                "make a key of your own: `ssh-keygen -t ed25519 -f KEYFILE`",
            );
        }
    }
}

/// Folders of nodes and of repositories would mix.
fn judge_places(config: &Config, findings: &mut Findings) {
    let is_judged = |name: &Name, findings: &Findings| findings.is_replaced(&format!("repositories.{name}.url"));
    for (name, repository) in &config.repositories {
        for (other_name, other) in config.repositories.iter().filter(|(other_name, _)| *other_name != name) {
            let is_later_twin = repository.url == other.url && name < other_name;
            if is_judged(name, findings) || is_judged(other_name, findings) || is_later_twin {
                continue;
            }
            if is_inside(&repository.url, &other.url) {
                findings.mistake(
                    &format!("repositories.{name}.url"),
                    format!("this is the place of the repository `{other_name}`, or inside it"),
                    "give each repository a place of its own; nodes may share one",
                );
            }
        }
    }
}

fn is_inside(url: &RepositoryUrl, other: &RepositoryUrl) -> bool {
    let is_same_bucket = (url.kind(), url.bucket()) == (other.kind(), other.bucket());
    let rest = url.prefix().strip_prefix(other.prefix());
    is_same_bucket && rest.is_some_and(|rest| rest.is_empty() || other.prefix().is_empty() || rest.starts_with('/'))
}
