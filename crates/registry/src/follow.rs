//! Names below a domain that several gateways share: one of them decides who was first, the others follow its list.
//!
//! ```text
//!  registrar ── its list, whole ──▶ Registry::follow ─▶ names ─▶ what is served
//!  publisher ── a claim to a name ─▶ ours by the list: served ∙ somebody else's: refused ∙ nobody's: waits
//! ```
//! A follower gives nobody a name, so two gateways never give one to two (protocol A11.6). What it heard is good
//! for as long as a name is held after its last claim: the registrar gives it to nobody else in that time, unless its
//! operator transfers it. The list says so a week before, and until then the name is good here: only the next list says
//! whether the transfer came about.
//!
//! A gateway that is told to follow nobody any more takes its registrar's place: the last list is its own then.

use std::collections::BTreeMap;

use sinew_types::NodeId;

use crate::claim::HostState;
use crate::name::Host;
use crate::record::{Former, RecordKey};
use crate::refusal::Refusal;
use crate::registry::{Holding, Registry};
use crate::rules::{HOLD, TOTAL};

/// How often, at least, it is written down that the list was heard, seconds: each is a write to the disk.
const NOTE: u64 = 3600;

/// What a follower has of its registrar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Following {
    /// When the list was heard last.
    pub(crate) heard: Option<u64>,
    /// When that was written down.
    pub(crate) noted: u64,
}

impl Registry {
    /// Takes the registrar's list in place of the one before. Whether other hosts may be served now.
    ///
    /// On a gateway that decides on its names itself, nothing happens.
    pub fn follow(&mut self, list: impl IntoIterator<Item = (String, Holding)>, now: u64) -> bool {
        let Some(registrar) = self.rules.registrar else { return false };
        let held = list.into_iter().take(TOTAL).filter(|(_, holding)| holding.until > now);
        let told: BTreeMap<String, Holding> = held.collect();
        let before = std::mem::replace(&mut self.names, told);
        let mut changed = false;
        let both = before.keys().chain(self.names.keys().filter(|label| !before.contains_key(*label)));
        for label in both.filter(|label| before.get(*label) != self.names.get(*label)) {
            let holder = |names: &BTreeMap<String, Holding>| names.get(label).map(|holding| holding.network);
            changed |= holder(&before) != holder(&self.names);
            self.changed.insert(RecordKey::Told(registrar, label.clone()));
        }
        self.following.heard = Some(now);
        if changed || now >= self.following.noted.saturating_add(NOTE) {
            self.following.noted = now;
            self.changed.insert(RecordKey::Heard(registrar));
        }
        changed
    }

    /// When a follower has heard its registrar's list last.
    pub const fn heard(&self) -> Option<u64> {
        self.following.heard
    }

    /// A name in the tables of this gateway, as a record.
    pub(crate) fn name_record(&self, label: &str) -> RecordKey {
        match self.rules.registrar {
            Some(registrar) => RecordKey::Told(registrar, label.to_owned()),
            None => RecordKey::Name(label.to_owned()),
        }
    }

    /// A claim to a name on a follower: its network may hold it, or come to hold it.
    pub(crate) fn claim_followed(&self, offer: &crate::Offer, label: &str) -> Result<(), Refusal> {
        match self.names.get(label) {
            Some(holding) if holding.network != offer.key.network => Err(Refusal::Taken {
                host: Host::Name(label.to_owned()).full(&self.rules),
                holder: holding.network,
                since: holding.since,
                // Whether something is published there, the registrar knows.
                until: None,
            }),
            _ => Ok(()),
        }
    }

    /// How a name stands that nobody holds by the tables.
    pub(crate) const fn unheld(&self) -> HostState {
        match self.rules.registrar {
            Some(registrar) => HostState::Unregistered { registrar, heard: self.following.heard },
            None => HostState::Serving,
        }
    }

    /// Until when a holding counts here. What a follower heard grows old; an announced transfer may have been carried
    /// out, taken back or changed since.
    pub(crate) fn counts_until(&self, holding: &Holding) -> u64 {
        if self.rules.registrar.is_none() {
            return holding.until;
        }
        let heard = self.following.heard.unwrap_or(0).saturating_add(HOLD);
        let moves = holding.transfer.as_ref().map_or(u64::MAX, |transfer| transfer.at);
        holding.until.min(heard).min(moves)
    }

    /// Takes the place of the registrar that was heard last. Its list goes before what this gateway had given away
    /// itself, which is older; all that was told before is forgotten.
    pub(crate) fn succeed(&mut self, former: Former) {
        let last = former.heard.iter().max().map(|(_, registrar)| *registrar);
        for (registrar, label, holding) in former.told {
            self.changed.insert(RecordKey::Told(registrar, label.clone()));
            if Some(registrar) == last {
                self.changed.insert(RecordKey::Name(label.clone()));
                self.names.insert(label, holding);
            }
        }
        self.changed.extend(former.heard.into_iter().map(|(_, registrar)| RecordKey::Heard(registrar)));
    }

    /// Who decides, if another gateway does.
    pub const fn registrar(&self) -> Option<NodeId> {
        self.rules.registrar
    }
}

#[cfg(test)]
mod tests;
