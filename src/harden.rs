//! What the process gives up before it touches a secret: core dumps, new privileges, swap, writing files.

use std::io::Write as _;
use std::path::PathBuf;

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, path_beneath_rules,
};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_no_new_privs};

use crate::config::LockMemory;
use crate::error::{Failure, Fault};

/// Why the process cannot protect itself as configured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A first step, which no supported kernel refuses.
    #[error("hardening the process: {0}")]
    Basic(&'static str),
    /// Memory cannot be locked, and has to be.
    #[error("locking memory: {0}")]
    Lock(&'static str),
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Basic(_) => Fault::Bug,
            Self::Lock(_) => Fault::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Basic(_) => None,
            Self::Lock(_) => Some(
                "raise the limit (`LimitMEMLOCK=infinity`, `ulimit -l unlimited`), or set `process.lock_memory: try`"
                    .into(),
            ),
        }
    }
}

/// The first thing in `main`: no core dumps, not dumpable or traceable by its own user, no new privileges.
/// Children inherit all but the second.
pub fn first() -> Result<(), Error> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|_| Error::Basic("core dumps could not be switched off"))?;
    keep_memory_out_of_cores();
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|_| Error::Basic("it could not be made undumpable"))?;
    set_no_new_privs(true).map_err(|_| Error::Basic("new privileges could not be given up"))
}

/// A program can be dumped again once it runs, and what takes cores through a pipe (`core_pattern`) need not heed the
/// limit: a core of `pg_dump` would hold keys. Without a kind of mapping to write, it holds none.
fn keep_memory_out_of_cores() {
    // A kernel that writes no cores has no such file.
    let file = std::fs::OpenOptions::new().write(true).open("/proc/self/coredump_filter");
    let _ = file.and_then(|mut file| file.write_all(b"0"));
}

/// Keeps memory out of swap. Under a limit the lock itself succeeds and every later thread fails, so
/// it is taken only where there is no limit; `ONFAULT` locks what is used, not what is mapped.
pub fn lock_memory(wanted: LockMemory) -> Result<&'static str, Error> {
    if wanted == LockMemory::Off {
        return Ok("off");
    }
    let may_exceed = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    let is_unlimited = getrlimit(Resource::Memlock).current.is_none() || may_exceed;
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    let problem = if !is_unlimited {
        "the limit on locked memory is not unlimited"
    } else if mlockall(flags).is_err() {
        "the kernel refused"
    } else {
        return Ok("locked");
    };
    if wanted == LockMemory::Required {
        return Err(Error::Lock(problem));
    }
    Ok(if is_unlimited { "not locked: the kernel refused" } else { "not locked: limited (see `ulimit -l`)" })
}

/// From here on no file can be written or created but under these folders. Must run before any thread starts.
#[must_use]
pub fn confine(writable: &[PathBuf]) -> &'static str {
    let abi = ABI::V5;
    let writing = AccessFs::from_write(abi);
    let restrict = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(writing)?
            .create()?
            .add_rules(path_beneath_rules(writable, writing))?
            .restrict_self()
    };
    match restrict().map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => "enforced",
        Ok(RulesetStatus::PartiallyEnforced) => "enforced as far as this kernel can",
        Ok(RulesetStatus::NotEnforced) | Err(_) => "not available on this kernel",
    }
}
