//! What a publisher may ask for as a host, and in which one spelling it is compared.

use crate::rules::Rules;

/// Shortest label below a gateway's domain, as on the grid.
pub const LABEL_MIN: usize = 3;
/// Longest label and name (RFC 1035 §2.3.4).
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 253;
/// What goes in front of a name for the proof that it is one's own.
const PROOF_LABEL: &str = "_sinew.";

/// Labels that nobody gets: what mail programs, browsers and certificate authorities take for the word of whoever
/// runs the domain (RFC 2142, and what such programs look up by themselves).
pub const RESERVED: &[&str] = &[
    "abuse",
    "acme",
    "admin",
    "administrator",
    "api",
    "autoconfig",
    "autodiscover",
    "broadcasthost",
    "dashboard",
    "dns",
    "ftp",
    "gateway",
    "hostmaster",
    "imap",
    "info",
    "invalid",
    "isatap",
    "local",
    "localdomain",
    "localhost",
    "mail",
    "mailer-daemon",
    "mta-sts",
    "noc",
    "ns1",
    "ns2",
    "ns3",
    "openpgpkey",
    "pop3",
    "postmaster",
    "root",
    "security",
    "sinew",
    "smtp",
    "ssladmin",
    "ssladministrator",
    "sslwebmaster",
    "status",
    "support",
    "sysadmin",
    "webmaster",
    "wpad",
    "www",
];

/// Why a host cannot be had by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadName {
    /// Too short below a gateway's domain.
    #[error("a name below the gateway's domain has at least 3 characters")]
    Short,
    /// Not a host name.
    #[error(
        "a host name is made of a-z, 0-9 and hyphens, no hyphen at either end of a label, at most 63 characters \
         between dots and 253 in all"
    )]
    Letters,
    /// Third and fourth character are hyphens, and it is not IDNA.
    #[error(
        "labels with hyphens in third and fourth place are for international names (xn--), and this is none"
    )]
    Idna,
    /// An address, or a single label.
    #[error("a host is a name with a dot in it, not an address")]
    NotAName,
    /// A star.
    #[error("hosts are published one by one, without `*`")]
    Wildcard,
    /// Kept for the operator.
    #[error("this name is reserved for whoever runs the gateway")]
    Reserved,
    /// Below the gateway's own domain, but not by its name.
    #[error(
        "names below the gateway's own domain are asked for as a single label, not as a domain of one's own"
    )]
    OwnDomain,
    /// Answered inside the mesh.
    #[error("this domain is answered inside the mesh and cannot be published")]
    Internal,
    /// The gateway has no domain.
    #[error("this gateway hands out no names: it has no domain of its own")]
    NoDomain,
}

/// A host that may be asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A label below the gateway's domain.
    Name(String),
    /// A domain of one's own, in full.
    Domain(String),
}

impl Host {
    /// Judges a host as a claim has it: a single label is a name below the gateway's domain, all else a domain of
    /// one's own.
    ///
    /// # Errors
    /// [`BadName`]: nobody gets it.
    pub fn parse(text: &str, rules: &Rules) -> Result<Self, BadName> {
        if text.contains('*') {
            return Err(BadName::Wildcard);
        }
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if text.len() > NAME_MAX {
            return Err(BadName::Letters);
        }
        text.split('.').try_for_each(label)?;
        if text.contains('.') { domain(text, rules) } else { name(text, rules) }
    }

    /// The host as clients write it.
    pub fn full(&self, rules: &Rules) -> String {
        match self {
            Self::Name(label) => format!("{label}.{}", rules.domain.as_deref().unwrap_or_default()),
            Self::Domain(full) => full.clone(),
        }
    }
}

fn name(label: String, rules: &Rules) -> Result<Host, BadName> {
    let Some(domain) = &rules.domain else { return Err(BadName::NoDomain) };
    if label.len() < LABEL_MIN {
        return Err(BadName::Short);
    }
    if RESERVED.contains(&label.as_str()) || rules.reserved.contains(&label) {
        return Err(BadName::Reserved);
    }
    if label.len() + 1 + domain.len() > NAME_MAX {
        return Err(BadName::Letters);
    }
    Ok(Host::Name(label))
}

fn domain(full: String, rules: &Rules) -> Result<Host, BadName> {
    let last = full.rsplit('.').next().unwrap_or_default();
    // No top-level domain is a number, so that an IPv4 address is none.
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadName::NotAName);
    }
    if rules.domain.as_deref().is_some_and(|own| below(&full, own)) {
        return Err(BadName::OwnDomain);
    }
    if rules.internal.iter().any(|zone| below(&full, zone)) || full.ends_with(".localhost") {
        return Err(BadName::Internal);
    }
    if PROOF_LABEL.len() + full.len() > NAME_MAX {
        return Err(BadName::Letters);
    }
    Ok(Host::Domain(full))
}

/// Whether a name is a zone or lies in it.
fn below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

fn label(text: &str) -> Result<(), BadName> {
    let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let bounds = (1..=LABEL_MAX).contains(&text.len());
    if !letters || !bounds || text.starts_with('-') || text.ends_with('-') {
        return Err(BadName::Letters);
    }
    if text.get(2..4) == Some("--") && !international(text) {
        return Err(BadName::Idna);
    }
    Ok(())
}

/// Whether an `xn--` label is the one spelling of a name that IDNA allows.
fn international(label: &str) -> bool {
    let (unicode, verdict) = idna::domain_to_unicode(label);
    verdict.is_ok()
        && !unicode.is_ascii()
        && idna::domain_to_ascii_strict(&unicode).is_ok_and(|again| again == label)
}

/// Where the proof of a domain is looked up.
pub(crate) fn proof_name(fqdn: &str) -> String {
    format!("{PROOF_LABEL}{fqdn}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::rules;

    #[test]
    fn hosts_that_may_be_asked_for_and_those_that_may_not() {
        let name = |text: &str| Ok(Host::Name(text.to_owned()));
        let domain = |text: &str| Ok(Host::Domain(text.to_owned()));
        let long = "a".repeat(63);
        for (text, expected) in [
            ("app", name("app")),
            ("App", name("app")),
            ("a-1", name("a-1")),
            ("xn--bcher-kva", name("xn--bcher-kva")),
            (&long, name(&long)),
            ("ab", Err(BadName::Short)),
            ("", Err(BadName::Letters)),
            ("-app", Err(BadName::Letters)),
            ("app-", Err(BadName::Letters)),
            ("a_b", Err(BadName::Letters)),
            ("bücher", Err(BadName::Letters)),
            (&format!("{long}a"), Err(BadName::Letters)),
            ("ab--cd", Err(BadName::Idna)),
            ("xn--", Err(BadName::Letters)),
            ("xn--a", Err(BadName::Idna)),
            ("xn--app-", Err(BadName::Letters)),
            ("xn--zzzzzzzzz99999", Err(BadName::Idna)),
            ("www", Err(BadName::Reserved)),
            ("ADMIN", Err(BadName::Reserved)),
            ("postmaster", Err(BadName::Reserved)),
            ("billing", Err(BadName::Reserved)),
            ("*", Err(BadName::Wildcard)),
            ("*.example.org", Err(BadName::Wildcard)),
            ("app.example.org", domain("app.example.org")),
            ("App.Example.ORG.", domain("app.example.org")),
            ("example.org", domain("example.org")),
            ("gw.test", Err(BadName::OwnDomain)),
            ("app.gw.test", Err(BadName::OwnDomain)),
            ("a.b.gw.test.", Err(BadName::OwnDomain)),
            ("notgw.test", domain("notgw.test")),
            ("web.sinew.internal", Err(BadName::Internal)),
            ("x.localhost", Err(BadName::Internal)),
            ("192.0.2.1", Err(BadName::NotAName)),
            ("a.1", Err(BadName::NotAName)),
            ("a..b", Err(BadName::Letters)),
            (".", Err(BadName::Letters)),
            ("a b.org", Err(BadName::Letters)),
            ("[2001:db8::1]", Err(BadName::Letters)),
            (&format!("{}org", "a.".repeat(126)), Err(BadName::Letters)),
        ] {
            assert_eq!(Host::parse(text, &rules()), expected, "{text:?}");
        }
    }

    #[test]
    fn without_a_domain_there_are_no_names() {
        let rules = Rules { domain: None, ..rules() };
        assert_eq!(Host::parse("app", &rules), Err(BadName::NoDomain));
        assert!(Host::parse("app.example.org", &rules).is_ok());
    }

    #[test]
    fn every_reserved_label_is_one_that_could_be_asked_for() {
        for label in RESERVED {
            assert!(label.len() >= LABEL_MIN && super::label(label).is_ok(), "{label}");
        }
        assert!(RESERVED.is_sorted());
    }
}
