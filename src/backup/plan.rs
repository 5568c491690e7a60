//! The plan: in which order a node's databases are dumped, and which of them has to be complete before which.
//!
//! Nothing here can be planned that breaks [`Role::must_precede`].
//!
//! [`Role::must_precede`]: crate::config::Role::must_precede

use std::collections::BTreeSet;

use super::manifest::Edge;
use crate::config::{Database, Name};

/// Databases in the order of their dumps.
#[derive(Debug, Clone)]
pub struct Plan<'d> {
    databases: Vec<&'d Database>,
    edges: Vec<Edge>,
}

/// Why a node's databases cannot be ordered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// Two databases have one name.
    #[error("the database `{name}` is there twice")]
    Twice { index: usize, name: Name },
    /// `after` names what is not there.
    #[error("there is no database `{name}` in this node's backup")]
    Unknown { index: usize, after: usize, name: Name, known: Vec<Name> },
    /// `after` names the database itself.
    #[error("the database `{name}` cannot come after itself")]
    Itself { index: usize, after: usize, name: Name },
    /// `after` names a database more than once.
    #[error("the database `{name}` is named twice")]
    Repeated { index: usize, after: usize, name: Name },
    /// Each of these waits for the next one, and the last one for the first.
    #[error("{} wait for each other", list(members))]
    Cycle { index: usize, members: Vec<Name> },
    /// The roles demand an order that is not there.
    #[error("`{name}` has to come after `{before}`: {}", why(*reversed))]
    Unordered { index: usize, name: Name, before: Name, reversed: bool },
}

impl Mistake {
    /// Where it is, below the node's `backup`: `databases[1].after[0]`.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Twice { index, .. } => format!("databases[{index}].name"),
            Self::Unknown { index, after, .. }
            | Self::Itself { index, after, .. }
            | Self::Repeated { index, after, .. } => format!("databases[{index}].after[{after}]"),
            Self::Cycle { index, .. } => format!("databases[{index}].after"),
            Self::Unordered { index, .. } => format!("databases[{index}]"),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Self::Twice { .. } => "rename one: a set has one dump of each name".into(),
            Self::Unknown { known, .. } => format!("known: {}", list(known)),
            Self::Itself { .. } | Self::Repeated { .. } => "take it out".into(),
            Self::Cycle { .. } => "take one of them out of the other's `after`".into(),
            Self::Unordered { before, reversed: false, .. } => format!("add `{before}` to its `after`"),
            Self::Unordered { before, reversed: true, .. } => format!("put `{before}` before it, and not after it"),
        }
    }
}

fn list(names: &[Name]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

const fn why(reversed: bool) -> &'static str {
    if reversed { "here it comes before it" } else { "nothing here says so" }
}

impl<'d> Plan<'d> {
    /// Orders databases by their `after`; by the list where there is none at all, and wherever `after` leaves it open.
    pub fn of(databases: &'d [Database]) -> Result<Self, Mistake> {
        let predecessors = predecessors(databases)?;
        let order = sort(databases, &predecessors)?;
        let ancestors = ancestors(&order, &predecessors);
        check_roles(databases, &ancestors)?;
        let mut edges = Vec::new();
        for &after in &order {
            for &before in order.iter().filter(|before| ancestors[after].contains(before)) {
                let name = |index: usize| databases[index].name.to_string();
                edges.push(Edge { before: name(before), after: name(after) });
            }
        }
        Ok(Self { databases: order.into_iter().map(|index| &databases[index]).collect(), edges })
    }

    /// The databases, the first to be dumped first.
    #[must_use]
    pub fn databases(&self) -> impl DoubleEndedIterator<Item = &'d Database> {
        self.databases.iter().copied()
    }

    /// Every pair of which the first has to be complete before the second is begun, directly or by way of others.
    #[must_use]
    pub fn edges(&self) -> Vec<Edge> {
        self.edges.clone()
    }
}

/// The direct predecessors of each database, by index.
fn predecessors(databases: &[Database]) -> Result<Vec<BTreeSet<usize>>, Mistake> {
    let position = |name: &Name| databases.iter().position(|database| database.name == *name);
    for (index, database) in databases.iter().enumerate() {
        if position(&database.name) != Some(index) {
            return Err(Mistake::Twice { index, name: database.name.clone() });
        }
    }
    if databases.iter().all(|database| database.after.is_empty()) {
        return Ok((0..databases.len()).map(|index| index.checked_sub(1).into_iter().collect()).collect());
    }
    let mut all = Vec::with_capacity(databases.len());
    for (index, database) in databases.iter().enumerate() {
        let mut own = BTreeSet::new();
        for (after, name) in database.after.iter().enumerate() {
            let name = name.clone();
            let Some(before) = position(&name) else {
                let known = databases.iter().map(|database| database.name.clone()).filter(|n| *n != database.name);
                return Err(Mistake::Unknown { index, after, name, known: known.collect() });
            };
            if before == index {
                return Err(Mistake::Itself { index, after, name });
            }
            if !own.insert(before) {
                return Err(Mistake::Repeated { index, after, name });
            }
        }
        all.push(own);
    }
    Ok(all)
}

/// A topological order; of those that could come next, the first of the list.
fn sort(databases: &[Database], predecessors: &[BTreeSet<usize>]) -> Result<Vec<usize>, Mistake> {
    let mut order: Vec<usize> = Vec::with_capacity(databases.len());
    while order.len() < databases.len() {
        let is_ready =
            |index: &usize| !order.contains(index) && predecessors[*index].iter().all(|before| order.contains(before));
        match (0..databases.len()).find(is_ready) {
            Some(next) => order.push(next),
            None => return Err(cycle(databases, predecessors, &order)),
        }
    }
    Ok(order)
}

/// Names a cycle among those that are not in `order`: each of them waits for another one of them.
fn cycle(databases: &[Database], predecessors: &[BTreeSet<usize>], order: &[usize]) -> Mistake {
    let waits_for = |index: usize| predecessors[index].iter().copied().find(|before| !order.contains(before));
    let mut path: Vec<usize> = Vec::new();
    let mut next = (0..databases.len()).find(|index| !order.contains(index));
    while let Some(index) = next.filter(|index| !path.contains(index)) {
        path.push(index);
        next = waits_for(index);
    }
    let start = path.iter().position(|index| Some(*index) == next).unwrap_or(0);
    let members = &path[start..];
    let index = members.iter().copied().min().unwrap_or(0);
    Mistake::Cycle { index, members: members.iter().map(|index| databases[*index].name.clone()).collect() }
}

/// For each database all that have to come before it.
fn ancestors(order: &[usize], predecessors: &[BTreeSet<usize>]) -> Vec<BTreeSet<usize>> {
    let mut all = vec![BTreeSet::new(); order.len()];
    for &index in order {
        let mut own = predecessors[index].clone();
        for before in &predecessors[index] {
            own.extend(all[*before].iter().copied());
        }
        all[index] = own;
    }
    all
}

fn check_roles(databases: &[Database], ancestors: &[BTreeSet<usize>]) -> Result<(), Mistake> {
    for (index, later) in databases.iter().enumerate() {
        let missing = databases
            .iter()
            .enumerate()
            .find(|(before, earlier)| earlier.role.must_precede(later.role) && !ancestors[index].contains(before));
        if let Some((before, earlier)) = missing {
            let reversed = ancestors[before].contains(&index);
            let (name, before) = (later.name.clone(), earlier.name.clone());
            return Err(Mistake::Unordered { index, name, before, reversed });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Role;

    fn databases(list: &[(&str, &str, &[&str])]) -> Vec<Database> {
        let json = |(name, role, after): &(&str, &str, &[&str])| serde_json::json!({"name": name, "role": role, "after": after, "pg_dump": {}});
        list.iter().map(|database| serde_json::from_value(json(database)).unwrap()).collect()
    }

    fn plan(list: &[(&str, &str, &[&str])]) -> Result<(Vec<String>, Vec<(String, String)>), Mistake> {
        let databases = databases(list);
        let plan = Plan::of(&databases)?;
        let names = plan.databases().map(|database| database.name.to_string()).collect();
        let edges = plan.edges().iter().map(|edge| (edge.before.clone(), edge.after.clone())).collect();
        Ok((names, edges))
    }

    fn mistake(list: &[(&str, &str, &[&str])]) -> (String, String, String) {
        let mistake = plan(list).unwrap_err();
        (mistake.path(), mistake.to_string(), mistake.fix())
    }

    fn pair(before: &str, after: &str) -> (String, String) {
        (before.into(), after.into())
    }

    #[test]
    fn without_after_the_list_is_the_order() {
        let (names, edges) = plan(&[("v", "validator", &[]), ("p", "participant", &[]), ("x", "other", &[])]).unwrap();
        assert_eq!(names, ["v", "p", "x"]);
        assert_eq!(edges, [pair("v", "p"), pair("v", "x"), pair("p", "x")]);
    }

    #[test]
    fn after_orders_and_the_list_decides_where_it_is_open() {
        let list: &[(&str, &str, &[&str])] = &[
            ("sequencer", "sequencer", &["bft"]),
            ("participant", "participant", &["scan"]),
            ("scan", "scan", &["sv", "validator"]),
            ("sv", "sv", &[]),
            ("mediator", "mediator", &[]),
            ("validator", "validator", &[]),
            ("bft", "cantonbft", &[]),
        ];
        let (names, edges) = plan(list).unwrap();
        assert_eq!(names, ["sv", "mediator", "validator", "scan", "participant", "bft", "sequencer"]);
        let needed = [("sv", "scan"), ("validator", "scan"), ("sv", "participant"), ("validator", "participant")];
        let needed = needed.into_iter().chain([("scan", "participant"), ("bft", "sequencer")]);
        assert_eq!(edges, needed.map(|(before, after)| pair(before, after)).collect::<Vec<_>>());
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let (path, message, fix) = mistake(&[("v", "validator", &[]), ("v", "participant", &["v"])]);
        assert_eq!((path.as_str(), message.as_str()), ("databases[1].name", "the database `v` is there twice"));
        assert!(fix.contains("rename"));
        let (path, message, fix) = mistake(&[("v", "validator", &[]), ("p", "participant", &["v", "w"])]);
        assert_eq!(path, "databases[1].after[1]");
        assert_eq!((message.as_str(), fix.as_str()), ("there is no database `w` in this node's backup", "known: `v`"));
        let (path, ..) = mistake(&[("v", "validator", &["v"])]);
        assert_eq!(path, "databases[0].after[0]");
        let (path, message, _) = mistake(&[("v", "validator", &[]), ("p", "participant", &["v", "v"])]);
        assert_eq!((path.as_str(), message.as_str()), ("databases[1].after[1]", "the database `v` is named twice"));
    }

    #[test]
    fn a_cycle_is_named_by_its_members_alone() {
        let (path, message, _) = mistake(&[
            ("a", "other", &[]),
            ("b", "other", &["d", "a"]),
            ("c", "other", &["b"]),
            ("d", "other", &["c"]),
            ("e", "other", &["d"]),
        ]);
        assert_eq!((path.as_str(), message.as_str()), ("databases[1].after", "`b`, `d`, `c` wait for each other"));
    }

    #[test]
    fn a_participant_comes_after_every_app_and_a_sequencer_after_its_orderer() {
        for role in ["validator", "sv", "scan"] {
            let (path, message, _) = mistake(&[("p", "participant", &[]), ("app", role, &[])]);
            assert_eq!(path, "databases[0]");
            assert!(message.contains("`p` has to come after `app`"), "{message}");
        }
        // Free order is not enough, however lucky.
        let (path, _, fix) = mistake(&[("v", "validator", &[]), ("w", "validator", &[]), ("p", "participant", &["v"])]);
        assert_eq!((path.as_str(), fix.as_str()), ("databases[2]", "add `w` to its `after`"));
        assert!(plan(&[("s", "sequencer", &[]), ("b", "cantonbft", &["s"])]).is_err());
        assert!(plan(&[("v", "validator", &[]), ("x", "other", &["v"]), ("p", "participant", &["x"])]).is_ok());
    }

    const ROLES: [Role; 4] = [Role::Validator, Role::Participant, Role::Scan, Role::Other];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_planned_keeps_every_after_and_every_role(
            nodes in proptest::collection::vec((0..4_usize, proptest::collection::btree_set(0..6_usize, 0..3)), 1..6)
        ) {
            let count = nodes.len();
            let list: Vec<Database> = nodes.iter().enumerate().map(|(index, (role, after))| {
                let after: Vec<_> = after.iter().filter(|a| **a < count).map(|a| format!("d{a}")).collect();
                serde_json::from_value(serde_json::json!({
                    "name": format!("d{index}"), "role": ROLES[*role], "after": after, "pg_dump": {}
                })).unwrap()
            }).collect();
            if let Ok(plan) = Plan::of(&list) {
                let order: Vec<_> = plan.databases().collect();
                prop_assert_eq!(order.len(), count);
                let place = |name: &str| order.iter().position(|database| database.name.as_str() == name).unwrap();
                for (index, database) in order.iter().enumerate() {
                    for before in &database.after {
                        prop_assert!(place(before.as_str()) < index);
                    }
                    for earlier in order.iter().filter(|earlier| earlier.role.must_precede(database.role)) {
                        prop_assert!(place(earlier.name.as_str()) < index);
                    }
                }
                for edge in plan.edges() {
                    prop_assert!(place(&edge.before) < place(&edge.after));
                }
            }
        }
    }
}
