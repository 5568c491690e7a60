//! The integration tests: the real binary against real servers and strict stand-ins.
// A test that cannot go on panics, and says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::pedantic)]

mod attacks;
mod backup;
mod chart;
mod config;
mod daemon;
mod demo;
mod docs;
mod dumps;
mod forms;
mod hardening;
mod image;
mod node;
mod parts_self_test;
mod policies;
mod postgres;
mod proxies;
mod repository;
mod secrecy;
mod signing;
mod stores;
mod support;
mod sync;
mod systemd;
mod tokens;
mod vault;

use zeroizing_alloc::ZeroAlloc;

/// As in the program: one test runs a pass in this binary and looks into its memory.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);
