use idkeep::backup::postgres::Dump;
use memchr::memmem::find;

use super::{RUN, node_of, on_one_thread, session, target};
use crate::support::postgres::Network;

#[test]
fn the_password_is_in_no_argument_and_no_environment_while_a_dump_runs() {
    let (cluster, _) = node_of(Network { rows: 6000, ..Network::new() });
    let database = cluster.database("participant", "participant", "participant");
    on_one_thread(async {
        let target = target(&database).await;
        let mut session = session(&target).await;
        let snapshot = session.snapshot().await.unwrap();
        let dump = Dump::start(&target, RUN, &snapshot).await.unwrap();
        crate::support::wait_for("the dump to connect", std::time::Duration::from_secs(60), || {
            (cluster.sessions(RUN) == 2).then_some(())
        });
        let (psql, pg_dump) = (session.pid().unwrap(), dump.pid().unwrap());
        let mut seen = Vec::new();
        // Its secret part: the rest might be escaped.
        let secret = &cluster.password.as_bytes()[cluster.password.len() - 16..];
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            for name in ["cmdline", "environ"] {
                let Ok(bytes) = std::fs::read(entry.path().join(name)) else { continue };
                assert!(find(&bytes, secret).is_none(), "{name} of {pid}");
                if pid == psql || pid == pg_dump {
                    seen.push(String::from_utf8(bytes).unwrap());
                }
            }
        }
        assert_eq!(seen.len(), 4, "both were looked at");
        assert_eq!(seen.iter().filter(|text| text.contains("application_name='idkeep/")).count(), 2);
        assert_eq!(seen.iter().filter(|text| text.contains("PGPASSFILE=/proc/self/fd/3\0")).count(), 2);
        for text in seen.iter().filter(|text| text.contains("PGPASSFILE")) {
            let mut names: Vec<&str> = text.split_terminator('\0').filter_map(|line| line.split('=').next()).collect();
            names.sort_unstable();
            assert_eq!(names, ["HOME", "LC_ALL", "PATH", "PGPASSFILE"], "nothing of our own environment");
        }
        // libpq would ask the user database for a home, and look there for passwords and certificates, if this were unset.
        assert_eq!(seen.iter().filter(|text| text.contains("HOME=/nonexistent\0")).count(), 2);
        // It is where it was put, and cannot be changed there.
        for pid in [psql, pg_dump] {
            let path = format!("/proc/{pid}/fd/3");
            assert!(find(&std::fs::read(&path).unwrap(), secret).is_some());
            assert!(std::fs::write(&path, "*:*:*:*:other\n").is_err());
        }
    });
}
