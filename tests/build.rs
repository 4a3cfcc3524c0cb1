//! Makes the fuzz targets callable from an ordinary test.
//!
//! A target is a program around libFuzzer, which needs a sanitizer build. Its body is plain
//! Rust, so it is taken over as it stands, with `fuzz_target!` turned into a function: what is
//! replayed is what is fuzzed, and a new target is replayed without being listed anywhere.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let fuzz = Path::new("../fuzz").canonicalize().unwrap_or_else(|_| PathBuf::from("../fuzz"));
    println!("cargo::rerun-if-changed=../fuzz/src");
    println!("cargo::rerun-if-changed=../fuzz/fuzz_targets");
    let mut targets: Vec<PathBuf> = std::fs::read_dir(fuzz.join("fuzz_targets"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    targets.sort();
    let helpers = fuzz.join("src/lib.rs");
    let mut code = String::new();
    if helpers.exists() {
        let _ = writeln!(code, "#[path = {helpers:?}] mod sinew_fuzz;");
    }
    let mut table = String::from("pub(crate) const TARGETS: &[(&str, fn(&[u8]))] = &[\n");
    for path in &targets {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path)?;
        let body: String =
            text.lines().filter(|line| belongs(line)).map(|line| format!("{line}\n")).collect();
        let _ = write!(code, "mod target_{name} {{\nuse super::{{fuzz_target, sinew_fuzz}};\n{body}}}\n");
        let _ = writeln!(table, "    ({name:?}, target_{name}::run),");
    }
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    std::fs::write(out.join("targets.rs"), format!("{code}{table}];\n"))
}

/// Lines that make the file a program of its own stay behind.
fn belongs(line: &str) -> bool {
    !line.starts_with("#![") && !line.starts_with("//!") && !line.starts_with("use libfuzzer_sys::")
}
