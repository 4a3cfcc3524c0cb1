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

use sinew_store::{Batch, Store, Table, Writer};

const CHILD: &str = "SINEW_STORE_CRASH_CHILD";
const KILLS: u32 = 100;
const KEYS: u32 = 40;

fn main() {
    if let Ok(path) = std::env::var(CHILD) {
        commit_for_ever(Path::new(&path));
    }
    // Other arguments are the harness's filters and listings.
    if std::env::args().any(|argument| argument == "--list") {
        println!("a_kill_in_a_commit_leaves_all_of_it_or_nothing: test");
        return;
    }
    a_kill_in_a_commit_leaves_all_of_it_or_nothing();
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
    let mut out = std::io::stdout();
    loop {
        generation += 1;
        let sender = sender.clone();
        let done = Box::new(move |result: Result<(), _>| {
            result.expect("a healthy disk");
            let _ = sender.send(generation);
        });
        writer.submit(batch(generation), done).expect("room");
        let durable = told.recv().expect("an acknowledgement");
        writeln!(out, "{durable}").and_then(|()| out.flush()).expect("the parent reads");
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

fn a_kill_in_a_commit_leaves_all_of_it_or_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let (mut previous, mut ahead) = (0, 0);
    for round in 0..KILLS {
        let mut child = start(&path);
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // Some rounds die while the file is made or opened, the others after a few commits and
        // a busy moment of ever other length, so that the kill falls anywhere in a commit.
        let mut acknowledged = previous;
        for _ in 0..round % 7 {
            acknowledged = lines.next().expect("a line").expect("text").parse().expect("a number");
        }
        let moment = Instant::now() + Duration::from_micros(u64::from(round * 397 % 4000));
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        kill(&mut child);
        let unread = lines.map_while(Result::ok).filter_map(|line| line.parse().ok()).last();
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
    println!("{KILLS} kills, {previous} commits, {ahead} of them durable before they could be told: ok");
    assert!(previous > u64::from(KILLS), "the children got to commit");
}

fn start(path: &Path) -> Child {
    let me = std::env::current_exe().expect("this program");
    Command::new(me).env(CHILD, path).stdout(Stdio::piped()).spawn().expect("a child")
}

fn kill(child: &mut Child) {
    child.kill().expect("alive");
    let status = child.wait().expect("reaped");
    assert_eq!(status.signal(), Some(9), "it died of the kill, not of an error: {status}");
}
