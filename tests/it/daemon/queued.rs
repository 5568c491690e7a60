//! Backups that wait for their turn: one at a time, each in the configuration that holds when it begins.

use std::path::PathBuf;

use super::LONG;
use crate::backup::faults::{hold, wait_for_the_dump_to_wait};
use crate::support::age::AgeKey;
use crate::support::backup::{Node, below};
use crate::support::daemon::Daemon;
use crate::support::wait_for;

/// Nodes with the same databases, each with a folder of its own in the same repository.
struct Queue {
    node: Node,
    /// Those beside the first, and to whom their sets are sealed.
    others: Vec<(String, String)>,
}

impl Queue {
    fn new(seed: u64, others: usize) -> Self {
        let mut node = Node::new(seed);
        node.scenario.top("schedule: {backups: {every: 3h, objective: 4h}}");
        let others = (1..=others).map(|at| (format!("{}-{at}", node.name()), node.key.recipient.clone())).collect();
        let mut queue = Self { node, others };
        queue.configure();
        queue
    }

    fn configure(&mut self) {
        let yaml = self.node.yaml();
        let (first, rest) = yaml.split_once("\nstores:\n").unwrap();
        let block = first.strip_prefix("nodes:\n").unwrap();
        let (head, recipient) = (format!("  {}:\n", self.node.name()), self.node.key.recipient.clone());
        let other = |(name, sealed_to): &(String, String)| {
            format!("\n{}", block.replacen(&head, &format!("  {name}:\n"), 1).replace(&recipient, sealed_to))
        };
        let others: String = self.others.iter().map(other).collect();
        self.node.idkeep_mut().config(&format!("{first}{others}\nstores:\n{rest}"));
    }

    fn name(&self, other: usize) -> &str {
        &self.others[other].0
    }

    /// The files of another node's sets.
    fn files(&self, other: usize) -> Vec<PathBuf> {
        below(&self.node.folder().with_file_name(self.name(other)))
    }

    /// Starts a daemon whose first backup is held up, and waits until all others wait for it.
    fn start(&self) -> Daemon {
        let daemon = Daemon::start(self.node.idkeep());
        wait_for_the_dump_to_wait(&self.node);
        wait_for("the others to stand in line", LONG, || {
            let status = daemon.get("/status").json();
            // What is due has looked into the repository first.
            let has_looked = |(name, _): &(String, String)| !status["nodes"][name]["backups"]["sets"].is_null();
            self.others.iter().all(has_looked).then_some(())
        });
        assert_eq!(daemon.count("backup begun"), 1, "two at once");
        daemon
    }
}

fn wait_for_set(daemon: &Daemon, node: &str) {
    let published = [("node", node), ("outcome", "published")];
    daemon.wait_for_metrics(&format!("a set of {node}"), |metrics| {
        (metrics.count("idkeep_backup_total", &published) >= 1).then_some(())
    });
}

/// Or whoever lost his key could still read what is sealed hours after he was taken out.
#[test]
fn a_set_is_sealed_to_the_recipients_of_the_moment_that_it_is_begun() {
    let mut queue = Queue::new(915, 1);
    let lock = hold(&queue.node);
    let daemon = queue.start();
    let key = AgeKey::new();
    queue.others[0].1.clone_from(&key.recipient);
    queue.configure();
    daemon.reload("done");
    drop(lock);
    wait_for_set(&daemon, queue.node.name());
    wait_for_set(&daemon, queue.name(0));
    // It was begun for the old configuration: whether the new one wants another is looked at.
    daemon.wait_for_event("the look", |event| event.is("not due yet") && event.text("node") == queue.name(0));
    daemon.stop();
    let sealed = dumps(queue.files(0));
    assert_eq!(sealed.len(), 2, "one set, and not one for each configuration: {sealed:?}");
    for file in sealed {
        let bytes = std::fs::read(&file).unwrap();
        assert!(key.open(&bytes).is_ok(), "{} is not for the new recipient", file.display());
        assert!(queue.node.key.open(&bytes).is_err(), "{} is for the old recipient", file.display());
    }
    // As a control: the first one's are for the old.
    for file in dumps(below(&queue.node.folder())) {
        assert!(queue.node.key.open(&std::fs::read(&file).unwrap()).is_ok(), "{}", file.display());
    }
}

fn dumps(files: Vec<PathBuf>) -> Vec<PathBuf> {
    files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "age")).collect()
}

#[test]
fn a_node_that_was_taken_out_while_it_waited_is_not_dumped() {
    let mut queue = Queue::new(916, 2);
    let lock = hold(&queue.node);
    let daemon = queue.start();
    let (gone, _) = queue.others.remove(0);
    queue.configure();
    daemon.reload("done");
    drop(lock);
    // It stood behind the one that is gone.
    wait_for_set(&daemon, queue.name(0));
    let outcome = daemon.stop();
    let begun = outcome.stderr.lines().filter(|line| line.contains("\"backup begun\"")).collect::<Vec<_>>();
    assert_eq!(begun.len(), 2, "{outcome}");
    assert!(!begun.iter().any(|line| line.contains(&format!("{gone:?}"))), "{outcome}");
    assert_eq!(below(&queue.node.folder().with_file_name(gone)), [""; 0].map(PathBuf::from));
}

#[test]
fn what_waits_when_the_daemon_is_told_to_end_is_neither_begun_nor_a_failure() {
    let queue = Queue::new(917, 3);
    let lock = hold(&queue.node);
    let daemon = queue.start();
    let outcome = daemon.stop();
    drop(lock);
    let lines = |message: &str| {
        let message = format!("\"message\":{message:?}");
        outcome.stderr.lines().filter(|line| line.contains(&message)).collect::<Vec<_>>()
    };
    assert_eq!(lines("backup begun").len(), 1, "{outcome}");
    // As a control: the one that was under way is told of.
    let failed = lines("there is no new backup set");
    assert_eq!(failed.len(), 1, "{outcome}");
    assert!(failed[0].contains(&format!("{:?}", queue.node.name())), "{outcome}");
    for other in 0..3 {
        assert!(queue.files(other).is_empty(), "{:?}", queue.files(other));
    }
}
