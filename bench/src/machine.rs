//! What the numbers were taken on.

use std::fmt;

use serde_json::{Value, json};
use sinew_tests::process;

/// Description of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    iperf3: String,
}

impl Machine {
    /// This machine, as far as it tells.
    pub(crate) fn read() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let version = process::run(process::command("iperf3").arg("--version"), crate::stage::COMMAND);
        Self {
            cpu: field(&file("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field(&file("/proc/meminfo"), "MemTotal").and_then(|text| kib(&text)).unwrap_or(0)
                / 1024,
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
            iperf3: version
                .ok()
                .and_then(|out| Some(out.stdout.lines().next()?.to_owned()))
                .unwrap_or_default(),
        }
    }

    /// For the JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu, "cores": self.cores, "memory_mib": self.memory_mib,
            "kernel": self.kernel, "iperf3": self.iperf3,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_mib, kernel, iperf3 } = self;
        write!(f, "Machine: {cpu}, {cores} cores, {memory_mib} MiB, Linux {kernel}; {iperf3}")
    }
}

/// Value of the first `name : value` line.
fn field(text: &str, name: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

fn kib(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_files_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: A CPU: fast\nmodel name\t: B\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A CPU: fast"));
        assert_eq!(field(text, "absent"), None);
        assert_eq!(kib("1024 kB"), Some(1024));
    }
}
