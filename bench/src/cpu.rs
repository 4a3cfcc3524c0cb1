//! Whose CPU time went where.
//!
//! The kernel counts ticks (10 ms) for each process, all threads together, and for the whole
//! machine, interrupts included. A process that is neither ours nor a kernel thread is
//! *foreign*: a build next door, a cron job. What is left of the machine's time is the
//! benchmark's own: daemons, iperf3, and the kernel's work on their packets. Time of a child
//! moves to its parent when it is reaped, so sums over a tree lose nothing.

use std::collections::BTreeMap;

/// Ticks a second; the kernel's user interface has had no other value on any current platform.
const TICKS: f64 = 100.0;

/// CPU seconds since boot, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// All cores, without idle and steal.
    busy: f64,
    /// Taken by the hypervisor for others.
    stolen: f64,
    /// All processes that are neither descendants of this one nor kernel threads.
    foreign: f64,
    /// Each process, its threads included, without its children.
    processes: BTreeMap<u32, f64>,
}

/// CPU seconds between two snapshots.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    /// The benchmark and the kernel's work for it.
    pub(crate) own: f64,
    /// Everybody else on this machine, and on its host.
    pub(crate) foreign: f64,
    processes: BTreeMap<u32, f64>,
}

impl Snapshot {
    /// Now.
    pub(crate) fn take() -> Self {
        let table = processes();
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let (busy, stolen) = machine(&stat).unwrap_or_default();
        let foreign = table
            .iter()
            .filter(|(pid, _)| !is_ours(&table, **pid, std::process::id()))
            .map(|(_, process)| process.own + process.children)
            .sum();
        Self { busy, stolen, foreign, processes: table.iter().map(|(pid, p)| (*pid, p.own)).collect() }
    }

    /// From this snapshot until now.
    pub(crate) fn until_now(&self) -> Spent {
        self.until(&Self::take())
    }

    fn until(&self, later: &Self) -> Spent {
        let here = (later.foreign - self.foreign).max(0.0);
        let elsewhere = (later.stolen - self.stolen).max(0.0);
        let before = |pid| self.processes.get(pid).copied().unwrap_or(0.0);
        Spent {
            own: (later.busy - self.busy - here).max(0.0),
            foreign: here + elsewhere,
            processes: later.processes.iter().map(|(pid, time)| (*pid, time - before(pid))).collect(),
        }
    }
}

impl Spent {
    /// Of one process.
    pub(crate) fn of(&self, pid: u32) -> f64 {
        self.processes.get(&pid).copied().unwrap_or(0.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Process {
    parent: u32,
    own: f64,
    children: f64,
}

fn processes() -> BTreeMap<u32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let read = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parse(&text)?))
    };
    pids.filter_map(read).collect()
}

/// Reads `/proc/PID/stat`; the name in brackets may itself hold brackets and spaces.
fn parse(text: &str) -> Option<Process> {
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // Counted from the state, which is field 3 of proc(5).
    let seconds = |field: usize| Some(fields.get(field - 3)?.parse::<f64>().ok()? / TICKS);
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        own: seconds(14)? + seconds(15)?,
        children: seconds(16)? + seconds(17)?,
    })
}

/// A descendant of `root`, or a kernel thread (a child of process 2).
fn is_ours(table: &BTreeMap<u32, Process>, pid: u32, root: u32) -> bool {
    let mut at = pid;
    // Bounded: process ids may be reused while the table is read.
    for _ in 0..64 {
        if at == root || at == 2 {
            return true;
        }
        match table.get(&at) {
            Some(process) if process.parent != 0 => at = process.parent,
            _ => return false,
        }
    }
    false
}

/// Busy and stolen seconds of the first line of `/proc/stat`.
fn machine(text: &str) -> Option<(f64, f64)> {
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy = [0, 1, 2, 5, 6].iter().map(|&at| ticks.get(at).copied()).sum::<Option<f64>>()?;
    Some((busy / TICKS, ticks.get(7).copied().unwrap_or(0.0) / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_any_name() {
        let text = "42 (a) b (c) S 7 1 1 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 9 0 1 2 3";
        assert_eq!(parse(text), Some(Process { parent: 7, own: 2.0, children: 0.5 }));
        assert_eq!(parse("42 (cut"), None);
    }

    #[test]
    fn idle_and_stolen_time_is_not_busy() {
        let text = "cpu  100 100 100 9999 9999 50 50 200 0 0\ncpu0 1 1 1 1\n";
        assert_eq!(machine(text), Some((4.0, 2.0)));
    }

    #[test]
    fn descendants_and_kernel_threads_are_ours() {
        let process = |parent| Process { parent, own: 0.0, children: 0.0 };
        let table: BTreeMap<_, _> = [(1, 0), (2, 0), (3, 2), (10, 1), (11, 10), (12, 11), (20, 1)]
            .map(|(p, q)| (p, process(q)))
            .into();
        let ours = |pid| is_ours(&table, pid, 10);
        assert!(ours(10) && ours(12) && ours(3));
        assert!(!ours(1) && !ours(20));
    }

    #[test]
    fn what_is_neither_foreign_nor_idle_is_ours() {
        let at = |busy, foreign, own| Snapshot { busy, stolen: 0.0, foreign, processes: [(7, own)].into() };
        let spent = at(10.0, 3.0, 1.0).until(&at(20.0, 5.0, 4.0));
        assert_eq!((spent.own, spent.foreign, spent.of(7), spent.of(8)), (8.0, 2.0, 3.0, 0.0));
    }
}
