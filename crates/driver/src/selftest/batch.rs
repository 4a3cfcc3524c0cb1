//! Datagrams that are told apart from each other and from everybody else's.

/// Length of each datagram but the last, bytes.
pub(super) const SIZE: usize = 400;
/// Bytes at the front of each that only this batch has.
const TAG: usize = 4;
/// Stands where other datagrams have their number.
const MARKER: u8 = 0xff;

/// A batch and what it has to come out as.
#[derive(Debug)]
pub(super) struct Batch {
    tag: [u8; TAG],
    datagrams: Vec<Vec<u8>>,
}

/// In which way it did not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Part of it, or all.
    Missing(String),
    /// Something else came.
    Wrong(String),
}

impl Batch {
    /// `count` datagrams (at most 128), the last one with `last` bytes (6 to [`SIZE`]).
    pub(super) fn new(count: usize, last: usize) -> Self {
        let mut tag = [0; TAG];
        // Without randomness the tags are all alike: a late datagram may then be taken for one of the
        // next batch.
        let _ = getrandom::fill(&mut tag);
        let datagram = |number: usize| {
            let len = if number + 1 == count { last } else { SIZE };
            let pattern = (TAG + 1..len).map(|at| (at * 7 + number * 13 + at / 251) as u8);
            tag.into_iter().chain([number as u8]).chain(pattern).collect()
        };
        Self { tag, datagrams: (0..count).map(datagram).collect() }
    }

    /// All of it, end to end.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.datagrams.concat()
    }

    /// The datagram that follows it.
    pub(super) fn marker(&self) -> Vec<u8> {
        self.tag.into_iter().chain([MARKER]).collect()
    }

    pub(super) fn is_marker(&self, datagram: &[u8]) -> bool {
        datagram == self.marker()
    }

    /// Adds a datagram to `got` if it belongs to this batch.
    pub(super) fn keep(&self, datagram: &[u8], got: &mut Vec<Vec<u8>>) {
        if datagram.starts_with(&self.tag) {
            got.push(datagram.to_vec());
        }
    }

    /// Whether what came is the batch.
    pub(super) fn compare(&self, got: &[Vec<u8>]) -> Result<(), Fault> {
        let count = self.datagrams.len();
        let strange = got.iter().enumerate().find(|(_, one)| !self.datagrams.contains(one));
        if let Some((number, datagram)) = strange {
            return Err(Fault::Wrong(match self.datagrams.get(number) {
                Some(sent) if sent.len() != datagram.len() => format!(
                    "datagram {number} of a batch of {count} had {} bytes instead of {}",
                    datagram.len(),
                    sent.len()
                ),
                Some(_) => format!("datagram {number} of a batch of {count} came with other bytes"),
                None => format!("more came out than a batch of {count} datagrams"),
            }));
        }
        match got.len() {
            _ if got == self.datagrams => Ok(()),
            0 => Err(Fault::Missing(format!("a batch of {count} datagrams was lost, single ones pass"))),
            came if came < count => {
                Err(Fault::Missing(format!("{came} of a batch of {count} datagrams came")))
            }
            _ => Err(Fault::Wrong(format!("a batch of {count} datagrams came in another order"))),
        }
    }
}
