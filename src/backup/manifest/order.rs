//! The order of a set, as its manifest's own times say it: checked dump by dump, and again over the whole.

use super::{Dump, Error, Manifest};

impl Manifest {
    /// Adds a dump, unless it was begun before each of its predecessors was complete.
    ///
    /// Which those are is said by `order`, and by the roles whatever `order` says.
    pub fn push(&mut self, dump: Dump) -> Result<(), Error> {
        dump.check_times()?;
        if let Some(twin) = self.databases.iter().find(|other| other.name == dump.name || other.file == dump.file) {
            return Err(Error::Twice(if twin.name == dump.name { dump.name } else { dump.file }));
        }
        for edge in self.order.iter().filter(|edge| edge.after == dump.name) {
            let before = self.databases.iter().find(|other| other.name == edge.before);
            let is_complete = before.and_then(|before| before.completed_at).is_some_and(|at| at <= dump.started_at);
            if !is_complete {
                return Err(Error::Early { before: edge.before.clone(), after: dump.name });
            }
        }
        for other in &self.databases {
            if other.role.must_precede(dump.role) && other.completed_at.is_none_or(|at| at > dump.snapshot_at) {
                return Err(Error::Early { before: other.name.clone(), after: dump.name });
            }
            if dump.role.must_precede(other.role) {
                return Err(Error::Early { before: dump.name, after: other.name.clone() });
            }
        }
        self.databases.push(dump);
        Ok(())
    }

    /// The same over the whole manifest, and that every dump is complete: before it is published, and as read.
    pub fn check_order(&self) -> Result<(), Error> {
        if self.databases.is_empty() {
            return Err(Error::Empty);
        }
        let is_there = |name: &str| self.databases.iter().any(|dump| dump.name == name);
        for edge in &self.order {
            if edge.before == edge.after || !is_there(&edge.before) || !is_there(&edge.after) {
                return Err(Error::Edge { before: edge.before.clone(), after: edge.after.clone() });
            }
        }
        let mut again = Self { databases: Vec::new(), ..self.clone() };
        for dump in &self.databases {
            if dump.completed_at.is_none() {
                return Err(Error::Unfinished(dump.name.clone()));
            }
            again.push(dump.clone())?;
        }
        Ok(())
    }
}

impl Dump {
    fn check_times(&self) -> Result<(), Error> {
        let is_ordered =
            self.started_at <= self.snapshot_at && self.completed_at.is_none_or(|at| self.snapshot_at <= at);
        if is_ordered { Ok(()) } else { Err(Error::Times(self.name.clone())) }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;

    use super::super::tests::{dump, manifest};
    use super::super::{Edge, Error};
    use super::*;
    use crate::config::Role;

    fn times(mut dump: Dump, started: i64, snapshot: i64, completed: Option<i64>) -> Dump {
        let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        dump.started_at = at(started);
        dump.snapshot_at = at(snapshot);
        dump.completed_at = completed.map(at);
        dump
    }

    fn early(before: &str, after: &str) -> Error {
        Error::Early { before: before.into(), after: after.into() }
    }

    #[test]
    fn a_dump_begun_after_its_predecessor_is_taken_and_one_begun_before_is_not() {
        let mut set = manifest();
        set.push(times(dump("validator", Role::Validator), 0, 1, Some(5))).unwrap();
        let participant =
            |started, snapshot| times(dump("participant", Role::Participant), started, snapshot, Some(20));
        assert_eq!(set.push(participant(4, 6)), Err(early("validator", "participant")));
        assert_eq!(set.push(participant(7, 6)), Err(Error::Times("participant".into())));
        assert_eq!(set.databases.len(), 1);
        set.push(participant(5, 6)).unwrap();
        set.check_order().unwrap();
    }

    #[test]
    fn a_reversed_pair_is_refused_whatever_the_order_says() {
        for order in [vec![], vec![Edge { before: "participant".into(), after: "validator".into() }]] {
            let mut set = manifest();
            set.order = order;
            set.push(times(dump("participant", Role::Participant), 0, 1, Some(5))).unwrap();
            let validator = times(dump("validator", Role::Validator), 6, 7, Some(8));
            assert_eq!(set.push(validator.clone()), Err(early("validator", "participant")));
            set.databases.push(validator);
            assert_eq!(set.check_order(), Err(early("validator", "participant")));
        }
    }

    #[test]
    fn every_app_has_to_be_complete_before_the_participants_snapshot() {
        for role in [Role::Validator, Role::Sv, Role::Scan] {
            let mut set = manifest();
            set.order.clear();
            set.push(times(dump("app", role), 0, 1, Some(10))).unwrap();
            let participant = |snapshot| times(dump("participant", Role::Participant), 2, snapshot, Some(30));
            assert_eq!(set.push(participant(9)), Err(early("app", "participant")));
            set.push(participant(10)).unwrap();
            set.databases[0].completed_at = None;
            assert_eq!(set.check_order(), Err(Error::Unfinished("app".into())));
        }
    }

    #[test]
    fn twins_and_an_order_of_what_is_not_there_are_refused() {
        let mut set = manifest();
        set.push(times(dump("validator", Role::Validator), 0, 1, Some(5))).unwrap();
        let again = times(dump("validator", Role::Other), 6, 7, Some(8));
        assert_eq!(set.push(again), Err(Error::Twice("validator".into())));
        let mut again = times(dump("other", Role::Other), 6, 7, Some(8));
        again.file = set.databases[0].file.clone();
        assert_eq!(set.push(again), Err(Error::Twice("validator.dump.zst.age".into())));
        assert!(matches!(set.check_order(), Err(Error::Edge { .. })));
        assert_eq!(manifest().check_order(), Err(Error::Empty));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_participant_passes_that_saw_less_than_an_app_referred_to(
            spans in proptest::collection::vec((0..30_i64, 0..5_i64, 0..5_i64), 2..5), participant in 0..5_usize
        ) {
            let participant = participant % spans.len();
            let mut set = manifest();
            set.order.clear();
            for (index, (started, snapshot, completed)) in spans.iter().enumerate() {
                let role = if index == participant { Role::Participant } else { Role::Validator };
                let (snapshot, completed) = (started + snapshot, started + snapshot + completed);
                set.databases.push(times(dump(&format!("d{index}"), role), *started, snapshot, Some(completed)));
            }
            let snapshot_at = set.databases[participant].snapshot_at;
            let is_last = participant == spans.len() - 1;
            let is_after = set.databases.iter().enumerate()
                .all(|(index, dump)| index == participant || dump.completed_at.unwrap() <= snapshot_at);
            prop_assert_eq!(set.check_order().is_ok(), is_last && is_after);
        }
    }
}
