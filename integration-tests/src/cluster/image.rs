//! The image that the pods run: the test workload, with the libraries that it is linked with.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use super::IMAGE;
use crate::folder::Folder;
use crate::writ::{Answer, test_workload};

/// Writes the image as `docker save` would, and says where.
pub(super) fn of_test_workload(folder: &Folder) -> PathBuf {
    let program = folder.join("test-workload");
    // Debugging information is most of it, and would be copied three times.
    let mut strip = Command::new("strip");
    let _ = Answer::of(strip.arg("--strip-debug").arg("-o").arg(&program).arg(test_workload())).done();
    let mut layer = tar::Builder::new(Vec::new());
    put(&mut layer, &program, "test-workload");
    for library in libraries(&program) {
        put(&mut layer, &library, library.strip_prefix("/").expect("ldd prints absolute paths"));
    }
    let layer = layer.into_inner().expect("memory takes everything");
    let hash: String = digest(&SHA256, &layer).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Entrypoint": ["/test-workload"], "Cmd": ["pause"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{hash}")] },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
    let path = folder.join("image.tar");
    let mut archive = tar::Builder::new(File::create(&path).expect("the folder is ours"));
    for (name, content) in [
        ("manifest.json", manifest.to_string().into_bytes()),
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_slice()).expect("the folder is ours");
    }
    archive.finish().expect("the folder is ours");
    path
}

fn put(layer: &mut tar::Builder<Vec<u8>>, file: &Path, name: impl AsRef<Path>) {
    let mut content = File::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    layer.append_file(name, &mut content).expect("memory takes everything");
}

/// What `ldd` finds, the loader among it.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Answer::of(Command::new("ldd").arg(program)).done().out;
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(PathBuf::from).collect()
}
