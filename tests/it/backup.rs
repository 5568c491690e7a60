//! Backups: whole runs of the real binary against real servers.

mod consistent;
mod faults;
mod hostile;
mod order;
mod verified;
mod whole;
