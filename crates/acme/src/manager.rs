//! The thread that keeps all certificates: it asks the book what is due, runs a few orders side by side,
//! and takes what comes of them into use.

use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use instant_acme::{Account, CertificateIdentifier, Error};
use rustls::pki_types::CertificateDer;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::book::{Book, Fault, HostStatus, Task, Validity};
use crate::folder::Folder;
use crate::order::{self, Errand, Issued, Trouble};
use crate::texts::{self, Texts};
use crate::web::{self, Web};
use crate::{Challenges, Install, Options, Wanted, x509};

/// Where Debian and its relatives keep the roots that the system trusts.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The longest sleep: the machine's clock may be set meanwhile, and it is what certificates go by.
const SLEEP_MAX: u64 = 60;

/// Days after its end that an unwanted certificate is kept.
const KEEP_DAYS: u64 = 7;

/// Wishes of operators that may wait.
const WISHES: usize = 64;

/// Why certificates cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder.
    #[error("cannot use the folder {path}: {error}")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The roots by which the authority is known.
    #[error("{0}")]
    Roots(String),
    /// The system has no threads, descriptors or randomness left.
    #[error("cannot start: {0}")]
    System(String),
}

/// Keeps certificates for hosts. Dropping it ends orders that are under way; certificates stay in use.
#[allow(missing_debug_implementations)]
pub struct Manager {
    hosts: watch::Sender<Vec<Wanted>>,
    wishes: mpsc::Sender<String>,
    status: Arc<Mutex<Vec<HostStatus>>>,
    runtime: runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    /// Starts the thread. Orders nothing yet.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        options: Options,
        challenges: Arc<dyn Challenges>,
        install: Arc<dyn Install>,
    ) -> Result<Self, StartError> {
        let system = |error: &dyn std::fmt::Display| StartError::System(error.to_string());
        let folder = Folder::open(&options.folder, &options.directory)
            .map_err(|error| StartError::Folder { path: options.folder.display().to_string(), error })?;
        let web = Web::new(&roots(&options)?).map_err(StartError::Roots)?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| system(&error))?;
        let book = Book::new(options.rules.clone(), u64::from_le_bytes(seed));
        let runtime = runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
        let runtime = runtime.map_err(|error| system(&error))?;
        let handle = runtime.handle().clone();
        let (hosts, hosts_in) = watch::channel(Vec::new());
        let (wishes, wishes_in) = mpsc::channel(WISHES);
        let (stop, stopped) = oneshot::channel();
        let status = Arc::default();
        let keeper = Keeper {
            book,
            folder,
            install,
            status: Arc::clone(&status),
            work: Arc::new(Work { web, challenges, options, account: tokio::sync::Mutex::default() }),
            held: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new().name("sinew-acme".to_owned()).spawn(move || {
            runtime.block_on(keeper.run(hosts_in, wishes_in, stopped));
            // Not waiting for name lookups, which cannot be broken off.
            runtime.shutdown_background();
        });
        let thread = thread.map_err(|error| system(&error))?;
        Ok(Self { hosts, wishes, status, runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Wants certificates for these hosts and no others.
    pub fn set_hosts(&self, hosts: Vec<Wanted>) {
        self.hosts.send_replace(hosts);
    }

    /// Orders a new certificate for `host` though the old one is good. It waits as long as it would after
    /// failures. `false` if too many such wishes wait already.
    pub fn renew(&self, host: &str) -> bool {
        self.wishes.try_send(host.to_owned()).is_ok()
    }

    /// All hosts, by name.
    pub fn status(&self) -> Vec<HostStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers questions for `texts` on these sockets, for as long as this lives.
    ///
    /// # Errors
    /// The sockets cannot be used.
    pub fn serve_dns(&self, texts: &Arc<Texts>, udp: UdpSocket, tcp: TcpListener) -> io::Result<()> {
        texts::serve(&self.runtime, texts, udp, tcp)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn roots(options: &Options) -> Result<Vec<u8>, StartError> {
    if let Some(roots) = &options.roots {
        return Ok(roots.clone());
    }
    let read = std::fs::read(SYSTEM_ROOTS);
    read.map_err(|error| {
        StartError::Roots(format!("cannot read {SYSTEM_ROOTS}: {error} (install ca-certificates)"))
    })
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What tasks share.
struct Work {
    web: Web,
    challenges: Arc<dyn Challenges>,
    options: Options,
    /// Made when it is first needed; one task makes it while others wait.
    account: tokio::sync::Mutex<Option<Account>>,
}

/// What came of a task.
enum Outcome {
    Ordered(Result<Issued, Fault>),
    /// Window and when to ask again.
    Asked(Option<((u64, u64), Duration)>),
}

struct Keeper {
    book: Book,
    folder: Folder,
    install: Arc<dyn Install>,
    status: Arc<Mutex<Vec<HostStatus>>>,
    work: Arc<Work>,
    /// The certificates in use, by host.
    held: BTreeMap<String, CertificateDer<'static>>,
}

impl Keeper {
    async fn run(
        mut self,
        mut hosts: watch::Receiver<Vec<Wanted>>,
        mut wishes: mpsc::Receiver<String>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let cleared = self.folder.tidy(unix(), KEEP_DAYS);
        if cleared > 0 {
            tracing::info!(cleared, "deleted certificates that ended long ago");
        }
        let mut tasks: JoinSet<(String, Outcome)> = JoinSet::new();
        loop {
            while let Some(task) = self.book.next(unix()) {
                self.begin(&mut tasks, task);
            }
            self.publish();
            let wait = self.book.timeout().map_or(SLEEP_MAX, |at| at.saturating_sub(unix()));
            let wait = Duration::from_secs(wait.clamp(1, SLEEP_MAX));
            tokio::select! {
                _ = &mut stopped => return,
                changed = hosts.changed() => {
                    if changed.is_err() { return; }
                    let wanted = hosts.borrow_and_update().clone();
                    self.set_hosts(&wanted);
                }
                Some(host) = wishes.recv() => { self.book.renew(&host); }
                Some(done) = tasks.join_next() => match done {
                    Ok((host, outcome)) => self.end(&host, outcome),
                    Err(error) => tracing::error!(%error, "an order ended in a way it should not"),
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn publish(&self) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = self.book.status(unix());
    }

    fn set_hosts(&mut self, wanted: &[Wanted]) {
        let (fresh, gone) = self.book.set_hosts(wanted);
        for host in gone {
            self.held.remove(&host);
            self.install.remove(&host);
        }
        let failures = self.folder.failures().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read what failed before");
            BTreeMap::new()
        });
        let possible: Vec<_> =
            self.book.status(unix()).into_iter().filter(|host| host.challenge.is_some()).collect();
        for host in possible.into_iter().map(|host| host.host).filter(|host| fresh.contains(host)) {
            if let Some(memory) = failures.get(&host) {
                self.book.remembered(&host, memory, unix());
            }
            match self.take_up(&host) {
                Ok(Some(validity)) => self.book.held(&host, validity),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(host, error, "cannot use the certificate on disk; ordering another")
                }
            }
        }
    }

    /// Takes the certificate on disk into use, if there is one that is good.
    fn take_up(&mut self, host: &str) -> Result<Option<Validity>, String> {
        let Some(pair) = self.folder.load(host).map_err(|error| error.to_string())? else { return Ok(None) };
        let Some(first) = pair.chain.first().cloned() else { return Ok(None) };
        let validity = x509::validity(&first).filter(|_| x509::names(&first, host));
        let validity = validity.ok_or_else(|| "it is not for this host".to_owned())?;
        if validity.until <= unix() {
            return Ok(None);
        }
        self.install.install(host, pair)?;
        self.held.insert(host.to_owned(), first);
        Ok(Some(validity))
    }

    fn begin(&self, tasks: &mut JoinSet<(String, Outcome)>, task: Task) {
        let (work, folder) = (self.work.clone(), self.folder.clone());
        match task {
            Task::Order { host, challenge, renewal } => {
                tracing::info!(host, challenge = challenge.word(), renewal, "ordering a certificate");
                let replaces = self.held.get(&host).filter(|_| renewal).cloned();
                let errand = Errand { host: host.clone(), challenge, replaces };
                tasks.spawn(async move {
                    let ordered = work.order(&folder, &errand).await;
                    (host, Outcome::Ordered(ordered))
                });
            }
            Task::Ask { host } => {
                let held = self.held.get(&host).cloned();
                tasks.spawn(async move {
                    let wish = match held {
                        Some(held) => work.wish(&folder, &held).await,
                        None => None,
                    };
                    (host, Outcome::Asked(wish))
                });
            }
        }
    }

    fn end(&mut self, host: &str, outcome: Outcome) {
        let ordered = match outcome {
            Outcome::Asked(wish) => return self.book.asked(host, wish, unix()),
            Outcome::Ordered(ordered) => ordered,
        };
        match ordered.and_then(|issued| self.keep(host, &issued).map_err(Fault::Local)) {
            Ok(validity) => {
                tracing::info!(host, until = validity.until, "has a new certificate");
                self.book.issued(host, validity, unix());
            }
            Err(fault) => {
                tracing::warn!(host, error = fault.text(), "no certificate this time");
                self.book.failed(host, &fault, unix());
            }
        }
        if let Err(error) = self.folder.set_failures(&self.book.memory()) {
            tracing::warn!(%error, "cannot write down what failed");
        }
    }

    /// On disk first: what is in use must be there after a restart.
    fn keep(&mut self, host: &str, issued: &Issued) -> Result<Validity, String> {
        let stored = self.folder.store(host, &issued.key, &issued.chain);
        stored.map_err(|error| format!("cannot keep the certificate: {error}"))?;
        if !self.book.wants(host) {
            // Withdrawn meanwhile; it is there if it comes back.
            return Ok(Validity { from: 0, until: 0 });
        }
        self.take_up(host)?.ok_or_else(|| "the new certificate has ended already".to_owned())
    }
}

impl Work {
    async fn order(&self, folder: &Folder, errand: &Errand) -> Result<Issued, Fault> {
        let whole = async {
            let account = self.account(folder).await?;
            order::order(&account, errand, &self.challenges).await
        };
        let limited = tokio::time::timeout(self.options.patience, web::watched(whole)).await;
        let Ok((result, signs)) = limited else {
            return Err(Fault::Server("the order was not done in time".to_owned()));
        };
        let fault = match result {
            Ok(issued) => return Ok(issued),
            Err(trouble) => order::fault(trouble, signs),
        };
        if matches!(fault, Fault::Account(_)) {
            *self.account.lock().await = None;
            if let Err(error) = folder.drop_account() {
                tracing::warn!(%error, "cannot put the unknown account aside");
            }
        }
        Err(fault)
    }

    async fn account(&self, folder: &Folder) -> Result<Account, Trouble> {
        let mut known = self.account.lock().await;
        if let Some(account) = &*known {
            return Ok(account.clone());
        }
        let account = order::account(&self.web, folder, &self.options).await?;
        Ok(known.insert(account).clone())
    }

    /// When the authority would like this certificate to be renewed. Any failure means that it has no wish.
    async fn wish(&self, folder: &Folder, held: &CertificateDer<'static>) -> Option<((u64, u64), Duration)> {
        let id = CertificateIdentifier::try_from(held).ok()?;
        let asking = async { self.account(folder).await.ok()?.renewal_info(&id).await.into() };
        let asked: Option<Result<_, Error>> =
            tokio::time::timeout(self.options.patience, asking).await.ok()?;
        let (info, after) = asked?.ok()?;
        let seconds = |time: i64| u64::try_from(time).ok();
        let window = &info.suggested_window;
        Some(((seconds(window.start.unix_timestamp())?, seconds(window.end.unix_timestamp())?), after))
    }
}
