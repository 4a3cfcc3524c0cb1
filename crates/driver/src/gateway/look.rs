//! Looks for TXT records: a few at a time, each bounded, none on the desk's own time.

use std::path::PathBuf;
use std::sync::Arc;

use sinew_control::config;
use sinew_dns::{Servers, Txt, TxtClient};
use sinew_registry::{Finding, Lookup};
use tokio::sync::mpsc;

/// Looks under way.
const AT_ONCE: usize = 8;
/// Where the host says whom it asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// A look that has ended.
pub(super) struct Looked {
    pub(super) lookup: Lookup,
    pub(super) finding: Finding,
}

/// Who looks.
pub(super) struct Looks {
    client: Arc<TxtClient>,
    under_way: usize,
    done: mpsc::Sender<Looked>,
    results: mpsc::Receiver<Looked>,
}

fn client(config: &config::Gateway) -> Arc<TxtClient> {
    let servers = match config.resolvers.as_slice() {
        [] => Servers::ResolvConf(PathBuf::from(RESOLV_CONF)),
        servers => Servers::Fixed(servers.to_vec()),
    };
    Arc::new(TxtClient::new(servers))
}

impl Looks {
    pub(super) fn new(config: &config::Gateway) -> Self {
        let (done, results) = mpsc::channel(AT_ONCE);
        Self { client: client(config), under_way: 0, done, results }
    }

    /// Asks others from now on.
    pub(super) fn configure(&mut self, config: &config::Gateway) {
        self.client = client(config);
    }

    /// How many more may be begun.
    pub(super) const fn room(&self) -> usize {
        AT_ONCE.saturating_sub(self.under_way)
    }

    /// Begins one.
    pub(super) fn begin(&mut self, lookup: Lookup) {
        self.under_way += 1;
        let (client, done) = (self.client.clone(), self.done.clone());
        tokio::spawn(async move {
            let finding = match client.lookup(&lookup.record.name).await {
                Txt::Texts(texts) if texts.iter().any(|text| text.trim() == lookup.record.text) => {
                    Finding::Present
                }
                Txt::Texts(_) => Finding::Absent,
                Txt::Unknown(why) => {
                    tracing::debug!(name = lookup.record.name, why, "no TXT record to be had");
                    Finding::Unknown
                }
            };
            let _ = done.send(Looked { lookup, finding }).await;
        });
    }

    /// The next that has ended.
    pub(super) async fn next(&mut self) -> Looked {
        match self.results.recv().await {
            Some(looked) => {
                self.under_way -= 1;
                looked
            }
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }
}
