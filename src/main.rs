//! The program: hardens itself, parses, runs one command, exits with its code.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use idkeep::cli::Cli;
use idkeep::command::{self, Done};
use idkeep::error::{Failed, Fault};
use idkeep::{harden, log};
use zeroizing_alloc::ZeroAlloc;

/// Wipes what libraries free: TLS and HTTP buffers hold copies that no care of ours reaches.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    log::quiet_panics();
    if let Err(error) = harden::first() {
        return end(&Done::from(&error));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    log::start(cli.log_format, cli.log_level);
    let done = std::panic::catch_unwind(|| command::run(&cli)).unwrap_or_else(|_| Done::failed(Failed::bug()));
    end(&done)
}

/// Prints the result to stdout and the failures to stderr.
fn end(done: &Done) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let printed = stdout.write_all(done.stdout.as_bytes()).and_then(|()| stdout.flush());
    log::failures(&done.failures);
    match printed {
        // A reader that went away has what it wanted; a full disk has swallowed the report.
        Err(error) if error.kind() != ErrorKind::BrokenPipe && done.exit_code == 0 => {
            let unreported = Failed::new(
                Fault::Transient,
                "the work is done, but its report could not be written to stdout",
                "make room",
            );
            log::failures(&[(String::new(), unreported)]);
            ExitCode::from(Fault::Transient.exit_code())
        }
        _ => ExitCode::from(done.exit_code),
    }
}
