//! Which neighbour to send to: a pure survey of what the neighbours say.

use sinew_types::Metric;

use crate::config::Significance;
use crate::destination::{Destination, PROVEN};
use crate::doubt::Doubted;
use crate::feasibility::feasible;
use crate::neighbour::{Neighbours, Slot};
use crate::rank::PackedRank;
use crate::rules::{Rule, Rules};

/// A candidate and the rank we would have through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    pub(crate) slot: Slot,
    pub(crate) own: PackedRank,
}

/// What the neighbours offer for a destination.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Survey {
    /// The best that may be selected.
    pub(crate) best: Option<Pick>,
    /// The least metric of all. If it is below the best one's, it is out of reach: infeasible, or
    /// passed over for a fresher one and infeasible from then on.
    pub(crate) shortest: Option<Metric>,
    /// Something could be selected if only it were proved.
    pub(crate) unproven: bool,
}

/// Looks at every advertisement of `dest`.
pub(crate) fn survey(
    dest: &Destination,
    neighbours: &Neighbours,
    doubted: Option<&Doubted>,
    rules: Rules,
) -> Survey {
    let mut survey = Survey::default();
    // D8: while a request is pending, an answer that satisfies it beats a shorter older route.
    let wanted = dest.wanted();
    // D13: where somebody else offers a way, who is doubted offers none. He would else win every race for
    // a newer seqno, and make the others infeasible for good.
    let passed_over = doubted.filter(|doubted| offered_beside(dest, neighbours, doubted));
    let mut best_key = None;
    for link in &dest.links {
        let (Some(adv), Some(neighbour)) = (link.adv, neighbours.get(link.slot)) else { continue };
        let metric = adv.metric().plus(neighbour.cost());
        let doubted = passed_over.is_some_and(|doubted| doubted.contains_key(&neighbour.id));
        if !dest.admitted || !metric.is_reachable() || doubted {
            continue;
        }
        survey.shortest = Some(survey.shortest.map_or(metric, |m| m.min(metric)));
        if !selectable(dest, link.slot, adv, rules) {
            continue;
        }
        if !link.has(PROVEN) {
            survey.unproven = true;
            continue;
        }
        let answers = wanted.is_some_and(|seqno| adv.seqno() >= seqno);
        let key = (!answers, metric, dest.next_hop != Some(link.slot), link.slot);
        if best_key.is_none_or(|best| key < best) {
            best_key = Some(key);
            survey.best = Some(Pick { slot: link.slot, own: PackedRank::new(adv.seqno(), metric) });
        }
    }
    survey
}

/// Whether somebody who is not doubted has proved to have a way, feasible or not.
pub(crate) fn offered_beside(dest: &Destination, neighbours: &Neighbours, doubted: &Doubted) -> bool {
    dest.links.iter().filter(|link| link.has(PROVEN)).any(|link| {
        let neighbour = neighbours.get(link.slot).filter(|neighbour| !doubted.contains_key(&neighbour.id));
        let metric = link.adv.zip(neighbour).map(|(adv, neighbour)| adv.metric().plus(neighbour.cost()));
        metric.is_some_and(sinew_types::Metric::is_reachable)
    })
}

/// Feasible now, or the selected one: it may stay, for its feasibility distance cannot rise
/// before we have confirmed its retraction (routing-model D2).
pub(crate) fn selectable(dest: &Destination, slot: Slot, adv: PackedRank, rules: Rules) -> bool {
    dest.next_hop == Some(slot)
        || feasible(adv, dest.fd)
        || (!rules.hold(Rule::StrictFeasibility) && dest.fd == Some(adv))
}

impl Survey {
    /// Whether a path that may not be selected is significantly shorter than the selected one (D5).
    pub(crate) fn better_out_of_reach(&self, significance: Significance) -> bool {
        match (self.shortest, self.best) {
            (Some(metric), Some(best)) => out_of_reach(metric, best.own.metric(), significance),
            _ => false,
        }
    }
}

/// Whether `metric` is significantly below `own`.
pub(crate) fn out_of_reach(metric: Metric, own: Metric, significance: Significance) -> bool {
    metric < own && significance.counts(own, metric)
}

#[cfg(test)]
mod tests;
