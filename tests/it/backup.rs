//! Backups: whole runs of the real binary against real servers.

mod consistent;
mod faults;
mod order;
mod verified;
mod whole;
