//! The images of the `Dockerfile`, built and run.
//!
//! No registry is asked. In the place of the stage `compile` stands the tests' own program; in that of `postgresql`,
//! which installs packages, the machine's `/usr`; in that of the base, a root with nothing but a C library. Every other
//! instruction is the file's own.

mod compose;
mod contents;
mod context;
mod running;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::parts::tool;
use crate::support::podman::{Podman, said};
use crate::support::postgres::packaged;

const NAME: &str = "localhost/idkeep:1";
const BASE: &str = "localhost/base:1";

/// What the Dockerfile's `USER` is, and what the files of a run have to belong to.
pub const USER: u32 = 65532;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One target of the Dockerfile, built.
pub struct Image {
    pub podman: Podman,
}

impl Image {
    pub fn build(target: &str) -> Self {
        let podman = Podman::new();
        podman.import(&base(&podman), BASE);
        podman.import_machine("localhost/machine:1");
        let compiled = compiled(&podman);
        let mut build = podman.command(&["build", "--pull=never", "-q", "--target", target, "-t", NAME]);
        build.arg("--build-arg").arg(format!("BASE={BASE}"));
        build.arg("--build-arg").arg(format!("POSTGRES_MAJOR={}", packaged()));
        build.arg("--build-context").arg(format!("compile={}", compiled.display()));
        build.args(["--build-context", "postgresql=container-image://localhost/machine:1", "-v", "/usr:/usr:ro"]);
        said(build.arg("-f").arg(root().join("Dockerfile")).arg(root()));
        Self { podman }
    }

    /// Confined as the compose file does it, on the machine's own network. The folder, with its configuration and its
    /// secrets, belongs to the image's user from here on.
    pub fn run(&self, name: &str, folder: &Path, options: &[&str], arguments: &[&str]) -> Command {
        said(Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(folder));
        let mut run = self.podman.command(&["run", "--name", name, "--network", "host", "--read-only"]);
        run.args([
            "--read-only-tmpfs=false",
            "--tmpfs",
            "/tmp:mode=1777,size=16m,noexec,nosuid,nodev",
            "--cap-drop",
            "ALL",
        ]);
        run.args(["--security-opt", "no-new-privileges"]).arg("-v").arg(format!("{0}:{0}", folder.display()));
        run.arg("-e").arg(format!("IDKEEP_CONFIG={}", folder.join("idkeep.yaml").display()));
        run.args(options).arg(NAME).args(arguments);
        run
    }

    /// Every path in a target's image, as `drwx------ 65532/65532 var/lib/idkeep/`.
    pub fn listing(&self, image: &str) -> Vec<String> {
        let (name, tar) = (format!("listed-{}", image.len()), self.podman.path("listed.tar"));
        self.podman.must(&["create", "--name", &name, image, "x"]);
        said(self.podman.command(&["export", "-o"]).arg(&tar).arg(&name));
        let listed = said(Command::new(tool("tar")).args(["--numeric-owner", "-tvf"]).arg(&tar));
        let line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[5..].join(" "))
        };
        listed.lines().map(line).collect()
    }
}

/// A root with the C library and the accounts of `distroless/cc:nonroot`: less than the real one has.
fn base(podman: &Podman) -> PathBuf {
    let root = podman.path("base");
    for name in ["usr/lib64", "usr/bin", "etc/ssl/certs", "tmp", "proc", "sys", "dev", "run", "var/lib", "home/nonroot"]
    {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name)).unwrap();
    }
    let listed = said(Command::new("dpkg").args(["-L", "libc6", "libgcc-s1"]));
    let is_library = |path: &&str| path.contains(".so") && !path.contains("/gconv/") && Path::new(path).is_file();
    for file in listed.lines().filter(is_library).filter(|path| path.contains("/lib")) {
        let to = root.join(format!("usr/{}", file.trim_start_matches("/usr").trim_start_matches('/')));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(file, to).unwrap();
    }
    let accounts = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n";
    std::fs::write(root.join("etc/passwd"), accounts).unwrap();
    std::fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n").unwrap();
    std::fs::copy("/etc/ssl/certs/ca-certificates.crt", root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    root
}

/// What the stage `compile` leaves in `/out`.
fn compiled(podman: &Podman) -> PathBuf {
    let folder = podman.path("compiled");
    let state = folder.join("out/state/idkeep");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    said(Command::new(tool("strip")).arg(env!("CARGO_BIN_EXE_idkeep")).arg("-o").arg(folder.join("out/idkeep")));
    folder
}
