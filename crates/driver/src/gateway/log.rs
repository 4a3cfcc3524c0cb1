//! The access log: a line of JSON for each request, stream and change of a backend.
//!
//! The newest are kept in memory for `sinew gateway log`. For a file there is a thread and a bounded queue: a disk
//! that is slow makes lines get lost (they are counted), never requests wait.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sinew_control::api::{GatewayLog, GatewayLogQuery};
use sinew_control::config::AccessLog;
use sinew_control::time;
use sinew_gateway::{BackendEvent, JsonLog, Observer, RequestEvent, StreamEvent};
use tokio::sync::Notify;
use tracing::warn;

/// Lines in memory.
const LINES: usize = 1000;
/// Lines given at once.
const GIVEN: usize = 200;
/// Lines that wait for the disk.
const QUEUE: usize = 4096;
/// Whoever reads the log need not be who reads the state.
const MODE: u32 = 0o640;

enum Note {
    Line(Vec<u8>),
    OpenAnew,
}

/// Lines in memory, and the way to the file.
pub(super) struct Log {
    lines: Mutex<Lines>,
    news: Notify,
    writer: Option<SyncSender<Note>>,
    lost: AtomicU64,
}

#[derive(Default)]
struct Lines {
    kept: VecDeque<Vec<u8>>,
    /// Number of the line after the newest.
    next: u64,
}

impl Log {
    /// Starts it.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread to be had.
    pub(super) fn start(to: &AccessLog) -> io::Result<Arc<Self>> {
        let writer = match to {
            AccessLog::Off => None,
            AccessLog::Stderr => Some(write_to(None)?),
            AccessLog::File(path) => Some(write_to(Some(path.clone()))?),
        };
        Ok(Arc::new(Self { lines: Mutex::default(), news: Notify::new(), writer, lost: AtomicU64::new(0) }))
    }

    /// Opens the file anew: the old one was moved away.
    pub(super) fn reopen(&self) {
        if let Some(writer) = &self.writer {
            // It waits its turn behind at most a queue of lines; on this thread nobody is served.
            let _ = writer.send(Note::OpenAnew);
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        {
            let mut lines = self.lines();
            if lines.kept.len() >= LINES {
                lines.kept.pop_front();
            }
            lines.kept.push_back(line.to_vec());
            lines.next += 1;
        }
        self.news.notify_waiters();
        if let Some(writer) = &self.writer
            && writer.try_send(Note::Line(line.to_vec())).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines after the one that is asked about; waits for one if there are none and the asker has time.
    pub(super) async fn ask(self: Arc<Self>, query: GatewayLogQuery) -> GatewayLog {
        let wait = std::time::Duration::from_millis(query.wait_ms.min(30_000));
        let end = tokio::time::Instant::now() + wait;
        let mut query = query;
        loop {
            let news = self.news.notified();
            let found = self.find(&query);
            if !found.lines.is_empty() || tokio::time::timeout_at(end, news).await.is_err() {
                return found;
            }
            // What was looked through need not be looked through again.
            query.after = Some(found.next);
        }
    }

    fn find(&self, query: &GatewayLogQuery) -> GatewayLog {
        let lines = self.lines();
        let first = lines.next - lines.kept.len() as u64;
        let limit = query.limit.map_or(GIVEN, |limit| (limit as usize).clamp(1, LINES));
        let wanted = |value: &serde_json::Value| {
            let is = |key: &str| value.get(key).and_then(|v| v.as_str()) == query.host.as_deref();
            query.host.is_none() || is("host") || is("service")
        };
        let skipped =
            usize::try_from(query.after.map_or(0, |after| after.saturating_sub(first))).unwrap_or(usize::MAX);
        let fitting = lines.kept.iter().skip(skipped).filter_map(|line| serde_json::from_slice(line).ok());
        let mut found: Vec<_> = fitting.filter(wanted).collect();
        found.drain(..found.len().saturating_sub(limit));
        GatewayLog { lines: found, next: lines.next, lost: self.lost.load(Ordering::Relaxed) }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

fn write_to(path: Option<PathBuf>) -> io::Result<SyncSender<Note>> {
    let file = path.as_deref().map(open).transpose()?;
    let (notes, received) = sync_channel(QUEUE);
    std::thread::Builder::new()
        .name("sinew-access-log".to_owned())
        .spawn(move || run(&received, path, file))?;
    Ok(notes)
}

fn run(notes: &Receiver<Note>, path: Option<PathBuf>, mut file: Option<File>) {
    let mut told = false;
    while let Ok(note) = notes.recv() {
        let result = match (note, &path) {
            (Note::OpenAnew, Some(path)) => open(path).map(|opened| {
                file = Some(opened);
                told = false;
            }),
            (Note::OpenAnew, None) => Ok(()),
            (Note::Line(line), _) => match &mut file {
                Some(file) => file.write_all(&line),
                None => io::stderr().lock().write_all(&line),
            },
        };
        if let Err(error) = result
            && !std::mem::replace(&mut told, true)
        {
            warn!(%error, "the access log cannot be written");
        }
    }
}

/// Takes the front's events.
pub(super) struct Events {
    json: JsonLog<Into>,
}

struct Into(Arc<Log>);

impl Write for Into {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Events {
    pub(super) fn new(log: &Arc<Log>) -> Self {
        Self { json: JsonLog::new(Into(log.clone()), |ms| time::rfc3339(ms.saturating_mul(1000))) }
    }
}

/// A target as people read it: workload and port.
pub(super) fn short(target: &str) -> &str {
    target.split('/').next().unwrap_or(target)
}

impl Observer for Events {
    fn request(&self, event: &RequestEvent) {
        let backend = event.backend.as_deref().map(|target| short(target).to_owned());
        self.json.request(&RequestEvent { backend, ..event.clone() });
    }

    fn stream(&self, event: &StreamEvent) {
        let backend = event.backend.as_deref().map(|target| short(target).to_owned());
        self.json.stream(&StreamEvent { backend, ..event.clone() });
    }

    fn backend(&self, event: &BackendEvent) {
        self.json.backend(&BackendEvent { backend: short(&event.backend).to_owned(), ..event.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(to: &AccessLog, lines: usize) -> Arc<Log> {
        let log = Log::start(to).unwrap();
        for n in 0..lines {
            log.push(format!("{{\"n\":{n},\"host\":\"h{}\"}}\n", n % 2).as_bytes());
        }
        log
    }

    #[tokio::test]
    async fn the_newest_lines_are_kept_and_followed() {
        let log = log(&AccessLog::Off, LINES + 10);
        let ask = |after, limit, host: Option<&str>| {
            let host = host.map(str::to_owned);
            log.clone().ask(GatewayLogQuery { after, limit, host, wait_ms: 0 })
        };
        let newest = ask(None, Some(2), None).await;
        assert_eq!((newest.lines[0]["n"].as_u64(), newest.next), (Some(1008), 1010));
        assert_eq!(ask(Some(1009), None, None).await.lines.len(), 1);
        assert!(ask(Some(1010), None, None).await.lines.is_empty());
        assert!(ask(None, Some(5), Some("h0")).await.lines.iter().all(|line| line["host"] == "h0"));
        let waiting = tokio::spawn(log.clone().ask(GatewayLogQuery {
            after: Some(1010),
            wait_ms: 10_000,
            host: Some("h0".into()),
            ..GatewayLogQuery::default()
        }));
        tokio::task::yield_now().await;
        log.push(b"{\"host\":\"h1\"}\n");
        tokio::task::yield_now().await;
        log.push(b"{\"host\":\"h0\"}\n");
        assert_eq!(waiting.await.unwrap().lines.len(), 1);
    }

    #[tokio::test]
    async fn times_are_text_as_everywhere_in_json() {
        let log = log(&AccessLog::Off, 0);
        let events = Events::new(&log);
        events.backend(&BackendEvent {
            time: 1_795_442_400_123,
            service: "app.gw.test".into(),
            backend: "web:8080/x".into(),
            condition: sinew_gateway::Condition::Down,
            cause: "no answer".into(),
        });
        let line = log.ask(GatewayLogQuery::default()).await.lines.remove(0);
        assert_eq!(
            (&line["time"], &line["backend"]),
            (&"2026-11-23T14:00:00.123Z".into(), &"web:8080".into())
        );
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = log(&AccessLog::File(path.clone()), 3);
        let count = |path: &Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
        let until = |path: &Path, wanted: usize| {
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while count(path) != wanted {
                assert!(std::time::Instant::now() < end, "{} has {}", path.display(), count(path));
                std::thread::yield_now();
            }
        };
        until(&path, 3);
        std::fs::rename(&path, &old).unwrap();
        log.reopen();
        log.push(b"{}\n");
        until(&path, 1);
        assert_eq!(count(&old), 3);
    }
}
