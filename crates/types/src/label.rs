//! Names of networks, workloads and groups are DNS labels, so that each can stand in a host name.

use core::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest label (RFC 1035 §2.3.4).
const LABEL_MAX: usize = 63;

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a name has 1 to 63 characters of a-z, 0-9 and `-`, with a letter or digit at both ends \
     (lower case, as in a host name)"
)]
pub struct LabelError;

/// A DNS label: a-z, 0-9 and hyphens, no hyphen at either end, at most 63 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Box<str>);

impl Label {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`LabelError`] unless it is a label in lower case.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let ends = !text.starts_with('-') && !text.ends_with('-');
        let ok = (1..=LABEL_MAX).contains(&text.len()) && ends && text.bytes().all(inner);
        if ok { Ok(Self(text.into())) } else { Err(LabelError) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Self::parse(text)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_what_dns_takes_in_lower_case() {
        let (most, more) = ("a".repeat(63), "a".repeat(64));
        for good in ["a", "0", "web", "web-1", "a--b", "xn--bcher-kva", most.as_str()] {
            assert_eq!(Label::parse(good).map(|label| label.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", "-", "-a", "a-", "A", "a.b", "a_b", "bücher", "a b", more.as_str()] {
            assert_eq!(Label::parse(bad), Err(LabelError), "{bad}");
        }
    }
}
