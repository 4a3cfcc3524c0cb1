//! Bandwidth as operators write it, and as bytes per second inside.

use core::fmt;
use core::str::FromStr;

/// A bandwidth: a whole number of kbit/s, from [`Rate::MIN`] to [`Rate::MAX`].
///
/// Written as number and unit: `"64 kbit/s"`, `"20 Mbit/s"`, `"2.5 Gbit/s"`. Thousands, not 1,024s, as
/// networks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate {
    kbit: u64,
}

/// Why a text is no [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateError {
    /// No number with one of the units behind it.
    Form,
    /// A part of a kbit/s.
    Fraction,
    /// Less than [`Rate::MIN`], or more than [`Rate::MAX`].
    Range,
}

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("is no bandwidth"),
            Self::Fraction => f.write_str("is no whole number of kbit/s"),
            Self::Range => write!(f, "is not from {} to {}", Rate::MIN, Rate::MAX),
        }
    }
}

impl core::error::Error for RateError {}

/// The units with their kbit/s, largest first.
const UNITS: [(&str, u64); 3] = [("Gbit/s", 1_000_000), ("Mbit/s", 1_000), ("kbit/s", 1)];
/// Bytes in a kbit.
const KBIT: u64 = 125;

impl Rate {
    /// Below this not even the upkeep of a mesh would find room beside traffic.
    pub const MIN: Self = Self { kbit: 64 };
    /// A number that no machine reaches, small enough that sums of it fit.
    pub const MAX: Self = Self { kbit: 1_000_000_000 };

    /// In bytes.
    pub const fn bytes_per_second(self) -> u64 {
        self.kbit * KBIT
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let unit =
            |(unit, kbit): (&str, u64)| text.strip_suffix(unit).map(|number| (number.trim_end(), kbit));
        let (number, unit) = UNITS.into_iter().find_map(unit).ok_or(RateError::Form)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) {
            return Err(RateError::Form);
        }
        let whole = whole.parse::<u64>().map_err(|_| RateError::Range)?;
        let part = part.trim_end_matches('0');
        let scale = 10u64.checked_pow(part.len() as u32).ok_or(RateError::Fraction)?;
        // What is left of the digits is the number itself: too long to fit is far below a kbit.
        let part = if part.is_empty() { 0 } else { part.parse::<u64>().map_err(|_| RateError::Fraction)? };
        let part = part.checked_mul(unit).filter(|part| part.is_multiple_of(scale));
        let part = part.ok_or(RateError::Fraction)? / scale;
        let kbit = whole.checked_mul(unit).and_then(|kbit| kbit.checked_add(part)).ok_or(RateError::Range)?;
        let rate = Self { kbit };
        if (Self::MIN..=Self::MAX).contains(&rate) { Ok(rate) } else { Err(RateError::Range) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = UNITS.into_iter().find(|&(_, unit)| self.kbit >= unit).unwrap_or(("kbit/s", 1));
        let (whole, part) = (self.kbit / unit, self.kbit % unit);
        if part == 0 {
            return write!(f, "{whole} {name}");
        }
        let width = unit.ilog10() as usize;
        let part = format!("{part:0width$}");
        write!(f, "{whole}.{} {name}", part.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_write_is_bytes_per_second_and_is_shown_shortest() {
        for (text, bytes, shown) in [
            ("64 kbit/s", 8_000, "64 kbit/s"),
            ("20 Mbit/s", 2_500_000, "20 Mbit/s"),
            ("20Mbit/s", 2_500_000, "20 Mbit/s"),
            ("1.5 Mbit/s", 187_500, "1.5 Mbit/s"),
            ("1500 kbit/s", 187_500, "1.5 Mbit/s"),
            ("2.500 Gbit/s", 312_500_000, "2.5 Gbit/s"),
            ("1.000001 Gbit/s", 125_000_125, "1.000001 Gbit/s"),
            ("1000 Gbit/s", 125_000_000_000, "1000 Gbit/s"),
        ] {
            let rate: Rate = text.parse().unwrap_or_else(|error| panic!("{text} {error}"));
            assert_eq!(rate.bytes_per_second(), bytes, "{text}");
            assert_eq!(rate.to_string(), shown);
            assert_eq!(shown.parse(), Ok(rate));
        }
    }

    #[test]
    fn what_is_no_bandwidth_is_refused_with_its_reason() {
        for (text, error) in [
            ("", RateError::Form),
            ("20", RateError::Form),
            ("20 mbit/s", RateError::Form),
            ("20 MB/s", RateError::Form),
            ("Mbit/s", RateError::Form),
            ("-5 Mbit/s", RateError::Form),
            ("1e3 Mbit/s", RateError::Form),
            (". Mbit/s", RateError::Form),
            ("1. Mbit/s", RateError::Form),
            ("64.5 kbit/s", RateError::Fraction),
            ("1.0001 Mbit/s", RateError::Fraction),
            ("1.00000000000000000000001 Mbit/s", RateError::Fraction),
            ("63 kbit/s", RateError::Range),
            ("0 Mbit/s", RateError::Range),
            ("1001 Gbit/s", RateError::Range),
            ("99999999999999999999 Gbit/s", RateError::Range),
            ("99999999999999 Gbit/s", RateError::Range),
        ] {
            assert_eq!(text.parse::<Rate>(), Err(error), "{text}");
        }
    }
}
