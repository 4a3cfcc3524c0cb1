//! When a crowd has gone: the moment to give back the memory that it took.

/// From how many connections on it is a crowd: some 30 MiB.
const CROWD: u64 = 1000;
/// It has gone when one of so many is left.
const LEFT: u64 = 4;

/// The most connections since memory was given back.
#[derive(Debug, Default)]
pub(super) struct Tide(u64);

impl Tide {
    /// Takes note of how many connections are open; whether a crowd has just gone.
    pub(super) fn is_out(&mut self, open: u64) -> bool {
        self.0 = self.0.max(open);
        let out = self.0 >= CROWD && open <= self.0 / LEFT;
        if out {
            self.0 = open;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_goes_is_noticed_once() {
        let mut tide = Tide::default();
        let noticed: Vec<_> = [10, 900, 10, 4000, 2000, 1001, 1000, 10, 0, 1200, 300]
            .into_iter()
            .filter(|open| tide.is_out(*open))
            .collect();
        assert_eq!(noticed, [1000, 10, 300]);
    }
}
