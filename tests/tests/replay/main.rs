//! Every committed fuzz input through its target, without libFuzzer.
//!
//! Each input is replayed as it stands, at every shorter length, and with every single bit
//! flipped: the neighbourhood of a valid message is where decoders go wrong. Finding new inputs
//! is the fuzzer's work (`fuzz/`); this keeps what it found from coming back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use sinew_tests::requirements::workspace_root;

/// The fuzz targets, each as a function; see `build.rs`.
#[allow(clippy::all, unused, missing_docs, unreachable_pub)]
mod targets {
    macro_rules! fuzz_target {
        (|$bytes:ident: &[u8]| $body:block) => {
            pub(crate) fn run($bytes: &[u8]) {
                $body
            }
        };
    }
    pub(crate) use fuzz_target;
    include!(concat!(env!("OUT_DIR"), "/targets.rs"));
}

/// Bits beyond this many bytes are not flipped one by one.
const FLIP_BYTES: usize = 512;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = workspace_root().join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes)
    };
    files.into_iter().map(read).collect()
}

/// The input, its front parts, and its one-bit neighbours.
fn neighbourhood(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let fronts = (0..=bytes.len()).map(|length| bytes[..length].to_vec());
    let flips = (0..bytes.len().min(FLIP_BYTES) * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    fronts.chain(flips)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn no_committed_input_or_neighbour_of_one_breaks_a_decoder() {
    assert!(!targets::TARGETS.is_empty(), "no fuzz target was found");
    let (mut files, mut runs) = (0, 0);
    for (name, target) in targets::TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "target `{name}` has no corpus");
        for (file, bytes) in &inputs {
            for input in neighbourhood(bytes) {
                let result = catch_unwind(AssertUnwindSafe(|| target(&input)));
                assert!(result.is_ok(), "fuzz/corpus/{name}/{file} breaks it as {}", hex(&input));
                runs += 1;
            }
            files += 1;
        }
    }
    eprintln!("{files} files, {runs} inputs, {} targets", targets::TARGETS.len());
}

#[test]
fn every_corpus_folder_has_its_target() {
    let folders = std::fs::read_dir(workspace_root().join("fuzz/corpus")).expect("fuzz/corpus is committed");
    for entry in folders.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(
            targets::TARGETS.iter().any(|(target, _)| *target == name),
            "fuzz/corpus/{name} has no target"
        );
    }
}
