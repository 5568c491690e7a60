//! A folder as a repository: modes, half-written files, a disk that is full.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use idkeep::backup::repository::{Lock, Pending, Repository, clear_leftovers, open_to_others};
use jiff::Timestamp;

use super::{in_folder, told};
use crate::support::s3::{bytes, local};

const PART: usize = 1 << 20;

/// Every path below, hidden ones too, with its mode.
fn tree(root: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push((path, metadata.permissions().mode() & 0o777));
    }
    found.sort();
    found
}

#[test]
fn files_and_folders_are_their_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    local(async {
        let repository = in_folder(&folder);
        let lock = Lock::take(&repository, "node").await.unwrap();
        let mut pending = Pending::begin(&repository, "node", Timestamp::now()).await.unwrap();
        let mut upload = repository.upload("node/set/dump", PART, &mut pending).await.unwrap();
        upload.push(bytes(10, 1)).await.unwrap();
        upload.commit().await.unwrap();
        repository.create("node/set/manifest.json", "{}".into()).await.unwrap();
        repository.replace("node/node.json", "{}".into()).await.unwrap();
        for (path, mode) in tree(&folder.path().join("kept")) {
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, expected, "{}", path.display());
        }
        lock.release().await;
    });
}

#[test]
fn what_is_half_written_is_in_no_list_and_goes_with_its_run() {
    let folder = tempfile::tempdir().unwrap();
    local(async {
        let repository = in_folder(&folder);
        let pending = Pending::begin(&repository, "node", Timestamp::now()).await.unwrap();
        let set = folder.path().join(format!("kept/node/{}", pending.set()));
        // As `kill -9` leaves it.
        std::fs::write(set.join(".dump.0123456789abcdef.new"), "half").unwrap();
        assert_eq!(repository.list(&format!("node/{}", pending.set())).await.unwrap().len(), 1);
        let lock = Lock::take(&repository, "node").await.unwrap();
        assert_eq!(clear_leftovers(&repository, "node", &lock).await.unwrap(), [pending.set()]);
        assert!(!set.exists());
        lock.release().await;
    });
}

#[test]
fn a_dropped_upload_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    local(async {
        let repository = in_folder(&folder);
        let mut pending = Pending::begin(&repository, "node", Timestamp::now()).await.unwrap();
        let mut upload = repository.upload("node/set/dump", PART, &mut pending).await.unwrap();
        upload.push(bytes(PART, 1)).await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("kept/node/set")).unwrap().count(), 1);
        drop(upload);
        assert_eq!(std::fs::read_dir(folder.path().join("kept/node/set")).unwrap().count(), 0);
    });
}

/// A small file system in memory, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder.path()).status();
        assert!(status.unwrap().success(), "mounting needs root");
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_and_says_what_to_do() {
    let disk = SmallDisk::new();
    local(async {
        let repository = in_folder(&disk.0);
        let mut pending = Pending::begin(&repository, "node", Timestamp::now()).await.unwrap();
        let mut upload = repository.upload("node/set/dump", PART, &mut pending).await.unwrap();
        let mut result = Ok(());
        for seed in 0..6 {
            if result.is_ok() {
                result = upload.push(bytes(PART, seed)).await;
            }
        }
        let (code, message, hint) = told(result);
        assert_eq!((code, message.contains("writing node/set/dump")), (75, true), "{message}");
        assert!(hint.contains("make room"), "{hint}");
        upload.abort().await;
        assert!(repository.list("node/set").await.unwrap().is_empty());
        assert!(std::fs::read_dir(disk.0.path().join("kept/node/set")).unwrap().next().is_none());
        repository.create("node/set/small", "fits again".into()).await.unwrap();
    });
}

#[test]
fn a_folder_that_cannot_be_created_is_a_mistake_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let url = format!("file://{}/file/kept", folder.path().display());
    let config = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
    let repository = Repository::open_with("dr", &config, &[]).unwrap();
    let (code, message, hint) = told(local(repository.create("node/a", "a".into())));
    assert_eq!(code, 78, "{message}");
    assert!(hint.contains("let this user write there"), "{hint}");
}

#[test]
fn a_link_is_not_followed_and_a_key_does_not_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    local(async {
        let repository: Rc<Repository> = in_folder(&folder);
        repository.create("node/real", "real".into()).await.unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("kept/node/link")).unwrap();
        assert!(repository.read("node/link", 1 << 20).await.is_err());
        assert_eq!(repository.list("node").await.unwrap().len(), 1);
        for key in ["../outside", "node/../../outside", "/etc/passwd"] {
            assert!(repository.read(key, 10).await.is_err(), "{key}");
            assert!(repository.create(key, "x".into()).await.is_err(), "{key}");
        }
    });
}

#[test]
fn a_folder_that_others_may_write_to_or_replace_is_known() {
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().canonicalize().unwrap();
    let (above, root) = (outside.join("above"), outside.join("above/kept"));
    std::fs::create_dir_all(&root).unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&above, 0o755);
    mode(&root, 0o775);
    assert_eq!(open_to_others(&root), None);
    mode(&root, 0o777);
    assert_eq!(open_to_others(&root), Some(root.clone()));
    // Others can add to it, sticky or not.
    mode(&root, 0o1777);
    assert_eq!(open_to_others(&root), Some(root.clone()));
    mode(&root, 0o700);
    mode(&above, 0o777);
    assert_eq!(open_to_others(&root), Some(above.clone()));
    // They cannot replace what is ours there; what is not there yet they can make.
    mode(&above, 0o1777);
    assert_eq!(open_to_others(&root), None);
    assert_eq!(open_to_others(&above.join("none/kept")), Some(above.clone()));
    assert_eq!(open_to_others(&root.join("none")), None);
    // By whatever name it is reached.
    mode(&above, 0o777);
    std::os::unix::fs::symlink(&above, outside.join("link")).unwrap();
    assert_eq!(open_to_others(&outside.join("link/kept")), Some(above));
}
