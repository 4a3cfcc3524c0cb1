//! Brings documents to gateways, and what they answer back.
//!
//! The loop says what is to be known where ([`Courier::set`]); the courier sees to it: at once, again when
//! something in it changes, every few minutes so that a gateway that forgot learns it anew, and after a
//! failure with growing pauses. What was taken back, and what a gateway has to know only once, is brought
//! until it was taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sinew_control::api::{Answer, AnswerState};
use sinew_types::{MeshAddr, NetworkId, NodeId};
use sinew_wire::ingress::{Request, Verb};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::call::{Failed, call};

/// One errand, from dialling to the answer.
const ERRAND: Duration = Duration::from_secs(20);
/// Errands at once.
const AT_ONCE: usize = 8;
/// Pause after a failure: doubled each time.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// When a letter is brought again though nothing has changed.
const LIVE_AGAIN: Duration = Duration::from_secs(300);
/// While something is missing: doubled each time, as a certificate comes in seconds and a record in hours.
const PENDING_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
const REFUSED_AGAIN: Duration = Duration::from_secs(600);
/// Between errands for one letter, however often it changes.
const SPACING: Duration = Duration::from_millis(500);
const NO_DEVICE: &str =
    "this node has no way to a gateway: its [tun] is off, or its port 7464 is somebody else's";
/// Longest text of a gateway that is shown.
const TEXT_MAX: usize = 512;

/// What a letter is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LetterKey {
    pub(crate) network: NetworkId,
    /// The service; `None` for word of what others may no longer do.
    pub(crate) service: Option<[u8; 16]>,
    pub(crate) gateway: NodeId,
}

/// What a gateway is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) documents: Vec<Arc<[u8]>>,
    /// Number of the PUBLISH in it.
    pub(crate) seq: u64,
    /// Once it was taken there is nothing more to say.
    pub(crate) once: bool,
}

/// How far a letter has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delivery {
    /// Number of the PUBLISH that was tried last.
    pub(crate) seq: u64,
    /// What the gateway said last, and when.
    pub(crate) answer: Option<(Answer, Instant)>,
    /// Why the last errand failed.
    pub(crate) error: Option<&'static str>,
}

type Letters = BTreeMap<LetterKey, Letter>;
type Deliveries = BTreeMap<LetterKey, Delivery>;

/// The loop's side.
pub(crate) struct Courier {
    letters: watch::Sender<Letters>,
    deliveries: watch::Receiver<Deliveries>,
}

impl Courier {
    /// `reaches`: whether this node has a device by which the mesh is reached.
    pub(super) fn start(runtime: &Handle, own: MeshAddr, reaches: bool) -> Self {
        let (letters, wanted) = watch::channel(Letters::new());
        let (told, deliveries) = watch::channel(Deliveries::new());
        runtime.spawn(Rounds { own, reaches, wanted, told, jobs: BTreeMap::new() }.go());
        Self { letters, deliveries }
    }

    /// Says what is to be known where, from now on.
    pub(crate) fn set(&self, letters: Letters) {
        self.letters.send_if_modified(|old| {
            let changed = *old != letters;
            *old = letters;
            changed
        });
    }

    /// How far a letter has come.
    pub(crate) fn delivery(&self, key: &LetterKey) -> Option<Delivery> {
        self.deliveries.borrow().get(key).cloned()
    }

    /// For waiting until one has come.
    pub(crate) fn deliveries(&self) -> watch::Receiver<Deliveries> {
        self.deliveries.clone()
    }
}

/// One letter on its way.
struct Job {
    letter: Letter,
    /// When the next errand is due; `None` while there is one, or never again.
    due: Option<Instant>,
    /// An errand is under way.
    out: bool,
    failures: u32,
    /// Answers in a row that something is missing.
    pending: u32,
}

/// What an errand brought.
type Outcome = (LetterKey, Letter, Result<Answer, &'static str>);

struct Rounds {
    own: MeshAddr,
    reaches: bool,
    wanted: watch::Receiver<Letters>,
    told: watch::Sender<Deliveries>,
    jobs: BTreeMap<LetterKey, Job>,
}

impl Rounds {
    async fn go(mut self) {
        let (done, mut outcomes) = mpsc::channel::<Outcome>(AT_ONCE);
        loop {
            let now = Instant::now();
            let next = self.jobs.values().filter_map(|job| job.due).min();
            let next = next.unwrap_or(now + LIVE_AGAIN).max(now);
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.take_over();
                }
                outcome = outcomes.recv() => {
                    if let Some(outcome) = outcome {
                        self.on_outcome(outcome);
                    }
                }
                () = sleep_until(next) => {}
            }
            self.send_out(&done);
        }
    }

    /// What the loop wants now.
    fn take_over(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        let now = Instant::now();
        self.jobs.retain(|key, _| wanted.contains_key(key));
        self.told.send_modify(|told| told.retain(|key, _| wanted.contains_key(key)));
        for (key, letter) in wanted {
            match self.jobs.get_mut(&key) {
                Some(job) if job.letter == letter => {}
                Some(job) => {
                    job.letter = letter;
                    (job.failures, job.pending) = (0, 0);
                    if !job.out {
                        job.due = Some(now + SPACING);
                    }
                }
                None => {
                    let job = Job { letter, due: Some(now), out: false, failures: 0, pending: 0 };
                    self.jobs.insert(key, job);
                }
            }
        }
    }

    fn send_out(&mut self, done: &mpsc::Sender<Outcome>) {
        let now = Instant::now();
        let mut free = AT_ONCE.saturating_sub(self.jobs.values().filter(|job| job.out).count());
        for (key, job) in &mut self.jobs {
            if free == 0 || job.out || job.due.is_none_or(|due| due > now) {
                continue;
            }
            free -= 1;
            (job.out, job.due) = (true, None);
            let (own, reaches, done) = (self.own, self.reaches, done.clone());
            let (key, letter) = (key.clone(), job.letter.clone());
            tokio::spawn(async move {
                let result = match reaches {
                    true => timeout(ERRAND, errand(own, key.gateway, &letter))
                        .await
                        .unwrap_or(Err("the gateway does not answer in time")),
                    false => Err(NO_DEVICE),
                };
                // The rounds are over only when the daemon stops.
                let _ = done.send((key, letter, result)).await;
            });
        }
    }

    fn on_outcome(&mut self, (key, letter, result): Outcome) {
        let now = Instant::now();
        let Some(job) = self.jobs.get_mut(&key) else { return };
        job.out = false;
        let changed = job.letter != letter;
        job.due = match &result {
            _ if changed => Some(now + SPACING),
            Ok(answer) => {
                job.failures = 0;
                let pause = again(answer.state, letter.once, job.pending);
                job.pending =
                    if answer.state == AnswerState::Pending { job.pending.saturating_add(1) } else { 0 };
                pause.map(|pause| now + pause)
            }
            Err(_) => {
                job.failures = job.failures.saturating_add(1);
                Some(now + doubled(RETRY, job.failures - 1))
            }
        };
        self.told.send_modify(|told| {
            let known = told.entry(key).or_insert(Delivery { seq: 0, answer: None, error: None });
            known.seq = letter.seq;
            match result {
                Ok(answer) => (known.answer, known.error) = (Some((answer, now)), None),
                Err(error) => known.error = Some(error),
            }
        });
    }
}

/// The first pause, doubled so often, at most the second.
fn doubled((first, most): (Duration, Duration), times: u32) -> Duration {
    (first * 2u32.saturating_pow(times.min(8))).min(most)
}

/// In how long a letter that was taken is brought again; `pending`: how often something was missing before.
fn again(state: AnswerState, once: bool, pending: u32) -> Option<Duration> {
    match state {
        _ if once => None,
        AnswerState::Live => Some(LIVE_AGAIN),
        AnswerState::Pending => Some(doubled(PENDING_AGAIN, pending)),
        AnswerState::Refused | AnswerState::Withdrawn => Some(REFUSED_AGAIN),
    }
}

async fn errand(own: MeshAddr, gateway: NodeId, letter: &Letter) -> Result<Answer, &'static str> {
    let documents = letter.documents.iter().map(|bytes| bytes.to_vec()).collect();
    let request = Request::Publish(documents).emit();
    let request = request.ok_or("more documents are needed to prove this than a gateway takes")?;
    let json = call(own, gateway, Verb::Publish, &request).await.map_err(Failed::text)?;
    let answer: Answer = serde_json::from_slice(&json).map_err(|_| Failed::Nonsense.text())?;
    Ok(clean(answer))
}

/// Another node's texts, fit for somebody's terminal.
fn clean(mut answer: Answer) -> Answer {
    let line = |text: &mut String| {
        *text = text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect();
    };
    [&mut answer.code, &mut answer.text].into_iter().for_each(line);
    answer.addresses.truncate(16);
    answer.addresses.iter_mut().for_each(line);
    answer.hosts.truncate(32);
    for host in &mut answer.hosts {
        [&mut host.host, &mut host.code, &mut host.text].into_iter().for_each(line);
        host.dns.truncate(8);
        for record in &mut host.dns {
            [&mut record.name, &mut record.kind, &mut record.value].into_iter().for_each(line);
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_s_texts_are_fit_for_a_terminal_and_bounded() {
        let answer = Answer {
            service: None,
            seq: 1,
            state: AnswerState::Refused,
            hosts: Vec::new(),
            addresses: vec!["a\u{1b}[2Jb".into(); 99],
            port: None,
            code: "x\n".into(),
            text: "y\u{7}".repeat(TEXT_MAX),
        };
        let answer = clean(answer);
        assert_eq!(answer.addresses[0], "a[2Jb");
        assert_eq!((answer.addresses.len(), answer.code.as_str()), (16, "x"));
        assert_eq!(answer.text.len(), TEXT_MAX);
    }

    #[test]
    fn what_was_taken_once_and_for_all_is_not_brought_again() {
        assert_eq!(again(AnswerState::Withdrawn, true, 0), None);
        assert_eq!(again(AnswerState::Live, false, 0), Some(LIVE_AGAIN));
        let pauses = [0, 1, 2, 9].map(|times| again(AnswerState::Pending, false, times).unwrap().as_secs());
        assert_eq!(pauses, [1, 2, 4, 30]);
    }
}
