//! Dumps sealed as idkeep seals them, opened, cut, changed, and sealed to others.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use age::secrecy::ExposeSecret as _;

use super::*;

const ARCHIVE: &[u8] = include_bytes!("../../archive/samples/15.dump");

/// Walks with this key, wherever it is kept.
fn walk_with(object: impl Read, key: &age::x25519::Identity) -> Result<archive::Contents, Error> {
    walk(object, Some(written(key).path()))
}

fn compressed() -> Vec<u8> {
    zstd::stream::encode_all(ARCHIVE, 3).unwrap()
}

fn sealed(plain: &[u8], key: &age::x25519::Identity) -> Vec<u8> {
    let recipient = key.to_public();
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as _)).unwrap();
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed).unwrap();
    writer.write_all(plain).unwrap();
    writer.finish().unwrap();
    sealed
}

fn key_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn written(key: &age::x25519::Identity) -> tempfile::NamedTempFile {
    key_file(&format!("# created: today\n{}\n", key.to_string().expose_secret()))
}

#[test]
fn a_sealed_dump_is_opened_and_its_bytes_are_counted() {
    let key = age::x25519::Identity::generate();
    let contents = walk_with(&sealed(&compressed(), &key)[..], &key).unwrap();
    assert_eq!(contents.bytes, ARCHIVE.len() as u64);
    assert_eq!(walk(&compressed()[..], None).unwrap().bytes, ARCHIVE.len() as u64);
}

#[test]
fn a_dump_that_is_sealed_to_others_or_not_as_its_manifest_says_is_named() {
    let key = age::x25519::Identity::generate();
    let object = sealed(&compressed(), &age::x25519::Identity::generate());
    assert!(matches!(walk_with(&object[..], &key), Err(Error::OtherKey)));
    assert!(walk(&object[..], None).is_err());
    assert!(matches!(walk_with(&compressed()[..], &key), Err(Error::NotSealed)));
    assert!(matches!(walk_with(&b""[..], &key), Err(Error::NotSealed)));
}

#[test]
fn a_sealed_dump_cut_or_changed_anywhere_is_not_whole() {
    let key = age::x25519::Identity::generate();
    let object = sealed(&compressed(), &key);
    let file = written(&key);
    let walk = |object: &[u8]| walk(object, Some(file.path()));
    assert!(walk(&object).is_ok());
    for index in (0..object.len()).step_by(7).chain(object.len() - 20..object.len()) {
        assert!(walk(&object[..index]).is_err(), "cut at {index}");
        let mut changed = object.clone();
        changed[index] ^= 1;
        assert!(walk(&changed).is_err(), "changed at {index}");
    }
    assert!(walk(&[&object[..], b"\0"].concat()).is_err());
}

#[test]
fn more_than_one_archive_in_a_dump_is_refused() {
    let key = age::x25519::Identity::generate();
    let twice = [compressed(), compressed()].concat();
    assert!(walk_with(&sealed(&twice, &key)[..], &key).is_err());
    let trailing = [&compressed()[..], b"more"].concat();
    assert!(walk_with(&sealed(&trailing, &key)[..], &key).is_err());
}

#[test]
fn a_header_without_end_is_not_read_to_its_end() {
    let key = age::x25519::Identity::generate();
    let forged = || Cursor::new(b"age-encryption.org/v1\n");
    let lines: Vec<u8> = b"-> X25519 aaaa\n".repeat(1 << 18);
    let mut lines = Cursor::new(lines);
    assert!(matches!(walk_with(forged().chain(&mut lines), &key), Err(Error::NotSealed)));
    assert!(lines.position() <= (MAX_HEADER + (128 << 10)) as u64, "{} bytes were read", lines.position());
    assert!(matches!(walk_with(forged().chain(io::repeat(b'a').take(1 << 22)), &key), Err(Error::NotSealed)));
}

#[test]
fn a_window_that_would_need_much_memory_is_refused() {
    let key = age::x25519::Identity::generate();
    let with_window = |log| {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(ARCHIVE).unwrap();
        sealed(&encoder.finish().unwrap(), &key)
    };
    assert!(walk_with(&with_window(23)[..], &key).is_ok());
    assert!(walk_with(&with_window(26)[..], &key).is_err());
}

#[test]
fn only_private_keys_that_nobody_else_may_read_are_taken() {
    let key = age::x25519::Identity::generate();
    assert_eq!(load_key(written(&key).path()).map(|keys| keys.len()).ok(), Some(1));
    let open_to_all = written(&key);
    std::fs::set_permissions(open_to_all.path(), Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(load_key(open_to_all.path()), Err(KeyError::Read(secret::Error::TooOpen { .. }))));
    let public = "age1leh563e45d9hha0ug776am2wr983wh8ymxmxdn7uxj229w9085us4w482h\n";
    for text in ["", "# nothing\n", public, "age-encryption.org/v1\n-> scrypt a\n"] {
        assert!(matches!(load_key(key_file(text).path()), Err(KeyError::NotAKey(_))), "{text}");
    }
    assert!(matches!(load_key(Path::new("/nowhere")), Err(KeyError::Read(secret::Error::Read { .. }))));
}
