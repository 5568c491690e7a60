//! Dumps, good and bad, through the real binary into a real store: what is no proven dump changes nothing there, and
//! what is one arrives byte for byte.

mod bad;
mod corpus;
mod good;
mod parser;
mod participants;
