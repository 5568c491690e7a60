//! The command line as clap types.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::backup::set::SetId;
use crate::config::Period;

/// Keeps a Canton Network validator recoverable.
#[derive(Debug, Parser)]
#[command(name = "idkeep", version, about, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(
        long,
        env = "IDKEEP_CONFIG",
        default_value = "/etc/idkeep/idkeep.yaml",
        value_name = "FILE",
        global = true,
        help_heading = "Global options"
    )]
    pub config: PathBuf,
    /// How log lines are written (to stderr).
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT", global = true, help_heading = "Global options")]
    pub log_format: LogFormat,
    /// Which log lines are written.
    #[arg(long, value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL", global = true, help_heading = "Global options")]
    pub log_level: LogLevel,
    /// How the result is written (to stdout).
    #[arg(short, long, value_enum, default_value_t = Output::Text, value_name = "FORMAT", global = true, help_heading = "Global options")]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Which log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How the result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people: tables on a terminal, plain lines elsewhere.
    Text,
    /// One JSON document.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole path on this machine, with synthetic keys and nothing else installed.
    Demo,
    /// Check the configuration; name every mistake with its place and fix.
    Check(Check),
    /// Bring the identities of the nodes into their stores, once.
    Sync(Sync),
    /// Take an ordered, sealed set of each node's databases.
    Backup(Backup),
    /// List the identities in the stores and the backup sets in the repositories.
    List(List),
    /// Check backup sets as they are stored; with the private age key also what is inside.
    Verify(Verify),
    /// Remove the backup sets that retention does not keep.
    Expire(Expire),
    /// Run as a daemon: each task at its time, with health and metrics over HTTP.
    Run,
    /// Print the least rights that this configuration needs.
    Policy(Policy),
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Print shell completions.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Do not look whether referenced files and variables exist: for CI.
    #[arg(long, conflicts_with = "live")]
    pub offline: bool,
    /// Try each token, node and store without changing anything.
    #[arg(long)]
    pub live: bool,
}

/// `sync`.
#[derive(Debug, Args)]
pub struct Sync {
    /// The nodes; all of them where none is named.
    #[arg(value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Wait this long for each node to be ready: for init containers and Jobs.
    #[arg(long, value_name = "DURATION", value_parser = Period::from_str)]
    pub wait: Option<Period>,
    /// Fetch and judge, write nothing, say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Let another participant (this one, if an id is given) follow the stored one.
    #[arg(long, value_name = "ID", num_args = 0..=1, require_equals = true)]
    pub accept_new_identity: Option<Option<String>>,
}

/// `backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// The nodes; all that have backups where none is named.
    #[arg(value_name = "NODE")]
    pub nodes: Vec<String>,
}

/// `list`.
#[derive(Debug, Args)]
pub struct List {
    /// The node; all of them where none is named.
    #[arg(value_name = "NODE")]
    pub node: Option<String>,
}

/// `verify`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Verify {
    /// The node; all that have backups where none is named.
    #[arg(value_name = "NODE")]
    pub node: Option<String>,
    /// This set.
    #[arg(long, value_name = "ID", value_parser = SetId::from_str, conflicts_with_all = ["latest", "all"], requires = "node")]
    pub set: Option<SetId>,
    /// The newest set (the default).
    #[arg(long, conflicts_with = "all")]
    pub latest: bool,
    /// Every set.
    #[arg(long)]
    pub all: bool,
    /// A private key that the sets are sealed to (an age key file, or an SSH key): looks inside, too.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// `expire`.
#[derive(Debug, Args)]
pub struct Expire {
    /// The node; all that have backups where none is named.
    #[arg(value_name = "NODE")]
    pub node: Option<String>,
    /// Say of each set what would become of it, and why; remove nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Remove even more than a quarter of the sets.
    #[arg(long)]
    pub yes: bool,
}

/// `policy`.
#[derive(Debug, Args)]
pub struct Policy {
    /// The system that enforces the rights.
    #[arg(value_enum)]
    pub system: System,
    /// Whose rights.
    #[arg(long, value_enum, default_value_t = Role::Writer)]
    pub role: Role,
}

/// A system that enforces rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// HashiCorp Vault or `OpenBao`: a policy.
    Vault,
    /// Google Secret Manager: `gcloud` commands.
    Gcp,
    /// AWS Secrets Manager: an IAM policy.
    Aws,
    /// Azure Key Vault: a role and its assignments.
    Azure,
    /// Kubernetes: a Role and its binding.
    Kubernetes,
    /// `PostgreSQL`: SQL for `psql`.
    Postgres,
    /// S3 and what speaks like it: an IAM policy.
    S3,
    /// Google Cloud Storage: `gcloud` commands.
    Gs,
    /// Azure Blob Storage: a role and its assignments.
    Az,
}

/// Whose rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The agent: adds versions and sets, reads no identities, removes nothing.
    Writer,
    /// Whoever runs `expire`: removes old sets. For `s3`, `gs`, `az`.
    Expirer,
    /// The operator who restores: reads.
    Restorer,
}
