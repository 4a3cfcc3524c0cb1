//! Why there is no direct path to a node that nobody configured: what came of looking for one, in words.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use sinew_control::api::{Candidate, CandidateState, Reason};
use sinew_node::{Attempt, Meeting, Outcome};
use sinew_types::{CarrierKind, Instant};

use super::{reason, whole_millis};

const LOOKED_FOR: &str = "a direct path is being looked for";

/// Of a node that data reaches over relays.
pub(super) fn explain(meeting: &Meeting, now: Instant) -> Reason {
    if meeting.relays_nearer {
        return reason("relays_nearer", "a direct path stands, and the way over relays is the nearer", "");
    }
    if !meeting.enabled {
        let fix =
            "`[reach] direct = true`, then `sinew config reload`; it shows talkers each other's addresses";
        return reason("direct_off", "direct paths are not looked for here", fix);
    }
    let Some(last) = &meeting.last else {
        let fix = "`sinew ping NODE --until-direct` has one looked for at once";
        return reason("quiet", "the two have not sent enough for a direct path to be looked for", fix);
    };
    if meeting.scattered {
        return reason(
            "searching",
            "a direct path is being looked for at ports that a translator has drawn",
            "",
        );
    }
    match last.outcome {
        Outcome::Called | Outcome::Knocking => reason("knocking", LOOKED_FOR, ""),
        Outcome::NoReply => reason("no_reply", "it was called for a direct path and has not answered", ""),
        Outcome::Declined => {
            reason("declined", "it does not want a direct path", "there: `[reach] direct = true`")
        }
        Outcome::NoAddress => {
            let fix = "`[listen] udp` opens a socket";
            reason("no_own_address", "this node has no UDP address to be found at", fix)
        }
        Outcome::NothingFit => {
            let text = "it told no address that may be knocked at: none at all, or private ones elsewhere";
            reason("nothing_fit", text, "`sinew netcheck` there says whether UDP passes")
        }
        Outcome::Unanswered => unanswered(meeting, last, now),
        Outcome::Found => {
            let text = "the direct path that was found is gone; another is looked for while the two talk";
            reason("path_lost", text, "")
        }
    }
}

fn unanswered(meeting: &Meeting, last: &Attempt, now: Instant) -> Reason {
    if meeting.own.is_dependent() && last.theirs.is_dependent() {
        let text = "both translators draw another port toward each far end, so that no knock can meet";
        let fix = "have one side's router pass on the UDP port: `[reach] port_mapping`, or by hand";
        return reason("both_symmetric", text, fix);
    }
    let (count, ago) = (last.knocked.len(), now.since(last.at).as_secs());
    let text = format!("knocked at {count} of its addresses {ago} s ago, and nothing answered");
    reason("unanswered", text, "`sinew netcheck` on both sides says what their networks pass")
}

/// Where was knocked, but for what is listed already.
pub(super) fn candidates<'a>(
    last: &'a Attempt,
    listed: &'a BTreeSet<SocketAddr>,
    now: Instant,
) -> impl Iterator<Item = Candidate> + 'a {
    let under_way = last.outcome == Outcome::Knocking;
    let (state, answer) = if under_way {
        (CandidateState::Trying, None)
    } else {
        (CandidateState::Failed, Some("no knock was answered".to_owned()))
    };
    last.knocked.iter().filter(|at| !listed.contains(at)).map(move |at| Candidate {
        carrier: Some(CarrierKind::Udp.as_str().to_owned()),
        endpoint: None,
        remote: Some(at.to_string()),
        interface: None,
        state,
        last_try_ms: Some(whole_millis(now.since(last.at))),
        answer: answer.clone(),
        rtt_ms: None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sinew_node::Mapping;

    use super::*;

    const NOW: Instant = Instant::from_micros(60_000_000);

    fn meeting(outcome: Outcome, own: Mapping, theirs: Mapping) -> Meeting {
        let knocked = vec!["192.0.2.1:7463".parse().unwrap(), "198.51.100.1:7463".parse().unwrap()];
        let at = NOW - Duration::from_secs(12);
        let last = Some(Attempt { outcome, at, theirs, knocked });
        Meeting { enabled: true, own, last, scattered: false, relays_nearer: false, next: None }
    }

    #[test]
    fn each_outcome_has_its_reason() {
        let drawn = Mapping::AddressAndPortDependent;
        let one = Mapping::EndpointIndependent;
        let table = [
            (meeting(Outcome::Unanswered, drawn, drawn), "both_symmetric"),
            (meeting(Outcome::Unanswered, drawn, one), "unanswered"),
            (meeting(Outcome::Knocking, one, one), "knocking"),
            (meeting(Outcome::Declined, one, one), "declined"),
            (meeting(Outcome::NothingFit, one, one), "nothing_fit"),
            (Meeting { last: None, ..meeting(Outcome::Called, one, one) }, "quiet"),
            (Meeting { enabled: false, ..meeting(Outcome::Called, one, one) }, "direct_off"),
            (Meeting { scattered: true, ..meeting(Outcome::Unanswered, drawn, one) }, "searching"),
            (Meeting { relays_nearer: true, ..meeting(Outcome::Found, one, one) }, "relays_nearer"),
        ];
        for (meeting, code) in table {
            assert_eq!(explain(&meeting, NOW).code, code);
        }
        let text = explain(&meeting(Outcome::Unanswered, drawn, one), NOW).text;
        assert!(text.contains("2 of its addresses 12 s ago"), "{text}");
    }

    #[test]
    fn what_was_knocked_at_is_listed_once() {
        let meeting = meeting(Outcome::Unanswered, Mapping::Open, Mapping::Open);
        let last = meeting.last.unwrap();
        let listed = BTreeSet::from([last.knocked[0]]);
        let rest: Vec<_> = candidates(&last, &listed, NOW).collect();
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].remote.as_deref(), Some("198.51.100.1:7463"));
        assert_eq!((rest[0].state, rest[0].last_try_ms), (CandidateState::Failed, Some(12_000)));
    }
}
