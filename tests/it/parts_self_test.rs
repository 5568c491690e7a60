//! The support tried by itself: what a test later relies on is seen to hold here.

mod dumps;
mod metrics;
mod openbao;
mod tokens;
mod validator;
mod watching;
