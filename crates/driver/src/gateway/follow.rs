//! A domain that several gateways share (protocol A11.6). A follower asks the registrar for its list: at the start,
//! every minute, and when a publisher wants a name that the list does not give it; the publisher's answer waits for
//! that. The registrar tells it to those that its operator lists.
//!
//! The registrar's word needs no signature: nobody passes it on, and the session that it comes by is with its key.

use std::time::Duration;

use sinew_control::api::{Answer, GatewayRegistrar};
use sinew_registry::{Holding, Transfer};
use sinew_store::Batch;
use sinew_types::{Label, MeshAddr, NetworkId, NodeId};
use sinew_wire::ingress::{Name, NameList, Request, Status, Verb};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::answer::{self, NAME_TAKEN, NAME_UNREGISTERED};
use super::desk::{Desk, now};
use crate::ingress::{self, Asked, Brought, Failed};

/// How old a list gets while nobody wants anything.
const REFRESH: Duration = Duration::from_secs(60);
/// Between questions, for each so many names that the last answer had, whoever wants whatever: publishers cannot turn
/// a follower on its registrar. That is 2 Mbit/s at most.
const SPACING: Duration = Duration::from_millis(250);
const SPACING_NAMES: usize = 512;
/// Pause after a failure: doubled each time, at most a refresh.
const RETRY: Duration = Duration::from_secs(1);
/// One question: a long list may have a long way.
const PATIENCE: Duration = Duration::from_secs(30);
/// So long a publisher waits for a newer list, before it hears what is known.
const WAIT: Duration = Duration::from_secs(5);
/// Publishers that wait; the next hears at once what is known.
const WAITING: usize = 64;
/// The registrar is known to be away when its list is older.
const AWAY_MS: u64 = 180_000;
const NONSENSE: &str = "its list makes no sense";

/// What is to be done.
pub(super) enum News {
    /// The registrar has said something, or it is known why it has not.
    Told { begun: Instant, list: Result<Vec<(String, Holding)>, &'static str> },
    /// A publisher has waited long enough.
    Late,
}

/// A follower's side.
pub(super) struct Follow {
    own: MeshAddr,
    registrar: NodeId,
    domain: String,
    /// When the last question began, and whether it is under way.
    begun: Option<Instant>,
    under_way: bool,
    /// How long the next one waits at least, by the length of the last list.
    spacing: Duration,
    due: Instant,
    failures: u32,
    /// Why the last question has no answer.
    problem: Option<&'static str>,
    done: mpsc::Sender<News>,
    results: mpsc::Receiver<News>,
    /// Those who came first are first.
    waiting: Vec<(Instant, Brought)>,
}

impl Follow {
    pub(super) fn new(own: NodeId, registrar: NodeId, domain: String) -> Self {
        let (done, results) = mpsc::channel(1);
        Self {
            own: own.address(),
            registrar,
            domain,
            begun: None,
            under_way: false,
            spacing: SPACING,
            due: Instant::now(),
            failures: 0,
            problem: None,
            done,
            results,
            waiting: Vec::new(),
        }
    }

    /// Asks when it is time; what came of it. Without a registrar, nothing ever does.
    pub(super) async fn next(this: &mut Option<Self>) -> News {
        let Some(follow) = this else { return std::future::pending().await };
        loop {
            if !follow.under_way && follow.due <= Instant::now() {
                follow.begin();
            }
            let late = follow.waiting.first().map(|(since, _)| *since + WAIT);
            tokio::select! {
                // We hold a sender ourselves.
                Some(told) = follow.results.recv() => return told,
                () = sleep_until(follow.due), if !follow.under_way => {}
                () = sleep_until(late.unwrap_or(follow.due)), if late.is_some() => return News::Late,
            }
        }
    }

    fn begin(&mut self) {
        let begun = Instant::now();
        (self.begun, self.under_way) = (Some(begun), true);
        let (own, registrar, domain) = (self.own, self.registrar, self.domain.clone());
        let done = self.done.clone();
        tokio::spawn(async move {
            let list = timeout(PATIENCE, ask(own, registrar, domain)).await;
            let list = list.unwrap_or(Err("it does not answer in time"));
            let _ = done.send(News::Told { begun, list }).await;
        });
    }

    /// Lets a publisher wait for a newer list; gives it back if it has to do without.
    fn wait(&mut self, brought: Brought, now: Instant) -> Option<Brought> {
        if self.waiting.len() >= WAITING {
            return Some(brought);
        }
        self.waiting.push((now, brought));
        self.due = self.due.min(self.soonest(now));
        None
    }

    fn soonest(&self, now: Instant) -> Instant {
        self.begun.map_or(now, |begun| begun + self.spacing)
    }

    /// Those who have waited too long.
    fn late(&mut self, now: Instant) -> Vec<Brought> {
        let late = self.waiting.extract_if(.., |(since, _)| *since + WAIT <= now);
        late.map(|(_, brought)| brought).collect()
    }

    /// Notes how a question ended; gives those that have waited for it.
    fn heard(&mut self, begun: Instant, problem: Option<&'static str>, now: Instant) -> Vec<Brought> {
        (self.under_way, self.problem) = (false, problem);
        self.failures = if problem.is_some() { self.failures.saturating_add(1) } else { 0 };
        self.due = match self.failures {
            0 => now + REFRESH,
            failures => now + (RETRY * 2u32.saturating_pow((failures - 1).min(8))).min(REFRESH),
        };
        // A list that was asked for before the publisher came may be older than what it has published elsewhere.
        let served = |(since, _): &mut (Instant, Brought)| problem.is_some() || *since <= begun;
        let served: Vec<_> = self.waiting.extract_if(.., served).map(|(_, brought)| brought).collect();
        if !self.waiting.is_empty() {
            self.due = self.soonest(now);
        }
        served
    }
}

async fn ask(
    own: MeshAddr,
    registrar: NodeId,
    domain: String,
) -> Result<Vec<(String, Holding)>, &'static str> {
    let request = Request::Names(domain).emit().ok_or("the domain is none")?;
    let list = ingress::call(own, registrar, Verb::Names, &request).await.map_err(|failed| match failed {
        Failed::Told(Status::NotPublished) => {
            "it does not list this node under `followers` of its [gateway] with this domain"
        }
        Failed::Closed => "it listens to nobody; is it a gateway?",
        Failed::Unreachable => "it cannot be reached over the mesh",
        Failed::Silent => "it does not answer over the mesh",
        Failed::Broken => "it broke off",
        Failed::Nonsense => NONSENSE,
        Failed::Told(Status::Busy) => "it is busy",
        Failed::Told(_) => "it does not understand this version of Sinew",
    })?;
    let list = NameList::parse(&list).map_err(|_| NONSENSE)?;
    list.0.into_iter().map(holding).collect::<Option<_>>().ok_or(NONSENSE)
}

fn holding(name: Name) -> Option<(String, Holding)> {
    let transfer = match name.transfer {
        Some((to, at)) => Some(Transfer { to: NetworkId::parse(&to).ok()?, at }),
        None => None,
    };
    let network = NetworkId::parse(&name.network).ok()?;
    let holding = Holding { network, since: name.since, until: name.until, recovery: None, transfer };
    Some((name.label.to_string(), holding))
}

fn name((label, holding): (&str, &Holding)) -> Option<Name> {
    Some(Name {
        label: Label::parse(label).ok()?,
        network: *holding.network.as_bytes(),
        since: holding.since,
        until: holding.until,
        transfer: holding.transfer.as_ref().map(|transfer| (*transfer.to.as_bytes(), transfer.at)),
    })
}

/// Whether a newer list could give the publisher what this one does not.
fn lacks_a_name(answer: &Answer) -> bool {
    let code = |code: &str| code == NAME_UNREGISTERED || code == NAME_TAKEN;
    code(&answer.code) || answer.hosts.iter().any(|host| code(&host.code))
}

impl Desk {
    /// Takes what a publisher brought; what it wants of the registrar's names may wait for a newer list.
    pub(super) fn brought(&mut self, brought: Brought) {
        let answer = self.publish(&brought.documents, now());
        let brought = match &mut self.follow {
            Some(follow) if lacks_a_name(&answer) => follow.wait(brought, Instant::now()),
            _ => Some(brought),
        };
        self.settle(brought.map(|brought| (brought.reply, answer)));
    }

    /// The registrar's list has come, or has not, or takes too long for somebody.
    pub(super) fn followed(&mut self, news: News) {
        let waited = match news {
            News::Told { begun, list } => self.told(begun, list),
            News::Late => self.follow.as_mut().map(|follow| follow.late(Instant::now())).unwrap_or_default(),
        };
        for Brought { documents, reply } in waited {
            let answer = self.publish(&documents, now());
            self.settle(Some((reply, answer)));
        }
        self.settle(None);
    }

    /// Takes the list; gives those that have waited for it.
    fn told(&mut self, begun: Instant, list: Result<Vec<(String, Holding)>, &'static str>) -> Vec<Brought> {
        let Some(follow) = &mut self.follow else { return Vec::new() };
        let (was, problem) = (follow.problem, list.as_ref().err().copied());
        if let Ok(list) = &list {
            follow.spacing = SPACING * (1 + list.len() / SPACING_NAMES) as u32;
        }
        let waited = follow.heard(begun, problem, Instant::now());
        match problem {
            Some(problem) if was != Some(problem) => {
                warn!(registrar = %follow.registrar, problem, "the registrar does not tell whose names are");
            }
            None if was.is_some() => info!(registrar = %follow.registrar, "the registrar answers again"),
            _ => {}
        }
        if let Ok(list) = list
            && self.registry.follow(list, now())
        {
            info!("names have other holders by the registrar's list");
            // Also claims that were refused by the list before.
            self.judge_all();
            self.serve();
        }
        waited
    }

    /// Another gateway asks whose the names are: those that the operator lists hear it, for this domain, once it is on
    /// the disk.
    pub(super) fn tell(&mut self, asked: Asked) {
        let listed = self.config.followers.iter().any(|node| node.address().to_ipv6() == asked.from);
        let ours = self.config.domain.as_deref() == Some(asked.domain.as_str());
        // A follower cannot be asked: its list may be old, and a configuration cannot have both.
        if !listed || !ours || self.follow.is_some() {
            return drop(asked.reply.send(Err(Status::NotPublished)));
        }
        let names = self.registry.names().map(name).collect::<Option<Vec<_>>>();
        let list = names.and_then(|names| NameList(names).emit()).ok_or(Status::Busy);
        self.settle(None);
        self.persist.submit(Batch::new(), move |_| drop(asked.reply.send(list)));
    }

    /// Why names may be missing here.
    pub(super) fn here(&self) -> answer::Here<'_> {
        answer::Here {
            domain: self.config.domain.as_deref(),
            addresses: &self.found_at,
            https_port: self.applied.https_port(),
            away: self.follow.as_ref().and_then(|follow| follow.problem),
        }
    }

    /// For people.
    pub(super) fn registrar(&self) -> Option<GatewayRegistrar> {
        let follow = self.follow.as_ref()?;
        let heard = self.registry.heard();
        Some(GatewayRegistrar {
            node_id: follow.registrar.to_string(),
            heard: heard.map(answer::date),
            age_ms: heard.map(|heard| now().saturating_sub(heard) * 1000),
            problem: follow.problem.map(str::to_owned),
        })
    }

    /// What there is to say if the registrar is away for longer than a moment.
    pub(super) fn away(&self) -> Option<String> {
        let GatewayRegistrar { node_id, heard, age_ms, problem } = self.registrar()?;
        let problem = problem.filter(|_| age_ms.is_none_or(|age| age > AWAY_MS))?;
        let since =
            heard.map_or_else(|| "was never heard".to_owned(), |heard| format!("was last heard {heard}"));
        Some(format!(
            "the registrar {node_id} {since}: {problem}; names that are known are served, none is added"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinew_types::Identity;
    use tokio::sync::oneshot;

    fn follow() -> Follow {
        let node = |n: u8| Identity::from_seed([n; 32]).node_id();
        Follow::new(node(1), node(2), "gw.test".to_owned())
    }

    fn brought() -> Brought {
        Brought { documents: Vec::new(), reply: oneshot::channel().0 }
    }

    #[test]
    fn publishers_wait_for_a_list_that_was_asked_for_after_they_came_and_are_bounded() {
        let mut follow = follow();
        let first = Instant::now();
        follow.begun = Some(first);
        let came = first + Duration::from_millis(10);
        for _ in 0..WAITING {
            assert!(follow.wait(brought(), came).is_none());
        }
        assert!(follow.wait(brought(), came).is_some(), "one too many");
        assert!(follow.late(came + WAIT - RETRY).is_empty());
        assert!(follow.heard(first, None, came).is_empty(), "that list may be older");
        assert_eq!(follow.due, first + SPACING, "no sooner, however many want it");
        let second = first + SPACING;
        assert_eq!(follow.heard(second, None, second).len(), WAITING);
        assert_eq!(follow.due, second + REFRESH);
        assert!(follow.wait(brought(), second).is_none());
        assert_eq!(follow.late(second + WAIT).len(), 1, "it hears what is known");
    }

    #[test]
    fn who_waits_hears_at_once_that_the_registrar_is_away_which_is_asked_ever_more_seldom() {
        let mut follow = follow();
        let now = Instant::now();
        assert!(follow.wait(brought(), now + SPACING).is_none());
        assert_eq!(follow.heard(now, Some("away"), now + SPACING).len(), 1);
        let pauses = [(); 8].map(|()| {
            follow.heard(now, Some("away"), now);
            (follow.due - now).as_secs()
        });
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(follow.heard(now, None, now).is_empty() && follow.problem.is_none());
    }

    #[test]
    fn a_name_s_way_over_the_wire_loses_nothing_but_what_is_its_holder_s_secret() {
        let network = |n: u8| NetworkId::new(Identity::from_seed([n; 32]).node_id());
        let held = Holding {
            network: network(1),
            since: 1,
            until: 2,
            recovery: Some([7; 32]),
            transfer: Some(Transfer { to: network(2), at: 3 }),
        };
        let told = holding(name(("app", &held)).expect("a label")).expect("keys");
        assert_eq!(told, ("app".to_owned(), Holding { recovery: None, ..held }));
    }
}
