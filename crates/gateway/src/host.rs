//! Host names as clients write them, in the one spelling that is compared.

/// The longest host name, in bytes (RFC 1035, 2.3.4, without the final dot).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// A host name in lower case, without a final dot; `None` for what is none. Underscores are let
/// through because names with them exist. Addresses are names of this shape too.
pub fn normal(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() || text.len() > NAME_MAX {
        return None;
    }
    text.split('.').all(label_ok).then(|| text.to_ascii_lowercase())
}

fn label_ok(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=LABEL_MAX).contains(&label.len())
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The host part of an authority (`host`, `host:port`, `[v6]:port`), in the one spelling, and the
/// port. `None` for anything else; with user information it is something else.
pub fn of_authority(authority: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: std::net::Ipv6Addr = address.parse().ok()?;
        let port = if port.is_empty() { None } else { Some(port_of(port.strip_prefix(':')?)?) };
        return Some((format!("[{address}]"), port));
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((normal(host)?, Some(port_of(port)?))),
        None => Some((normal(authority)?, None)),
    }
}

fn port_of(text: &str) -> Option<u16> {
    // `parse` takes a sign, which a port has not.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_every_way_to_write_a_host() {
        for (text, expected) in [
            ("App.Example.ORG", Some("app.example.org")),
            ("app.example.org.", Some("app.example.org")),
            ("a_b.example", Some("a_b.example")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-a.b", None),
            ("a/b", None),
            ("a\0b", None),
            ("bücher.example", None),
        ] {
            assert_eq!(normal(text).as_deref(), expected, "{text:?}");
        }
        assert_eq!(normal(&"a.".repeat(127)).map(|name| name.len()), Some(253));
        assert_eq!(normal(&"a.".repeat(128)), None);
        assert_eq!(normal(&"a".repeat(64)), None);
    }

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for (text, expected) in [
            ("a.example:8443", Some(("a.example", Some(8443)))),
            ("a.example", Some(("a.example", None))),
            ("[2001:DB8::1]:443", Some(("[2001:db8::1]", Some(443)))),
            ("[::1]", Some(("[::1]", None))),
            ("a.example:", None),
            ("a.example:+1", None),
            ("a.example:70000", None),
            ("user@a.example", None),
            ("a.example:80:80", None),
            ("[::1]x", None),
            ("a b", None),
        ] {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(of_authority(text), expected, "{text:?}");
        }
    }
}
