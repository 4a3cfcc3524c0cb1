//! Which backend gets the next request.
//!
//! Only backends that are well are considered. If there is none but some are merely ejected (clients'
//! requests failed, no check said so), they are not tried either: an answer at once is worth more
//! than a chance, and the ejection ends soon.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::backend::{Backend, Condition};
use crate::config::Balance;
use crate::net::Client;

/// Picks backends of one service.
#[derive(Debug)]
pub(crate) struct Picker {
    balance: Balance,
    members: Vec<Member>,
    /// Credits of weighted round robin, one for each member.
    credits: Mutex<Vec<i64>>,
}

#[derive(Debug)]
struct Member {
    backend: Arc<Backend>,
    weight: u16,
}

impl Picker {
    pub(crate) fn new(balance: Balance, members: Vec<(Arc<Backend>, u16)>) -> Self {
        let credits = Mutex::new(vec![0; members.len()]);
        let members = members.into_iter().map(|(backend, weight)| Member { backend, weight: weight.max(1) });
        Self { balance, members: members.collect(), credits }
    }

    /// All backends.
    pub(crate) fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.members.iter().map(|member| &member.backend)
    }

    /// A backend that is well and not among `tried`. `mark` is what a client's cookie names.
    pub(crate) fn pick(
        &self,
        client: IpAddr,
        mark: Option<&str>,
        tried: &[Arc<Backend>],
        now: Instant,
    ) -> Option<Arc<Backend>> {
        let fit = |member: &Member| {
            member.backend.condition(now) == Condition::Well
                && !tried.iter().any(|tried| Arc::ptr_eq(tried, &member.backend))
        };
        // Most services have one backend.
        if let [member] = &self.members[..] {
            return fit(member).then(|| member.backend.clone());
        }
        match self.balance {
            Balance::RoundRobin => self.round_robin(fit),
            Balance::LeastConnections => self.least(fit),
            Balance::StickyCookie => self.marked(mark, now, tried).or_else(|| self.round_robin(fit)),
            Balance::StickyAddress => self.by_address(client, fit),
        }
    }

    /// Smooth weighted round robin: each gains its weight, the richest is picked and pays for all.
    fn round_robin(&self, fit: impl Fn(&Member) -> bool) -> Option<Arc<Backend>> {
        let mut credits = self.credits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        let mut best: Option<usize> = None;
        for (index, member) in self.members.iter().enumerate().filter(|(_, member)| fit(member)) {
            credits[index] += i64::from(member.weight);
            total += i64::from(member.weight);
            if best.is_none_or(|best| credits[index] > credits[best]) {
                best = Some(index);
            }
        }
        let best = best?;
        credits[best] -= total;
        Some(self.members[best].backend.clone())
    }

    fn least(&self, fit: impl Fn(&Member) -> bool) -> Option<Arc<Backend>> {
        let load = |member: &Member| {
            let active = u64::from(member.backend.active.load(Ordering::Relaxed)) + 1;
            // A fraction without division: 2^16 requests for each unit of weight.
            (active << 16) / u64::from(member.weight)
        };
        let least = self.members.iter().filter(|member| fit(member)).map(load).min()?;
        // Those that are equally idle take turns, or the first would get every request of a quiet hour.
        self.round_robin(|member| fit(member) && load(member) <= least).or_else(|| self.round_robin(&fit))
    }

    /// The backend of the client's cookie; a draining one keeps the clients it has.
    fn marked(&self, mark: Option<&str>, now: Instant, tried: &[Arc<Backend>]) -> Option<Arc<Backend>> {
        let mark = mark?;
        let member = self.members.iter().find(|member| member.backend.mark == mark)?;
        let condition = member.backend.condition(now);
        let fit = matches!(condition, Condition::Well | Condition::Draining);
        let fresh = !tried.iter().any(|tried| Arc::ptr_eq(tried, &member.backend));
        (fit && fresh).then(|| member.backend.clone())
    }

    /// Weighted rendezvous hashing: when a backend leaves, only its own clients move.
    fn by_address(&self, client: IpAddr, fit: impl Fn(&Member) -> bool) -> Option<Arc<Backend>> {
        let client = Client::of(client);
        let score = |member: &Member| {
            let mut hasher = rustc_hash::FxHasher::default();
            hasher.write(member.backend.mark.as_bytes());
            std::hash::Hash::hash(&client, &mut hasher);
            // Into (0, 1], with the bits stirred once more: the hash above is quick, not good.
            let stirred = (hasher.finish() ^ (hasher.finish() >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let share = ((stirred ^ (stirred >> 32)) >> 11) as f64 / (1u64 << 53) as f64;
            -share.max(f64::MIN_POSITIVE).ln() / f64::from(member.weight)
        };
        let fit = self.members.iter().filter(|member| fit(member));
        fit.min_by(|a, b| score(a).total_cmp(&score(b))).map(|member| member.backend.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::backend::Busy;
    use crate::config::Target;

    fn picker(balance: Balance, weights: &[u16]) -> Picker {
        let member = |(index, weight): (usize, &u16)| {
            (Arc::new(Backend::new("s", Target(index.to_string().into()), 1)), *weight)
        };
        Picker::new(balance, weights.iter().enumerate().map(member).collect())
    }

    fn client(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    fn shares(picker: &Picker, picks: u32) -> BTreeMap<String, u32> {
        let mut shares = BTreeMap::new();
        for number in 0..picks {
            let picked = picker.pick(client(number), None, &[], Instant::now()).unwrap();
            *shares.entry(picked.target.to_string()).or_default() += 1;
        }
        shares
    }

    #[test]
    fn round_robin_keeps_the_weights_exactly_and_smoothly() {
        let picker = picker(Balance::RoundRobin, &[5, 1, 2]);
        let expected = BTreeMap::from([("0".into(), 50), ("1".into(), 10), ("2".into(), 20)]);
        assert_eq!(shares(&picker, 80), expected);
        let mut run = 0;
        for _ in 0..80 {
            let picked = picker.pick(client(0), None, &[], Instant::now()).unwrap();
            run = if picked.target.0.as_ref() == "0" { run + 1 } else { 0 };
            assert!(run <= 3, "the heavy one gets no long runs");
        }
    }

    #[test]
    fn the_least_busy_for_its_weight_is_next() {
        let picker = picker(Balance::LeastConnections, &[1, 1, 2]);
        let mut busy = Vec::new();
        for _ in 0..40 {
            busy.push(Busy::new(&picker.pick(client(0), None, &[], Instant::now()).unwrap()));
        }
        let active: Vec<_> =
            picker.backends().map(|backend| backend.active.load(Ordering::Relaxed)).collect();
        assert_eq!(active, [10, 10, 20]);
        busy.clear();
        let shares = shares(&picker, 40);
        assert_eq!(shares.len(), 1, "only the heavy one is least when all are idle: {shares:?}");
    }

    #[test]
    fn a_cookie_keeps_a_client_even_at_a_draining_backend_but_not_at_a_dead_one() {
        let picker = picker(Balance::StickyCookie, &[1, 1]);
        let first = picker.backends().next().unwrap().clone();
        let pick = || picker.pick(client(0), Some(&first.mark), &[], Instant::now()).unwrap();
        assert!((0..10).all(|_| Arc::ptr_eq(&pick(), &first)));
        first.set_drain(true);
        assert!(Arc::ptr_eq(&pick(), &first));
        assert_eq!(shares(&picker, 10), BTreeMap::from([("1".into(), 10)]), "nobody new");
        first.set_down(true);
        first.set_drain(false);
        assert!(!Arc::ptr_eq(&pick(), &first));
    }

    #[test]
    fn an_address_stays_and_only_those_of_a_lost_backend_move() {
        let picker = picker(Balance::StickyAddress, &[1, 1, 2]);
        let of = |number| picker.pick(client(number), None, &[], Instant::now()).unwrap();
        let before: Vec<_> = (0..4000).map(of).collect();
        let got = shares(&picker, 4000);
        for (target, share) in [("0", 1000), ("1", 1000), ("2", 2000u32)] {
            assert!(got[target].abs_diff(share) < share / 5, "{got:?}");
        }
        let lost = picker.backends().next().unwrap().clone();
        lost.set_down(true);
        for (number, before) in before.iter().enumerate() {
            let after = of(number as u32);
            assert!(Arc::ptr_eq(&after, before) || Arc::ptr_eq(before, &lost));
        }
    }

    #[test]
    fn what_was_tried_or_is_unfit_is_not_picked() {
        for balance in [Balance::RoundRobin, Balance::LeastConnections, Balance::StickyAddress] {
            let picker = picker(balance, &[1, 1]);
            let now = Instant::now();
            let first = picker.pick(client(0), None, &[], now).unwrap();
            let second = picker.pick(client(0), None, std::slice::from_ref(&first), now).unwrap();
            assert!(!Arc::ptr_eq(&first, &second));
            assert!(picker.pick(client(0), None, &[first.clone(), second.clone()], now).is_none());
            second.set_down(true);
            assert!(picker.pick(client(0), None, &[first], now).is_none());
        }
    }
}
