//! Attackers on a link: what somebody can do who sees and touches datagrams but has no key, and
//! what a relay can do to the bodies that it carries.

use sinew_types::Rng;
use sinew_wire::routed::MSG_ROUTED;

use crate::link::chance;

/// Datagrams remembered for a replay.
const MEMORY: usize = 256;
/// Clear header, sealed header, head of the body, tag: behind them a relay may write what it likes
/// and the next link accepts it, but for the last 16 bytes.
const ROUTED_FRONT: usize = 92;
const GUARDED_END: usize = 16;

/// What the attacker does to the datagrams of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Flips a bit anywhere.
    Alter {
        /// How often, millionths.
        chance: u64,
    },
    /// Flips a bit of a routed body where no link's key protects it: what a relay that alters
    /// packets does.
    AlterBody {
        /// How often, millionths.
        chance: u64,
    },
    /// Cuts datagrams short.
    Truncate {
        /// How often, millionths.
        chance: u64,
    },
    /// Sends an old datagram again.
    Replay {
        /// How often, millionths.
        chance: u64,
        /// Those it has seen.
        memory: Vec<Vec<u8>>,
    },
    /// Sends the datagram back to its sender.
    Reflect {
        /// How often, millionths.
        chance: u64,
    },
    /// Sends random bytes.
    Noise {
        /// How often, millionths.
        chance: u64,
    },
}

/// What the attacker sends besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Injected {
    /// To where the datagram was going.
    pub(crate) onward: Option<Vec<u8>>,
    /// To its sender.
    pub(crate) back: Option<Vec<u8>>,
}

impl Attack {
    /// One datagram passes; it may leave changed, and others with it.
    pub(crate) fn touch(&mut self, bytes: &mut Vec<u8>, rng: &mut Rng) -> Injected {
        let mut injected = Injected::default();
        match self {
            Self::Alter { chance: often } => {
                if chance(*often, rng) {
                    let end = bytes.len();
                    flip(bytes, 0, end, rng);
                }
            }
            Self::AlterBody { chance: often } => {
                let end = bytes.len().saturating_sub(GUARDED_END);
                if bytes.first() == Some(&MSG_ROUTED) && end > ROUTED_FRONT && chance(*often, rng) {
                    flip(bytes, ROUTED_FRONT, end, rng);
                }
            }
            Self::Truncate { chance: often } => {
                if chance(*often, rng) {
                    bytes.truncate(rng.below(bytes.len() as u64) as usize);
                }
            }
            Self::Replay { chance: often, memory } => {
                if chance(*often, rng) && !memory.is_empty() {
                    injected.onward = Some(memory[rng.below(memory.len() as u64) as usize].clone());
                }
                if memory.len() < MEMORY {
                    memory.push(bytes.clone());
                } else {
                    memory[rng.below(MEMORY as u64) as usize] = bytes.clone();
                }
            }
            Self::Reflect { chance: often } => {
                injected.back = chance(*often, rng).then(|| bytes.clone());
            }
            Self::Noise { chance: often } => {
                if chance(*often, rng) {
                    let mut noise = vec![0; rng.below(300) as usize + 1];
                    rng.fill(&mut noise);
                    // Half of them with a type that exists.
                    if rng.below(2) == 0 {
                        noise[0] = rng.below(8) as u8;
                    }
                    injected.onward = Some(noise);
                }
            }
        }
        injected
    }
}

fn flip(bytes: &mut [u8], from: usize, to: usize, rng: &mut Rng) {
    if let Some(byte) = bytes.get_mut(from + rng.below((to - from) as u64) as usize) {
        *byte ^= 1 << rng.below(8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: u64 = 1_000_000;

    #[test]
    fn an_altered_body_keeps_its_front_and_its_end() {
        let mut attack = Attack::AlterBody { chance: ALWAYS };
        let mut rng = Rng::new([1; 32]);
        let original = [vec![MSG_ROUTED], vec![0; 199]].concat();
        for _ in 0..100 {
            let mut bytes = original.clone();
            attack.touch(&mut bytes, &mut rng);
            let at = bytes.iter().zip(&original).position(|(a, b)| a != b).unwrap();
            assert!((ROUTED_FRONT..200 - GUARDED_END).contains(&at));
        }
        let mut short = vec![MSG_ROUTED; ROUTED_FRONT];
        attack.touch(&mut short, &mut rng);
        assert_eq!(short, vec![MSG_ROUTED; ROUTED_FRONT]);
    }

    #[test]
    fn a_replay_sends_what_was_seen_and_a_reflection_what_is_there() {
        let mut rng = Rng::new([1; 32]);
        let mut replay = Attack::Replay { chance: ALWAYS, memory: Vec::new() };
        assert_eq!(replay.touch(&mut vec![1], &mut rng), Injected::default());
        assert_eq!(replay.touch(&mut vec![2], &mut rng).onward, Some(vec![1]));
        let mut reflect = Attack::Reflect { chance: ALWAYS };
        assert_eq!(reflect.touch(&mut vec![3], &mut rng).back, Some(vec![3]));
    }
}
