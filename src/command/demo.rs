//! `demo`: the whole path on this machine, with synthetic keys and nothing else installed.

mod network;
mod synthetic;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Done, json, runtime};
use crate::cli::Output;
use crate::config;
use crate::error::{Failed, Fault};
use crate::harden;
use crate::receipt::Report;
use crate::store::judge::Accept;
use crate::sync::{Options, Pass};
use network::Network;

/// Shows the path and says what to do next.
#[must_use]
pub fn run(format: Output) -> Done {
    let folder = Folder(std::env::temp_dir().join(format!("idkeep-demo-{:08x}", fastrand::u32(..))));
    match show(&folder.0) {
        Ok((_, report)) if format == Output::Json => Done::printing(json(&report)),
        Ok((text, _)) => Done::printing(text),
        Err(failed) => Done::failed(failed),
    }
}

/// A folder that is gone when the demo is.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn show(folder: &Path) -> Result<(String, Report), Failed> {
    let started = Instant::now();
    let failed = |error: &io::Error| {
        Failed::new(
            Fault::Transient,
            format!("setting up the demo in {}: {error}", folder.display()),
            "set TMPDIR to a folder that can be written",
        )
    };
    fs::DirBuilder::new().mode(0o700).create(folder).map_err(|error| failed(&error))?;
    let memory = harden::lock_memory(config::LockMemory::Try).map_err(|error| Failed::from(&error))?;
    // The folder itself has to go at the end, so its parent stays writable.
    let files = harden::confine(&[std::env::temp_dir()]);
    let age_key = age::x25519::Identity::generate();
    let dump = synthetic::dump().ok_or_else(|| Failed::new(Fault::Bug, "making synthetic keys", "please report it"))?;
    let client_secret = network::random();
    write_private(&folder.join("client-secret"), &client_secret).map_err(|error| failed(&error))?;

    let mut text = String::new();
    let mut say = |line: &str| {
        let _ = writeln!(text, "{line}");
    };
    let report = runtime()?.block_on(async {
        let network = Network::start(dump.clone(), client_secret).await.map_err(|error| failed(&error))?;
        let written = configuration(&network, folder, &age_key.to_public().to_string());
        let path = folder.join("idkeep.yaml");
        write_private(&path, &written).map_err(|error| failed(&error))?;
        say("1  A validator and a token issuer, on this machine, with synthetic keys:");
        say(&format!("     issuer     {}", network.issuer));
        say(&format!("     validator  {}", network.endpoint));
        say("2  This configuration:\n");
        for line in written.lines() {
            say(&format!("     {line}"));
        }
        say("");
        say(&format!(
            "3  The process protects itself: no core dumps, memory {memory}, writing to other files: {files}"
        ));
        let config = config::load(&path).map_err(|error| Failed::from(&error))?;
        Ok(Pass::new(&config, &[]).run(Options { wait: None, dry_run: false, accept: Accept::Stored }).await)
    })?;
    tell(&report, &mut say)?;
    compare(folder, &age_key, &dump)?;
    say("5  Opened again with the age key (which idkeep never has): the same bytes.");
    say(&format!("   Done in {} ms. The synthetic keys and the folder are gone.", started.elapsed().as_millis()));
    text.push_str(NEXT);
    Ok((text, report))
}

const NEXT: &str = "
Next:
  write /etc/idkeep/idkeep.yaml     like the one above, with your issuer, your validator and a store (docs/examples/)
  idkeep check --live               names every mistake, then tries the token, the node and the store
  idkeep sync                       brings the identities into the store
";

fn tell(report: &Report, say: &mut impl FnMut(&str)) -> Result<(), Failed> {
    for node in &report.nodes {
        if let Some(failed) = &node.failed {
            return Err(failed.clone());
        }
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        say("4  One pass: token, identities, proof, seal, store. The receipt, with nothing secret in it:");
        say(&format!("     participant  {}", or_dash(&node.about.participant_id)));
        say(&format!("     digest       {}", or_dash(&node.about.digest)));
        say(&format!(
            "     keys         {} ({}), the namespace's key: {}",
            node.about.keys.unwrap_or_default(),
            node.about.key_kind.unwrap_or("-"),
            node.about.key_proof.unwrap_or("-")
        ));
        for store in &node.stores {
            say(&format!("     store        {}: {}, version {}", store.store, store.outcome, or_dash(&store.version)));
        }
    }
    Ok(())
}

fn configuration(network: &Network, folder: &Path, recipient: &str) -> String {
    let (issuer, endpoint, folder) = (&network.issuer, &network.endpoint, folder.display());
    format!(
        "\
nodes:
  demo:
    network: devnet
    party_hint: demo-validator-1
    identity:
      endpoint: {endpoint}
      allow_http: true
      auth:
        oauth2:
          issuer: {issuer}
          client_id: idkeep
          client_secret: {{file: {folder}/client-secret}}
          audience: {}
          allow_http: true
      stores: [local]
stores:
  local:
    file:
      path: {folder}/identities
      recipients: [{recipient}]
",
        network::AUDIENCE
    )
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// Opens the stored file as an operator would, and compares it with what the validator served.
fn compare(folder: &Path, key: &age::x25519::Identity, dump: &[u8]) -> Result<(), Failed> {
    let bug = |what: &str| Failed::new(Fault::Bug, format!("comparing the stored dump: {what}"), "please report it");
    let sealed = fs::read(folder.join("identities/demo/00000001.age")).map_err(|_| bug("it is not there"))?;
    let decryptor = age::Decryptor::new(&sealed[..]).map_err(|_| bug("it is not an age file"))?;
    let mut reader =
        decryptor.decrypt(std::iter::once(key as &dyn age::Identity)).map_err(|_| bug("it does not open"))?;
    let mut opened = Vec::with_capacity(dump.len() + 1);
    io::copy(&mut reader, &mut opened).map_err(|_| bug("it does not open to its end"))?;
    if opened == dump { Ok(()) } else { Err(bug("it is another")) }
}
