//! What is in an image, and what is not.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{BASE, Image, NAME};

/// What a target adds to its base.
fn added(image: &Image) -> BTreeSet<String> {
    let base: BTreeSet<_> = image.listing(BASE).into_iter().collect();
    image.listing(NAME).into_iter().filter(|line| !base.contains(line)).collect()
}

fn settings(image: &Image) -> Value {
    let inspected: Value = serde_json::from_str(&image.podman.must(&["image", "inspect", NAME])).unwrap();
    inspected[0]["Config"].clone()
}

#[test]
fn the_image_is_the_program_and_a_folder_of_its_own() {
    let image = Image::build("idkeep");
    let added = added(&image);
    let is_parent = |line: &String| line.starts_with('d') && !line.contains("idkeep");
    let added: Vec<_> = added.into_iter().filter(|line| !is_parent(line)).collect();
    assert_eq!(added, ["-rwxr-xr-x 0/0 usr/local/bin/idkeep", "drwx------ 65532/65532 var/lib/idkeep/"]);
    let settings = settings(&image);
    assert_eq!(settings["User"], "65532:65532");
    assert_eq!(settings["Entrypoint"], serde_json::json!(["/usr/local/bin/idkeep"]));
    assert_eq!(settings["Labels"]["org.opencontainers.image.title"], "idkeep");
    assert_eq!(settings["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");
}

#[test]
fn the_image_for_backups_has_two_programs_more_and_their_libraries() {
    let image = Image::build("postgres");
    let added = added(&image);
    let files = added.iter().filter(|line| line.starts_with('-')).map(|line| line.rsplit(' ').next().unwrap());
    let (libraries, programs): (Vec<&str>, Vec<&str>) = files.partition(|path| path.contains(".so"));
    assert_eq!(programs, ["usr/bin/pg_dump", "usr/bin/psql", "usr/local/bin/idkeep"]);
    assert!(libraries.iter().any(|path| path.contains("/libpq.so")), "{libraries:?}");
    assert!(libraries.iter().all(|path| path.starts_with("usr/lib/") && !path.contains("/libc.so")), "{libraries:?}");
    assert_eq!(settings(&image)["User"], "65532:65532");
    assert_eq!(settings(&image)["Labels"]["org.opencontainers.image.title"], "idkeep-postgres");
}
