//! What a failure means: for a retry, for the exit code, for the operator.

use std::time::Duration;

/// Who has to act on a failure. Each maps to one exit code (sysexits where they fit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Busy, down or starting: the same call may work later (75).
    Transient,
    /// The dump is not usable, or not the identity that is expected (65).
    Identity,
    /// A backup set fails its checks (2).
    Inconsistent,
    /// A check could not be decided (3).
    Undecided,
    /// Credentials were refused, or allow more than they should (77).
    Credentials,
    /// The configuration, or what the other side shows to be misconfigured (78).
    Config,
    /// The command line (64).
    Usage,
    /// A mistake of idkeep itself (70).
    Bug,
}

impl Fault {
    /// The process's exit code for this fault.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Inconsistent => 2,
            Self::Undecided => 3,
            Self::Usage => 64,
            Self::Identity => 65,
            Self::Bug => 70,
            Self::Transient => 75,
            Self::Credentials => 77,
            Self::Config => 78,
        }
    }

    /// What it is about, in a few words of a fixed list.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Transient => "try again later (75)",
            Self::Identity => "the identities are not usable (65)",
            Self::Inconsistent => "a backup set fails its checks (2)",
            Self::Undecided => "a check could not be decided (3)",
            Self::Credentials => "credentials are refused (77)",
            Self::Config => "the configuration does not fit (78)",
            Self::Usage => "the command line is wrong (64)",
            Self::Bug => "a mistake of idkeep itself (70)",
        }
    }

    /// Larger is graver: 70, 78, 77, 65, 2, 3, 75. Several failures exit with the gravest.
    #[must_use]
    pub const fn gravity(self) -> u8 {
        match self {
            Self::Usage => 8,
            Self::Bug => 7,
            Self::Config => 6,
            Self::Credentials => 5,
            Self::Identity => 4,
            Self::Inconsistent => 3,
            Self::Undecided => 2,
            Self::Transient => 1,
        }
    }
}

/// What every error of this crate can say about itself.
pub trait Failure: std::error::Error {
    /// Who has to act.
    fn fault(&self) -> Fault;

    /// How long the other side asked us to wait.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// True where the other side needs seconds rather than milliseconds to recover.
    fn is_slow(&self) -> bool {
        false
    }

    /// One sentence that tells the operator what to do.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// A failure that has reached its end: what to print and what to exit with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Who has to act.
    pub fault: Fault,
    /// The whole chain in one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failed {
    /// Takes what is public from an error.
    pub fn from(error: &impl Failure) -> Self {
        Self { fault: error.fault(), message: chain(error), hint: error.hint() }
    }

    /// A panic that was caught. Its message stays untold: it may quote data.
    #[must_use]
    pub fn bug() -> Self {
        let message = "idkeep made a mistake; what was stored before is untouched";
        Self::new(Fault::Bug, message, "please report it with the log")
    }

    /// A failure with a message of its own.
    pub fn new(fault: Fault, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { fault, message: message.into(), hint: Some(hint.into()) }
    }
}

/// The error and its sources, joined by `: `, a source that the message already ends with left out.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn the_gravest_comes_first() {
        let mut faults = [
            Fault::Transient,
            Fault::Undecided,
            Fault::Identity,
            Fault::Config,
            Fault::Inconsistent,
            Fault::Bug,
            Fault::Credentials,
        ];
        faults.sort_by_key(|fault| std::cmp::Reverse(fault.gravity()));
        let codes: Vec<u8> = faults.iter().map(|fault| fault.exit_code()).collect();
        assert_eq!(codes, [70, 78, 77, 65, 2, 3, 75]);
    }
}
