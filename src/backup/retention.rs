//! stub
use super::set::SetId; use jiff::Timestamp; use crate::config;
#[derive(Debug)] pub struct Refusal; impl Refusal { pub fn hint(&self)->String{todo!()} } impl std::fmt::Display for Refusal { fn fmt(&self,_:&mut std::fmt::Formatter<'_>)->std::fmt::Result{todo!()} }
pub enum Verdict { Keep(String), Remove(String) }
pub struct SetFacts { pub id: SetId, pub snapshot_at: Timestamp, pub participant_id: Option<String>, pub participant_database: Option<String>, pub migration_id: Option<i64>, pub verified_at: Option<Timestamp> }
pub struct Retention; impl Retention { pub fn new(_: config::Retention, _: Option<config::Period>)->Self{todo!()} pub fn judge(&self, _:&[SetFacts], _:Timestamp)->Vec<(SetId, Verdict)>{todo!()} }
pub fn guard(_:&[SetFacts], _:&[(SetId, Verdict)], _:Timestamp, _:bool)->Result<(), Refusal>{todo!()}
