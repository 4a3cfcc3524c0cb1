//! Numbers as people read them; `-` for what is not known.

/// Milliseconds of a round trip: `0.42 ms`, `12.3 ms`, `1.20 s`.
pub(crate) fn rtt(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 9.995 => format!("{ms:.2} ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.1} ms"),
        Some(ms) => format!("{:.2} s", ms / 1000.0),
    }
}

/// How long something lasts: the two largest units.
pub(crate) fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// [`age`] of something that may not be known.
pub(crate) fn maybe_age(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), age)
}

/// Bytes with a binary prefix.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Bytes per second.
pub(crate) fn rate(per_second: u64) -> String {
    format!("{}/s", bytes(per_second))
}

/// A share from 0 to 1.
pub(crate) fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// A cost or count with its unit, if known.
pub(crate) fn maybe(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// Text from other nodes, made harmless for a terminal: names could carry control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The beginning of a node id, enough to tell nodes apart and to name one as TARGET.
pub(crate) fn short(node: &str) -> String {
    node.chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_at_every_size() {
        for (ms, text) in [
            (0.0, "0.00 ms"),
            (0.4239, "0.42 ms"),
            (9.996, "10.0 ms"),
            (120.0, "120.0 ms"),
            (1200.0, "1.20 s"),
        ] {
            assert_eq!(rtt(Some(ms)), text);
        }
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (59_999, "59s"),
            (61_000, "1m 1s"),
            (3_600_000, "1h 0m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(age(ms), text);
        }
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1.0 MiB"), (u64::MAX, "16.0 EiB")]
        {
            assert_eq!(bytes(count), text);
        }
        assert_eq!((share(Some(0.005)), share(None)), ("0.5 %".to_owned(), "-".to_owned()));
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
