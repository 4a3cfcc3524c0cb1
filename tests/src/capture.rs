//! The eavesdropper on a link: everything that crossed it, searched for what must not be there.
//!
//! dumpcap records, tshark dissects, and the raw bytes are scanned for given strings as well, so
//! that nothing depends on a dissector's guess.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::impair::wan::send_frame;
use crate::ns::{Namespace, command_in, enter};
use crate::process::{self, Proc};
use crate::wait;

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    proc: Proc,
    file: PathBuf,
    netns: PathBuf,
    interface: String,
}

impl Capture {
    /// Starts to record everything on `interface` into `file`; returns when it is recording.
    pub fn start(ns: &Namespace, interface: &str, file: &Path) -> Result<Self> {
        Self::start_in(&ns.path(), interface, file)
    }

    /// As [`Capture::start`], in the namespace that the path `netns` opens.
    pub fn start_in(netns: &Path, interface: &str, file: &Path) -> Result<Self> {
        let _ = std::fs::remove_file(file);
        let log = file.with_extension("log");
        let mut command = command_in(netns, "dumpcap");
        command.args(["-q", "-P", "-B", "64", "-i", interface, "-w"]).arg(file);
        let proc = Proc::spawn(&mut command, &log)?;
        // The pcap header is written once the socket is open.
        wait::until(&format!("a capture on {interface}"), Duration::from_secs(10), || {
            std::fs::metadata(file).is_ok_and(|meta| meta.len() > 0) && proc.log().contains("File:")
        })?;
        Ok(Self { proc, file: file.to_owned(), netns: netns.to_owned(), interface: interface.to_owned() })
    }

    /// Whether what was recorded up to now holds `pattern` (8 bytes or more).
    pub fn holds(&self, pattern: &[u8]) -> Result<bool> {
        let mut file = File::open(&self.file).with_context(|| self.file.display().to_string())?;
        Ok(scan(&mut file, &[pattern])?[0] > 0)
    }

    /// Ends it; the file holds all packets.
    pub fn stop(mut self) -> Result<Pcap> {
        self.finish()?;
        self.proc.signal(Signal::SIGINT)?;
        self.proc.wait(Duration::from_secs(20))?;
        let log = self.proc.log();
        Ok(Pcap { path: self.file.clone(), dropped: dropped(&log) })
    }
}

impl Capture {
    /// The kernel hands packets over in blocks, and the last one is lost with the signal: all of a short record.
    /// So a last frame is sent, of a kind that nobody knows (IEEE 802, local experiments), and waited for.
    fn finish(&self) -> Result<()> {
        let mark = format!("end of the record {}", self.file.display());
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        frame.extend(mark.as_bytes());
        // Where there are no frames, or no interface any more, callers wait for what they look for.
        if enter(&self.netns, || send_frame(&self.interface, &frame))?.unwrap_or(false) {
            wait::until("the record's end", Duration::from_secs(10), || {
                self.holds(mark.as_bytes()).unwrap_or(false)
            })?;
        }
        Ok(())
    }
}

/// dumpcap closes with "Packets received/dropped on interface 'x': 10/2 (…)".
fn dropped(log: &str) -> u64 {
    let line = log.lines().find(|line| line.contains("received/dropped")).unwrap_or_default();
    let counts = line.rsplit("': ").next().unwrap_or_default();
    let number = counts.split('/').nth(1).unwrap_or_default().split(' ').next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

/// A finished capture.
#[derive(Debug)]
pub struct Pcap {
    /// The file.
    pub path: PathBuf,
    /// Packets that the recorder missed.
    pub dropped: u64,
}

impl Pcap {
    /// Number of packets that a tshark display filter selects.
    pub fn count(&self, filter: &str) -> Result<usize> {
        Ok(self.fields(filter, &["frame.number"])?.len())
    }

    /// The fields of the packets that a display filter selects, one row a packet.
    pub fn fields(&self, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
        let mut command = process::command("tshark");
        command.args(["-n", "-r"]).arg(&self.path).args(["-Y", filter, "-T", "fields"]);
        for field in fields {
            command.args(["-e", field]);
        }
        let text = process::run_ok(&mut command, Duration::from_secs(300))?;
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// UDP payloads that a display filter selects.
    pub fn udp_payloads(&self, filter: &str) -> Result<Vec<Vec<u8>>> {
        let rows = self.fields(filter, &["udp.payload"])?;
        rows.iter().filter_map(|row| row.first()).map(|text| hex(text)).collect()
    }

    /// How often each of `patterns` occurs anywhere in the file.
    pub fn scan(&self, patterns: &[&[u8]]) -> Result<Vec<usize>> {
        let mut file = File::open(&self.path).with_context(|| self.path.display().to_string())?;
        scan(&mut file, patterns)
    }
}

fn hex(text: &str) -> Result<Vec<u8>> {
    let digits = text.replace(':', "");
    let bytes = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).context("hexadecimal is ASCII")?;
        u8::from_str_radix(pair, 16).with_context(|| format!("not hexadecimal: {pair}"))
    });
    bytes.collect()
}

/// Counts occurrences of each pattern (8 bytes or more) in a stream of any length.
pub fn scan(source: &mut impl Read, patterns: &[&[u8]]) -> Result<Vec<usize>> {
    let Some(longest) = patterns.iter().map(|pattern| pattern.len()).max() else {
        return Ok(Vec::new());
    };
    if patterns.iter().any(|pattern| pattern.len() < 8) {
        bail!("a pattern under 8 bytes would be found in noise");
    }
    let mut counts = vec![0; patterns.len()];
    let mut first = [false; 256];
    for pattern in patterns {
        first[usize::from(pattern[0])] = true;
    }
    let mut buffer = vec![0; 1 << 20];
    let mut held = 0;
    loop {
        let read = source.read(&mut buffer[held..])?;
        let filled = held + read;
        // A match may start only where the longest pattern still fits, but at the very end.
        let starts = if read == 0 { filled } else { filled.saturating_sub(longest - 1) };
        for at in (0..starts).filter(|&at| first[usize::from(buffer[at])]) {
            for (count, pattern) in counts.iter_mut().zip(patterns) {
                *count += usize::from(buffer[at..filled].starts_with(pattern));
            }
        }
        if read == 0 {
            return Ok(counts);
        }
        buffer.copy_within(starts..filled, 0);
        held = filled - starts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte a call, so that every pattern straddles two reads.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let (Some((&byte, rest)), Some(slot)) = (self.0.split_first(), buffer.first_mut()) else {
                return Ok(0);
            };
            (*slot, self.0) = (byte, rest);
            Ok(1)
        }
    }

    #[test]
    fn patterns_are_found_across_reads_and_at_both_ends() {
        let text = b"SINEWPAY....SINEWPAY..abcdefghijSINEWPAY";
        let patterns: [&[u8]; 3] = [b"SINEWPAY", b"abcdefghij", b"not there"];
        assert_eq!(scan(&mut Drip(text), &patterns).unwrap(), [3, 1, 0]);
        assert_eq!(scan(&mut &text[..], &patterns).unwrap(), [3, 1, 0]);
    }

    #[test]
    fn short_patterns_are_refused() {
        assert!(scan(&mut &b"abc"[..], &[b"abc"]).is_err());
    }

    #[test]
    fn the_closing_line_of_the_recorder_is_read() {
        let log =
            "Packets captured: 8\nPackets received/dropped on interface 'to-b': 8/3 (pcap:3/dumpcap:0)\n";
        assert_eq!((dropped(log), dropped("")), (3, 0));
    }
}
