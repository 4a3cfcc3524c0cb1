//! What a process and its files hold, searched for what must not be there.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};

use crate::capture::scan;

/// How often each of `patterns` (8 bytes or more) occurs in the memory of a process, as it is now.
pub fn scan_process(pid: u32, patterns: &[&[u8]]) -> Result<Vec<usize>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut file = File::open(format!("/proc/{pid}/mem"))?;
    let mut counts = vec![0; patterns.len()];
    for line in maps.lines().filter(|line| is_data(line)) {
        let (start, end) = range(line).with_context(|| line.to_owned())?;
        file.seek(SeekFrom::Start(start))?;
        let mut region = Readable(Read::by_ref(&mut file).take(end - start));
        add(&mut counts, scan(&mut region, patterns)?);
    }
    Ok(counts)
}

/// How often each of `patterns` (8 bytes or more) occurs in the files below a folder.
pub fn scan_files(folder: &Path, patterns: &[&[u8]]) -> Result<Vec<usize>> {
    let mut counts = vec![0; patterns.len()];
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())?.flatten() {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            add(&mut counts, scan_files(&entry.path(), patterns)?);
        } else if kind.is_file() {
            add(&mut counts, scan(&mut File::open(entry.path())?, patterns)?);
        }
    }
    Ok(counts)
}

fn add(counts: &mut [usize], more: Vec<usize>) {
    counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
}

/// What a process can have written to: not its program, nor what the kernel lends it.
fn is_data(line: &str) -> bool {
    line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw")) && !line.ends_with("[vvar]")
}

fn range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// A piece of memory that ends where the process has given it back meanwhile.
struct Readable<R>(R);

impl<R: Read> Read for Readable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).or(Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_holds_is_found_and_what_it_does_not_is_not() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "held=$(printf '%s-%s' needle of-hay); read line"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let patterns: [&[u8]; 2] = [b"needle-of-hay", b"another-needle"];
        crate::wait::until("the shell holds it", std::time::Duration::from_secs(10), || {
            scan_process(child.id(), &patterns).is_ok_and(|found| found[0] > 0 && found[1] == 0)
        })
        .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn files_are_searched_in_all_folders() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("deep/file"), "..needle-of-hay..").unwrap();
        let found = scan_files(dir.path(), &[b"needle-of-hay", b"another-needle"]).unwrap();
        assert_eq!(found, [1, 0]);
    }
}
