//! The integration tests: the real binary against real servers and strict stand-ins.
// A test that cannot go on panics, and says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::pedantic)]

mod node;
mod parts_self_test;
mod proxies;
mod support;
mod sync;
mod tokens;
