//! The `file` store, several stores of a node, several nodes of a pass, and what is reported of them.

mod file;
mod several;
