//! stub
use jiff::Timestamp; use std::path::Path; use std::io::Read;
pub enum Error { Ended } pub struct Contents; pub struct Found { pub bytes: u64, pub sha256: String, pub contents: Option<Result<Contents, Error>> }
pub fn walk(_: impl Read, _: Option<&Path>) -> Result<Contents, Error>{todo!()}
pub fn passed_at(_: &[u8]) -> Option<Timestamp>{todo!()}
