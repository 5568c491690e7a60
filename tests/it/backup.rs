//! Backups: whole runs of the real binary against real servers.

mod consistent;
mod credentials;
mod exec;
pub(crate) mod faults;
pub(crate) mod hostile;
mod live;
mod majors;
mod order;
mod progress;
mod rights;
pub(crate) mod s3;
pub(crate) mod secrecy;
mod trust;
pub(crate) mod verified;
mod whole;
