//! idkeep keeps a Canton Network validator recoverable.
//!
//! One path brings a node's identities into secret stores; plaintext exists only on it and is wiped behind it:
//!
//! ```text
//! AccessToken ─▶ Validator::fetch ─▶ Identities ──seal──▶ Envelope ─▶ Store::put ─▶ Receipt
//!    oauth          validator          identity     seal                 store        receipt
//! ```
//!
//! [`sync`] drives it, for each node, in [`command`]s; [`backup`] is the other path, drawn there. [`agent`] is the
//! daemon, which drives both, each at its time. Below it stand [`secret`] (what the configuration refers to),
//! [`http`] (one client, capped and timed), [`retry`] (under one deadline) and [`error`] (what a failure means).
//! [`config`] is the file as written, [`harden`] what the process gives up before it starts.

pub mod agent;
pub mod backup;
pub mod cli;
pub mod command;
pub mod config;
pub mod error;
pub mod harden;
pub mod http;
pub mod identity;
pub mod log;
pub mod oauth;
pub mod output;
pub mod policy;
pub mod receipt;
pub mod retry;
pub mod seal;
pub mod secret;
pub mod store;
pub mod sync;
pub mod validator;
