//! Rules of a command that runs another in a container. What stands in it is never said: it may hold a secret.

use super::super::document::Findings;

/// One command; `is_dump` where bytes come through it.
pub(super) fn judge(exec: &[String], path: &str, is_dump: bool, findings: &mut Findings) {
    if exec.iter().any(|word| word.contains("PGPASSWORD") || word.contains("PGPASSFILE")) {
        let message =
            "a secret is never written in the file, nor in a command, where every user of the machine sees it";
        findings.mistake(path, message, "take it out, and let the container's socket trust the user");
        return;
    }
    let name = |word: &String| word.rsplit('/').next().unwrap_or_default().to_owned();
    let Some(tool) = exec.iter().map(name).find_map(|word| Tool::of(&word)) else { return };
    if is_dump && let Some((message, fix)) = tool.mistake(exec) {
        findings.mistake(path, message, fix);
    }
    findings.warning(
        path,
        tool.danger(),
        "prefer a connection of its own (`url`) with the role that `idkeep policy postgres` prints",
    );
}

/// What runs commands in containers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Docker,
    Kubernetes,
}

impl Tool {
    fn of(word: &str) -> Option<Self> {
        match word {
            "docker" | "docker-compose" | "podman" | "nerdctl" => Some(Self::Docker),
            "kubectl" | "oc" => Some(Self::Kubernetes),
            _ => None,
        }
    }

    fn danger(self) -> &'static str {
        match self {
            Self::Docker => {
                "whoever may use a container engine's socket is root on its machine, and so is idkeep with this"
            }
            Self::Kubernetes => {
                "whoever may exec into a pod (`pods/exec`) has every secret of that pod, and so has idkeep with this"
            }
        }
    }

    /// What would keep `psql` from being asked, or change the bytes of a dump.
    fn mistake(self, exec: &[String]) -> Option<(&'static str, &'static str)> {
        let has = |short: char, long: &str| {
            exec.iter().any(|word| {
                let letters = word.strip_prefix('-').filter(|letters| !letters.starts_with('-')).unwrap_or_default();
                word == long || (letters.contains(short) && letters.chars().all(|c| matches!(c, 'i' | 't' | 'T')))
            })
        };
        let is_compose = exec.iter().any(|word| word == "compose" || word.ends_with("docker-compose"));
        if has('t', "--tty") {
            Some(("a terminal (`-t`) changes the bytes of a dump", "take it out"))
        } else if is_compose && !has('T', "--no-TTY") {
            Some(("`compose exec` gives a terminal, which changes the bytes of a dump", "add `-T` after `exec`"))
        } else if !is_compose && !has('i', "--interactive") && !has('i', "--stdin") {
            Some(("without `-i` nothing can be asked inside the container", "add `-i` after `exec`"))
        } else if self == Self::Kubernetes && exec.last().is_none_or(|word| word != "--") {
            Some(("kubectl takes the options of what it is to run for its own", "end the list with `--`"))
        } else {
            None
        }
    }
}
