//! The number under which two neighbours speak routing (protocol A3).
//!
//! Both sides propose "last number + 1"; of two proposals the higher one wins, equal ones agree at
//! once. A number is never used twice within an association, so a routing frame or a routed record
//! of an earlier adjacency can always be told from one of this.
//!
//! ```text
//!  Closed(last) ──way in is wide, both want it──▶ Opening(n) ──ADJ_ACK n │ ADJ_OPEN n──▶ Open(n)
//!       ▲                                             │ the same, and our                │
//!       │                                             │ path not yet validated           │
//!       │                                             └──────▶ Agreed(n) ──validated──▶──┤
//!       └─────────────── last direct path dead │ ADJ_CLOSE n │ ADJ_OPEN m > n ───────────┘
//! ```
//! A side proposes as soon as a record of full size has reached it, and agrees when one of its own
//! has been answered (protocol A4): so the proof of the path's width costs no round trip of its own.

use sinew_wire::request::Request;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Opening(u8),
    /// The peer is content with our number; we are not yet with our path.
    Agreed(u8),
    Open(u8),
}

/// What follows from an input, for the association to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Send(Request),
    Up(u8),
    Down(u8),
}

/// One side of the agreement.
#[derive(Debug)]
pub(crate) struct Adjacency {
    state: State,
    /// The highest number used so far.
    last: u8,
    /// What the peer proposed while we could not agree.
    offered: Option<u8>,
}

/// Numbers wrap; half the circle is "later".
const fn later(a: u8, b: u8) -> bool {
    a != b && a.wrapping_sub(b) < 128
}

/// 0 means "no adjacency" on the wire.
const fn successor(number: u8) -> u8 {
    if number == u8::MAX { 1 } else { number + 1 }
}

impl Adjacency {
    pub(crate) const fn new() -> Self {
        Self { state: State::Closed, last: 0, offered: None }
    }

    /// The open adjacency's number.
    pub(crate) const fn number(&self) -> Option<u8> {
        match self.state {
            State::Open(number) => Some(number),
            _ => None,
        }
    }

    /// Whether [`Adjacency::open`] has something to do once all conditions hold.
    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Closed | State::Agreed(_))
    }

    /// Some conditions hold: propose. All do (`ready`): agree to what was offered meanwhile.
    pub(crate) fn open(&mut self, ready: bool) -> Vec<Step> {
        let offer = match self.state {
            State::Opening(_) | State::Open(_) => return Vec::new(),
            State::Agreed(number) => Some(number),
            State::Closed => self.offered.filter(|&offer| later(offer, self.last)),
        };
        match offer {
            Some(offer) if ready => return self.agree(offer),
            // Its turn comes with our path's.
            Some(_) => return Vec::new(),
            None => self.offered = None,
        }
        let number = successor(self.last);
        self.last = number;
        self.state = State::Opening(number);
        vec![Step::Send(Request::AdjOpen { adj: number })]
    }

    /// The conditions do not hold any more. `tell`: the peer can be told.
    pub(crate) fn close(&mut self, tell: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        if let State::Open(number) = self.state {
            steps.push(Step::Down(number));
        }
        // Also a proposal is withdrawn: the peer may have agreed to it meanwhile.
        let told = match self.state {
            State::Open(number) | State::Opening(number) | State::Agreed(number) => Some(number),
            State::Closed => None,
        };
        if let Some(number) = told.filter(|_| tell) {
            steps.push(Step::Send(Request::AdjClose { adj: number }));
        }
        self.state = State::Closed;
        steps
    }

    fn agree(&mut self, number: u8) -> Vec<Step> {
        self.last = number;
        self.state = State::Open(number);
        self.offered = None;
        vec![Step::Send(Request::AdjAck { adj: number }), Step::Up(number)]
    }

    /// ADJ_OPEN arrived. `ready`: a validated direct path exists and we want it.
    pub(crate) fn on_open(&mut self, number: u8, ready: bool) -> Vec<Step> {
        if number == 0 {
            return Vec::new();
        }
        let mut steps = Vec::new();
        match self.state {
            // The same number again: our acknowledgement crossed theirs.
            State::Open(open) if open == number => return steps,
            // The peer closed and starts anew.
            State::Open(open) if later(number, open) => steps = self.close(false),
            State::Opening(ours) | State::Agreed(ours) if number == ours => {
                if ready {
                    return self.agree(number);
                }
                self.state = State::Agreed(number);
                return steps;
            }
            State::Opening(_) | State::Agreed(_) | State::Closed if later(number, self.last) => {}
            // Below ours: it will be answered by our own proposal.
            _ => return steps,
        }
        if ready {
            steps.extend(self.agree(number));
        } else {
            self.state = State::Closed;
            self.offered = Some(number);
        }
        steps
    }

    /// ADJ_ACK arrived. `ready`: as for [`Adjacency::on_open`].
    pub(crate) fn on_ack(&mut self, number: u8, ready: bool) -> Vec<Step> {
        if self.state != State::Opening(number) {
            return Vec::new();
        }
        if !ready {
            self.state = State::Agreed(number);
            return Vec::new();
        }
        self.state = State::Open(number);
        vec![Step::Up(number)]
    }

    /// ADJ_CLOSE arrived.
    pub(crate) fn on_close(&mut self, number: u8) -> Vec<Step> {
        self.offered.take_if(|offer| *offer == number);
        match self.state {
            State::Open(open) | State::Agreed(open) if open == number => self.close(false),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(steps: &[Step]) -> Vec<Request> {
        let requests =
            steps.iter().filter_map(|s| if let Step::Send(r) = s { Some(r.clone()) } else { None });
        requests.collect()
    }

    fn deliver(to: &mut Adjacency, requests: Vec<Request>) -> Vec<Request> {
        let steps = requests.into_iter().flat_map(|request| match request {
            Request::AdjOpen { adj } => to.on_open(adj, true),
            Request::AdjAck { adj } => to.on_ack(adj, true),
            Request::AdjClose { adj } => to.on_close(adj),
            _ => Vec::new(),
        });
        sent(&steps.collect::<Vec<_>>())
    }

    fn settle(a: &mut Adjacency, b: &mut Adjacency, mut to_b: Vec<Request>, mut to_a: Vec<Request>) {
        for _ in 0..8 {
            let from_b = deliver(b, core::mem::take(&mut to_b));
            let from_a = deliver(a, core::mem::take(&mut to_a));
            (to_a, to_b) = (from_b, from_a);
        }
        assert!(to_a.is_empty() && to_b.is_empty());
    }

    #[test]
    fn one_proposal_crossing_proposals_and_unequal_ones_all_end_in_the_higher_number() {
        for (last_a, last_b, both) in
            [(0, 0, false), (0, 0, true), (4, 9, true), (9, 4, true), (254, 254, true)]
        {
            let (mut a, mut b) = (Adjacency::new(), Adjacency::new());
            (a.last, b.last) = (last_a, last_b);
            let to_b = sent(&a.open(true));
            let to_a = if both { sent(&b.open(true)) } else { Vec::new() };
            settle(&mut a, &mut b, to_b, to_a);
            assert_eq!(a.number(), Some(successor(last_a.max(last_b))));
            assert_eq!(a.number(), b.number());
        }
    }

    #[test]
    fn numbers_wrap_past_zero_and_stay_comparable() {
        assert_eq!((successor(255), successor(0)), (1, 1));
        assert!(later(1, 255) && !later(255, 1) && !later(7, 7));
    }

    #[test]
    fn reopening_closes_the_old_number_on_a_side_that_had_not_noticed() {
        let (mut a, mut b) = (Adjacency::new(), Adjacency::new());
        let proposal = sent(&a.open(true));
        settle(&mut a, &mut b, proposal, Vec::new());
        assert_eq!(a.close(false), [Step::Down(1)]);
        let proposal = sent(&a.open(true));
        assert_eq!(proposal, [Request::AdjOpen { adj: 2 }]);
        assert_eq!(b.on_open(2, true), [Step::Down(1), Step::Send(Request::AdjAck { adj: 2 }), Step::Up(2)]);
    }

    #[test]
    fn a_proposal_waits_for_our_own_direct_path() {
        let mut b = Adjacency::new();
        assert!(b.on_open(5, false).is_empty());
        assert_eq!(b.open(true), [Step::Send(Request::AdjAck { adj: 5 }), Step::Up(5)]);
    }

    #[test]
    fn nothing_opens_before_our_own_path_has_shown_its_width_whoever_agrees_first() {
        for answer in [Adjacency::on_open, Adjacency::on_ack] {
            let mut a = Adjacency::new();
            assert_eq!(a.open(false), [Step::Send(Request::AdjOpen { adj: 1 })]);
            assert!(answer(&mut a, 1, false).is_empty());
            assert!(a.open(false).is_empty());
            assert_eq!(a.number(), None);
            assert_eq!(a.open(true), [Step::Send(Request::AdjAck { adj: 1 }), Step::Up(1)]);
        }
        let mut b = Adjacency::new();
        b.on_open(1, false);
        assert!(b.open(false).is_empty(), "an offer is not answered by another");
        b.on_close(1);
        assert_eq!(b.open(true), [Step::Send(Request::AdjOpen { adj: 1 })], "it was withdrawn");
    }

    #[test]
    fn a_number_is_never_agreed_on_twice() {
        let mut b = Adjacency::new();
        b.on_open(5, true);
        b.close(false);
        assert!(b.on_open(5, true).is_empty(), "replayed or crossed");
        assert_eq!(sent(&b.open(true)), [Request::AdjOpen { adj: 6 }]);
    }
}
