//! Backups: whole runs of the real binary against real servers.

mod consistent;
mod credentials;
mod exec;
mod faults;
mod hostile;
mod live;
mod majors;
mod order;
mod progress;
mod rights;
mod s3;
mod secrecy;
mod trust;
mod verified;
mod whole;
