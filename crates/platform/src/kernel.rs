//! Which Linux this is, where a fault of some versions cannot be found out by trying.

/// A kernel's version, without what distributions append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// As in `major`.minor.patch.
    pub major: u16,
    /// As in major.`minor`.patch.
    pub minor: u16,
    /// As in major.minor.`patch`.
    pub patch: u16,
}

impl KernelVersion {
    /// Reads `uname -r`, such as `7.1.3-ubuntu`; what is missing counts as 0. `None` if it does not
    /// begin with a number, a dot and a number.
    pub fn parse(release: &str) -> Option<Self> {
        let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
        let mut numbers = release[..end].split('.').map(|number| number.parse::<u16>().ok());
        let (major, minor) = (numbers.next()??, numbers.next()??);
        Some(Self { major, minor, patch: numbers.next().flatten().unwrap_or(0) })
    }

    /// Of the running kernel.
    pub fn running() -> Option<Self> {
        // SAFETY: an all-zero utsname is valid, `uname` fills it with strings that end in NUL, and the
        // array outlives the borrow.
        let release = unsafe {
            let mut name: libc::utsname = std::mem::zeroed();
            if libc::uname(&mut name) != 0 {
                return None;
            }
            std::ffi::CStr::from_ptr(name.release.as_ptr()).to_string_lossy().into_owned()
        };
        Self::parse(&release)
    }

    /// Whether UDP segmentation corrupts batches of equally long datagrams: Linux 7.0 to 7.1.4. The
    /// fault shows behind some network devices only, never on the loopback, so no test at start can
    /// find it.
    pub fn corrupts_udp_segments(self) -> bool {
        let version = (self.major, self.minor, self.patch);
        ((7, 0, 0)..=(7, 1, 4)).contains(&version)
    }
}

impl std::fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_corrupt_udp_segments_are_known_by_their_version() {
        for (release, version, corrupts) in [
            ("6.18.44-fc-v657", "6.18.44", false),
            ("6.99.99", "6.99.99", false),
            ("7.0.0", "7.0.0", true),
            ("7.0", "7.0.0", true),
            ("7.0-rc1", "7.0.0", true),
            ("7.0.0-14-generic", "7.0.0", true),
            ("7.0.31", "7.0.31", true),
            ("7.1.3-ubuntu", "7.1.3", true),
            ("7.1.3+", "7.1.3", true),
            ("7.1.4", "7.1.4", true),
            ("7.1.4-200.fc44.x86_64", "7.1.4", true),
            ("7.1.5", "7.1.5", false),
            ("7.1.10", "7.1.10", false),
            ("7.2.0", "7.2.0", false),
            ("8.0.1", "8.0.1", false),
        ] {
            let parsed = KernelVersion::parse(release).expect(release);
            assert_eq!((parsed.to_string().as_str(), parsed.corrupts_udp_segments()), (version, corrupts));
        }
    }

    #[test]
    fn what_is_no_version_is_none() {
        for release in ["", "7", "linux", "x7.1.2", ".1.2", "7..2", "99999.1.2"] {
            assert_eq!(KernelVersion::parse(release), None, "{release}");
        }
    }

    #[test]
    fn the_running_kernel_has_a_version() {
        assert!(KernelVersion::running().is_some_and(|version| version.major >= 3));
    }
}
