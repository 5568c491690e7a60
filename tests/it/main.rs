//! The integration tests: the real binary against real servers and strict stand-ins.

mod parts_self_test;
mod support;
