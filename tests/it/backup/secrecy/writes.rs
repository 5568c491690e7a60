//! Every system call of a whole run that writes, and what a repository holds in the end.

use std::process::{Command, Stdio};

use memchr::memmem::find;

use super::{Planted, assert_silent, tells};
use crate::support::backup::below;
use crate::support::memory::forms;
use crate::support::parts::tool;

/// The bytes that strace writes as `\x41\x42`.
pub(super) fn unescaped(line: &str) -> Vec<u8> {
    let digits = line.split("\\x").skip(1).filter_map(|part| u8::from_str_radix(part.get(..2)?, 16).ok());
    digits.collect()
}

const CALLS: &str = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg,sendfile,splice,vmsplice,tee,\
                     copy_file_range,process_vm_writev,open,openat,openat2,creat,mknod,mknodat";

#[test]
fn a_key_is_written_to_pipes_alone_and_no_file_outside_the_repository() {
    let planted = Planted::new(380, 200);
    let trace = planted.node.idkeep().path("trace");
    let output = Command::new(tool("strace"))
        .args(["-f", "-yy", "-xx", "-s", "10000000", "-e", CALLS, "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_idkeep"))
        .args(["-o", "json", "--log-level", "trace", "backup"])
        .env_clear()
        .env("IDKEEP_CONFIG", planted.node.idkeep().path("idkeep.yaml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let repository = planted.node.url.strip_prefix("file://").unwrap();
    let forms: Vec<_> = planted.secrets.iter().flat_map(|(name, secret)| forms(name, secret)).collect();
    let (mut keys, mut passwords, mut tokens) = (0, 0, 0);
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        let (call, shown) = (line.split_once(' ').unwrap().1.trim_start(), line.get(..300).unwrap_or(line));
        if call.starts_with("open") {
            opened(call, repository);
            continue;
        }
        assert!(!call.starts_with("creat") && !call.starts_with("mknod"), "a file is made: {shown}");
        let bytes = unescaped(line);
        for (name, _) in forms.iter().filter(|(_, form)| find(&bytes, form).is_some()) {
            // `write(1<pipe:[4711]>, …`
            let to = target(call);
            let (may_be, count) = match name.split(' ').next() {
                Some("key") => ("pipe:", &mut keys),
                Some("password,") => ("/memfd:idkeep", &mut passwords),
                Some("vault") => ("TCP:", &mut tokens),
                _ => panic!("{name} is written: {shown}"),
            };
            assert!(to.starts_with(may_be), "{name} is written elsewhere: {shown}");
            *count += 1;
        }
    }
    // The control: pg_dump writes the keys, the password is handed over, the store is asked.
    assert!(keys > 0 && passwords > 0 && tokens > 0, "{keys} {passwords} {tokens}");
    for file in below(std::path::Path::new(repository)) {
        assert_silent("the repository", &std::fs::read(file).unwrap(), &planted.secrets);
    }
}

/// Where a call writes to: `write(1<pipe:[4711]>, …`, or a path, which is escaped.
fn target(call: &str) -> String {
    let to = call.split_once('<').unwrap().1.split('>').next().unwrap();
    if to.starts_with("\\x") { String::from_utf8(unescaped(to)).unwrap() } else { to.to_owned() }
}

/// For writing are opened: what is below the repository, and `/dev/null`.
fn opened(call: &str, repository: &str) {
    if !["O_WRONLY", "O_RDWR", "O_CREAT", "O_TMPFILE"].iter().any(|flag| call.contains(flag)) {
        return;
    }
    let path = call.split_once('"').and_then(|(_, rest)| Some(rest.split_once('"')?.0)).unwrap_or_default();
    let path = String::from_utf8(unescaped(path)).unwrap();
    let is_allowed = path.starts_with(&format!("{repository}/"))
        || ["/dev/null", "/proc/self/coredump_filter"].contains(&path.as_str());
    assert!(is_allowed, "opened for writing: {path}");
}

/// The negative control: unsealed, the key is found in what is stored, and by the same way of looking.
#[test]
fn without_encryption_the_key_is_in_what_is_stored_and_with_it_it_is_not() {
    let mut planted = Planted::new(381, 200);
    planted.node.publish();
    planted.node.backup.push("encryption: none".into());
    planted.node.configure();
    let unsealed = planted.node.publish();
    let (mut found, mut sealed) = (0, 0);
    for file in below(&planted.node.folder()) {
        let stored = std::fs::read(&file).unwrap();
        assert_silent("what is stored", &stored, &planted.secrets);
        if file.extension().is_some_and(|end| end == "age") {
            assert!(stored.starts_with(b"age-encryption.org/v1\n"));
            sealed += 1;
        } else if file.extension().is_some_and(|end| end == "zst") {
            assert!(file.starts_with(planted.node.folder().join(&unsealed)));
            let plain = Command::new(tool("zstd")).arg("-dc").arg(&file).stderr(Stdio::inherit()).output().unwrap();
            assert!(plain.status.success());
            found += u32::from(tells(&plain.stdout, &planted.secrets, "key"));
        }
    }
    assert_eq!((found, sealed), (1, 2), "of the participant's dump alone");
}
