//! Rights in the clouds' object stores, for each role no more than its folders.

mod az;
mod gs;
mod s3;

use super::Role;
use crate::config::{Config, Name, Node, RepositoryKind};

/// One repository with the folders of the nodes that use it.
struct Place<'a> {
    repository: &'a Name,
    bucket: &'a str,
    /// Each with a `/` at its end.
    folders: Vec<String>,
}

/// What the cloud has to allow; nothing where no node uses a repository of this kind.
pub(super) fn render(config: &Config, kind: RepositoryKind, role: Role) -> String {
    let places = places(config, kind);
    match kind {
        _ if places.is_empty() => String::new(),
        RepositoryKind::S3 => s3::render(&places, role),
        RepositoryKind::Gs => gs::render(&places, role),
        RepositoryKind::Az => az::render(&places, role),
        RepositoryKind::File => String::new(),
    }
}

fn places(config: &Config, kind: RepositoryKind) -> Vec<Place<'_>> {
    let mut places = Vec::new();
    for (name, repository) in config.repositories.iter().filter(|(_, repository)| repository.url.kind() == kind) {
        let prefix = match repository.url.prefix() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let uses = |node: &Node| node.backup.as_ref().is_some_and(|backup| backup.repository == *name);
        let nodes = config.nodes.iter().filter(|(_, node)| uses(node));
        let folders: Vec<String> = nodes.map(|(node, _)| format!("{prefix}{node}/")).collect();
        if !folders.is_empty() {
            places.push(Place { repository: name, bucket: repository.url.bucket(), folders });
        }
    }
    places
}
