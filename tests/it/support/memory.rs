//! Looks for secrets in another process's memory, in every form in which one may lie about.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem::Finder;

/// Read at a time; the overlap of two reads is the longest needle.
const CHUNK: usize = 4 << 20;

/// A needle with the name that a failing test prints instead of it.
pub type Needle<'a> = (&'a str, Vec<u8>);

/// A needle found.
#[derive(Debug, PartialEq, Eq)]
pub struct Hit {
    pub needle: String,
    pub address: u64,
    /// The region as `/proc/<pid>/maps` names it, such as `[heap]`.
    pub region: String,
}

/// Searches all readable memory of a process. Needs root, or the same user and a process that can be dumped.
pub fn scan(pid: u32, needles: &[Needle]) -> Vec<Hit> {
    assert!(needles.iter().all(|(_, bytes)| bytes.len() >= 8), "a needle under 8 bytes is found by chance");
    let overlap = needles.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
    let finders: Vec<_> = needles.iter().map(|(name, bytes)| (*name, Finder::new(bytes))).collect();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap_or_else(|error| panic!("the memory of {pid}: {error}"));
    let mut buffer = vec![0; CHUNK + overlap];
    let mut hits = Vec::new();
    for region in regions(pid) {
        let mut at = region.start;
        while at < region.end {
            let end = region.end.min(at + CHUNK as u64);
            let wanted = usize::try_from(region.end.min(end + overlap as u64) - at).unwrap();
            let read = read_as_far_as_possible(&memory, &mut buffer[..wanted], at);
            for (name, finder) in &finders {
                for found in finder.find_iter(&buffer[..read]) {
                    let address = at + found as u64;
                    // What begins in the overlap is found again by the next read.
                    if address < end {
                        hits.push(Hit { needle: (*name).to_owned(), address, region: region.name.clone() });
                    }
                }
            }
            at = end;
        }
    }
    hits
}

/// Raw, hexadecimal, decimal list and base64 forms of a secret, the latter inside any longer text that was encoded.
pub fn forms(name: &str, secret: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![(format!("{name}, raw"), secret.to_vec())];
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    forms.push((format!("{name}, hex"), hex.clone().into_bytes()));
    forms.push((format!("{name}, HEX"), hex.to_uppercase().into_bytes()));
    let list: Vec<String> = secret.iter().map(u8::to_string).collect();
    forms.push((format!("{name}, as a list"), list.join(", ").into_bytes()));
    forms.push((format!("{name}, reversed"), secret.iter().rev().copied().collect()));
    for skip in 0..3 {
        // Whole groups of three bytes: their base64 depends on nothing around them.
        let inner = &secret[skip..];
        let inner = &inner[..inner.len() / 3 * 3];
        let standard = STANDARD_NO_PAD.encode(inner);
        let url_safe = URL_SAFE_NO_PAD.encode(inner);
        if url_safe != standard {
            forms.push((format!("{name}, base64url from byte {skip}"), url_safe.into_bytes()));
        }
        forms.push((format!("{name}, base64 from byte {skip}"), standard.into_bytes()));
    }
    forms.dedup_by(|a, b| a.1 == b.1);
    forms
}

/// [`scan`] for all [`forms`] of all secrets.
pub fn scan_for(pid: u32, secrets: &[(String, Vec<u8>)]) -> Vec<Hit> {
    let forms: Vec<_> = secrets.iter().flat_map(|(name, secret)| forms(name, secret)).collect();
    let needles: Vec<Needle> = forms.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    scan(pid, &needles)
}

struct Region {
    start: u64,
    end: u64,
    name: String,
}

fn regions(pid: u32) -> Vec<Region> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().filter_map(region).collect()
}

fn region(line: &str) -> Option<Region> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let rights = words.next()?;
    let name = words.nth(3).unwrap_or("anonymous").to_owned();
    // The kernel's own pages are not the process's, and cannot be read this way.
    if !rights.starts_with('r') || name == "[vvar]" || name == "[vvar_vclock]" || name == "[vsyscall]" {
        return None;
    }
    let parse = |text| u64::from_str_radix(text, 16).ok();
    Some(Region { start: parse(start)?, end: parse(end)?, name })
}

/// How much could be read: a mapped file that is shorter than its mapping ends early.
fn read_as_far_as_possible(memory: &File, buffer: &mut [u8], at: u64) -> usize {
    let mut read = 0;
    while read < buffer.len() {
        match memory.read_at(&mut buffer[read..], at + read as u64) {
            Ok(0) | Err(_) => break,
            Ok(more) => read += more,
        }
    }
    read
}
