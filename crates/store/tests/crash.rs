//! What a killed process and a power cut leave: every batch whole or not at all, and every
//! acknowledged one there.
//!
//! Kills: this program runs itself as a child that commits and prints each acknowledgement; the
//! parent kills it (SIGKILL) at ever other moments and opens the file. A killed process loses
//! nothing that it wrote, so power cuts are played with a disk in memory that forgets what was
//! not synced.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sinew_store::{Batch, Store, StoreError, Table, Writer};

const KILLED: &str = "SINEW_STORE_KILLED_CHILD";
const FULL: &str = "SINEW_STORE_FULL_CHILD";
const MARK: &str = "@ ";
const KILLS: u32 = 100;
const KEYS: u32 = 40;

/// What the children do; as a test of its own it does nothing.
#[test]
fn child() {
    if let Ok(path) = std::env::var(KILLED) {
        commit_for_ever(Path::new(&path));
    }
    if let Ok(path) = std::env::var(FULL) {
        commit_to_a_full_disk(Path::new(&path));
    }
}

/// A line for the parent, which passes over those of the test harness.
fn say(what: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n{MARK}{what}").and_then(|()| out.flush()).expect("the parent reads");
}

/// What the child said.
fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.map_while(Result::ok).filter_map(|line| line.strip_prefix(MARK).map(str::to_owned))
}

/// This program as `child`, started by another program if `by` is not empty.
fn child_command(by: &[&str]) -> Command {
    let me = std::env::current_exe().expect("this program");
    let mut command = match by {
        [] => Command::new(me),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(me);
            command
        }
    };
    command.args(["child", "--exact", "--nocapture"]).stdout(Stdio::piped());
    command
}

/// Every batch writes one generation under all keys of two tables, and moves one key.
fn batch(generation: u64) -> Batch {
    let mut batch = Batch::new();
    let value = [generation.to_be_bytes().as_slice(), &[0xa5; 700]].concat();
    for key in 0..KEYS {
        batch.put(Table::Documents, &key.to_be_bytes(), &value).expect("small");
        batch.put(Table::Networks, &key.to_be_bytes(), &generation.to_be_bytes()).expect("small");
    }
    batch.delete_prefix(Table::Journal, b"");
    batch.put(Table::Journal, &generation.to_be_bytes(), b"").expect("small");
    batch
}

fn commit_for_ever(path: &Path) -> ! {
    let store = Store::open(path).expect("the parent left a good file");
    let mut generation = state(&store).unwrap_or(0);
    let writer = Writer::start(store, 4).expect("a thread");
    let (sender, told) = std::sync::mpsc::channel();
    loop {
        generation += 1;
        let sender = sender.clone();
        let done = Box::new(move |result: Result<(), _>| {
            result.expect("a healthy disk");
            let _ = sender.send(generation);
        });
        writer.submit(batch(generation), done).expect("room");
        let durable = told.recv().expect("an acknowledgement");
        say(&durable.to_string());
    }
}

/// The one generation that the file holds, everywhere.
fn state(store: &Store) -> Option<u64> {
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes"));
    let journal = store.all(Table::Journal).expect("readable");
    assert!(journal.len() <= 1, "the key moved in one step: {journal:?}");
    let generation = journal.first().map(|(key, _)| number(key));
    for table in [Table::Documents, Table::Networks] {
        let rows = store.all(table).expect("readable");
        assert_eq!(rows.len(), generation.map_or(0, |_| KEYS as usize), "{table:?}");
        assert!(rows.iter().all(|(_, value)| Some(number(value)) == generation), "{table:?} is torn");
    }
    generation
}

#[test]
fn a_kill_in_a_commit_leaves_all_of_it_or_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let (mut previous, mut ahead) = (0, 0);
    for round in 0..KILLS {
        let mut child = child_command(&[]).env(KILLED, &path).spawn().expect("a child");
        let mut lines = said(&mut child);
        // Some rounds die while the file is made or opened, the others after a few commits and
        // a busy moment of ever other length, so that the kill falls anywhere in a commit.
        let mut acknowledged = previous;
        for _ in 0..round % 7 {
            acknowledged = lines.next().expect("a line").parse().expect("a number");
        }
        let moment = Instant::now() + Duration::from_micros(u64::from(round * 397 % 4000));
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        kill(&mut child);
        let unread = lines.filter_map(|line| line.parse().ok()).last();
        let acknowledged = unread.unwrap_or(acknowledged);
        let store = Store::open(&path).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let generation = state(&store).unwrap_or(0);
        assert!(
            generation >= acknowledged,
            "round {round}: {acknowledged} was durable, {generation} is there"
        );
        assert!(generation <= acknowledged + 1, "round {round}: more than was submitted");
        ahead += generation - acknowledged;
        previous = generation;
    }
    eprintln!("{KILLS} kills, {previous} commits, {ahead} of them durable before they could be told");
    assert!(previous > u64::from(KILLS), "the children got to commit");
}

fn kill(child: &mut Child) {
    child.kill().expect("alive");
    let status = child.wait().expect("reaped");
    assert_eq!(status.signal(), Some(9), "it died of the kill, not of an error: {status}");
}

/// A file that may not grow stands for a full disk; the limit is lifted from outside.
#[test]
fn a_full_disk_is_told_and_the_writer_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    drop(Store::open(&path).expect("a new store"));
    let length = std::fs::metadata(&path).expect("it is there").len();
    let by = ["env", "--ignore-signal=XFSZ", "prlimit", &format!("--fsize={length}:")];
    let mut child =
        child_command(&by).env(FULL, &path).stdin(Stdio::piped()).spawn().expect("env and prlimit");
    let mut lines = said(&mut child);
    let refused = lines.next().expect("a line");
    assert!(refused.contains("cannot write"), "{refused}");
    let pid = format!("--pid={}", child.id());
    let lifted = Command::new("prlimit").args([&pid, "--fsize=unlimited:"]).status();
    assert!(lifted.expect("prlimit").success());
    child.stdin.take().expect("piped").write_all(b"on\n").expect("it reads");
    assert_eq!(lines.next().expect("a line"), "written");
    assert!(child.wait().expect("it ends").success());
    let store = Store::open(&path).expect("a good file");
    assert_eq!(store.all(Table::Journal).expect("readable"), [(b"after".to_vec(), b"1".to_vec())]);
    assert!(store.all(Table::Documents).expect("readable").is_empty(), "nothing of what failed is there");
}

fn commit_to_a_full_disk(path: &Path) {
    let writer = Writer::start(Store::open(path).expect("a good file"), 4).expect("a thread");
    let commit = |batch: Batch| {
        let (sender, told) = std::sync::mpsc::channel();
        let done = Box::new(move |result: Result<(), std::sync::Arc<StoreError>>| {
            let _ = sender.send(result);
        });
        writer.submit(batch, done).expect("room");
        told.recv().expect("an acknowledgement")
    };
    let mut large = Batch::new();
    for key in 0..64_u8 {
        large.put(Table::Documents, &[key], &vec![key; 1 << 16]).expect("not too large");
    }
    match commit(large) {
        Ok(()) => say("it had room"),
        Err(error) => say(&error.to_string()),
    }
    std::io::stdin().read_line(&mut String::new()).expect("the parent writes");
    let mut small = Batch::new();
    small.put(Table::Journal, b"after", b"1").expect("small");
    match commit(small) {
        Ok(()) => say("written"),
        Err(error) => say(&error.to_string()),
    }
}
