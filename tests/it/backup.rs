//! Backups: whole runs of the real binary against real servers.

mod consistent;
mod faults;
mod order;
mod secrecy;
mod verified;
mod whole;
