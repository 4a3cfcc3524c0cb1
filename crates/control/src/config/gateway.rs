//! `[gateway]`: this node serves services of private networks to people outside.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use sinew_types::NodeId;

use super::Listen;
use super::check::{file_path, is_label, name_servers, overlap, sockets};
use super::diagnose::Problems;
use super::schema::{self, WordOrList};

/// Names that one network may hold, unless the file says otherwise.
const PER_NETWORK: u32 = 10;
/// Most that the file may say.
const PER_NETWORK_MAX: i64 = 1000;
/// How long requests may take to finish at the end, unless the file says otherwise, seconds.
const GRACE: u32 = 20;
const GRACE_MAX: i64 = 3600;
/// Ports that a process without privileges may have begin here.
const UNPRIVILEGED: u16 = 1024;
/// Ports of one kind: each is a socket.
const PORTS_MAX: u32 = 10_000;
/// The authority, unless the file says otherwise.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Gateways of one domain.
const FOLLOWERS_MAX: usize = 64;
/// Longest domain: a name of 63 characters and a dot go in front.
const DOMAIN_MAX: usize = 253 - 64;
/// Folders that hold other programs' files, too. Files are made anew in the log's folder, so it needs one of
/// its own.
const SHARED: &[&str] = &[
    "/", "/etc", "/home", "/root", "/run", "/srv", "/tmp", "/usr", "/var", "/var/lib", "/var/log", "/var/tmp",
];

/// `[gateway]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Names are handed out below it; none: only own domains and ports.
    pub domain: Option<String>,
    /// The gateway that decides on these names; none: this one does.
    pub registrar: Option<NodeId>,
    /// Gateways that may ask this one whose the names are.
    pub followers: Vec<NodeId>,
    /// Where TLS comes in.
    pub https: Vec<SocketAddr>,
    /// Where plain HTTP comes in.
    pub http: Vec<SocketAddr>,
    /// Ports for services over TCP, first and last.
    pub tcp_ports: Option<(u16, u16)>,
    /// Ports for services over UDP.
    pub udp_ports: Option<(u16, u16)>,
    /// Certificates from files.
    pub certificates: Vec<CertificateFiles>,
    /// Whom certificates are ordered from, for hosts that no file covers; none: they have none.
    pub acme: Option<Acme>,
    /// Whose services are taken.
    pub accept: PublishAccept,
    /// Names and ports that one network may have.
    pub per_network: u32,
    /// Labels that nobody gets.
    pub reserved: Vec<String>,
    /// Proxies in front: their word about clients counts.
    pub proxies: Vec<String>,
    /// They begin their connections with a `PROXY` header.
    pub proxy_protocol: bool,
    /// Who is asked for TXT records; nobody listed: the host's own resolvers.
    pub resolvers: Vec<SocketAddr>,
    /// Where requests are noted.
    pub log: AccessLog,
    /// How long requests may take to finish at the end, seconds.
    pub grace: u32,
}

impl Gateway {
    /// The addresses of `https` that are addresses of `[listen] wss` too.
    pub fn shared(&self, listen: &Listen) -> Vec<SocketAddr> {
        self.https.iter().filter(|address| listen.wss.contains(address)).copied().collect()
    }
}

/// `[gateway.acme]`: an authority by RFC 8555.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// Address of its directory.
    pub directory: String,
    /// Where it may write to, about certificates that end.
    pub email: Option<String>,
    /// PEM file of the authorities that the directory's own certificate may come from; none: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Where questions for `_acme-challenge.DOMAIN` come in; with it, one certificate covers the whole domain.
    pub dns: Vec<SocketAddr>,
}

impl fmt::Display for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.directory)
    }
}

/// A certificate with its key, as PEM files. Its names are those of the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Chain, the server's own first.
    pub certificate: PathBuf,
    /// Key, readable by its owner alone.
    pub key: PathBuf,
}

impl fmt::Display for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.certificate.display(), self.key.display())
    }
}

/// Whose services are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishAccept {
    /// Everybody's.
    Any,
    /// Those of these keys: of networks, or of nodes that publish.
    Keys(Vec<NodeId>),
}

impl fmt::Display for PublishAccept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Keys(keys) => {
                let texts: Vec<_> = keys.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join(", "))
            }
        }
    }
}

/// Where requests are noted, a line of JSON each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere but in memory, for `sinew gateway log`.
    Off,
    /// On standard error, among the daemon's own lines.
    Stderr,
    /// In a file, opened anew on SIGHUP.
    File(PathBuf),
}

impl fmt::Display for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Judges the section.
pub(super) fn gateway(
    raw: schema::Gateway,
    listen: &Listen,
    tun: bool,
    problems: &mut Problems<'_>,
) -> Gateway {
    if !tun {
        let remedy = "set `enabled = true` under [tun], or remove [gateway]";
        problems.add(
            "gateway",
            "a gateway reaches services over the mesh interface, and there is none",
            remedy,
        );
    }
    let gateway = Gateway {
        domain: domain(raw.domain, problems),
        registrar: raw.registrar.and_then(|text| node("gateway.registrar", &text, problems)),
        followers: followers(&raw.followers, problems),
        https: sockets("gateway.https", &raw.https, problems),
        http: sockets("gateway.http", &raw.http, problems),
        tcp_ports: ports("gateway.tcp_ports", raw.tcp_ports, problems),
        udp_ports: ports("gateway.udp_ports", raw.udp_ports, problems),
        certificates: certificates(raw.certificates, problems),
        acme: raw.acme.map(|raw| acme(raw, problems)),
        accept: accept(raw.publish.accept, problems),
        per_network: number(
            "gateway.publish.per_network",
            raw.publish.per_network,
            1..=PER_NETWORK_MAX,
            PER_NETWORK,
            problems,
        ),
        reserved: reserved(raw.publish.reserved, problems),
        proxies: proxies(raw.proxies, problems),
        proxy_protocol: raw.proxy_protocol,
        resolvers: match &raw.resolvers {
            Some(texts) => name_servers(Some(texts), "gateway.resolvers", problems),
            None => Vec::new(),
        },
        log: log(raw.log, problems),
        grace: number("gateway.grace", raw.grace, 0..=GRACE_MAX, GRACE, problems),
    };
    let sockets = !gateway.https.is_empty() || !gateway.http.is_empty();
    if !sockets && gateway.tcp_ports.is_none() && gateway.udp_ports.is_none() {
        problems.add(
            "gateway",
            "there is nothing that clients could come in by",
            "set `https`, or `tcp_ports`",
        );
    }
    shared(&gateway, problems);
    provable(&gateway, problems);
    collisions(&gateway, listen, problems);
    gateway
}

fn acme(raw: schema::Acme, problems: &mut Problems<'_>) -> Acme {
    let directory = raw.directory.unwrap_or_else(|| LETS_ENCRYPT.to_owned());
    let host = directory.strip_prefix("https://").and_then(|rest| rest.split('/').next());
    if host.is_none_or(str::is_empty) || directory.contains(char::is_whitespace) {
        let shown = directory.escape_debug();
        problems.bad_value("gateway.acme.directory", format!("`{shown}` is no address of a directory"));
    }
    let mailbox = |text: &String| {
        text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.split('.').all(is_label))
    };
    if let Some(text) = raw.email.as_ref().filter(|text| !mailbox(text)) {
        problems.bad_value("gateway.acme.email", format!("`{}` is no address", text.escape_debug()));
    }
    Acme {
        directory,
        email: raw.email,
        ca_file: raw.ca_file.map(|path| file_path("gateway.acme.ca_file", Some(path), "", problems)),
        dns: sockets("gateway.acme.dns", &raw.dns, problems),
    }
}

/// The authority looks at port 443 of each host; only the domain can be proved without.
fn provable(gateway: &Gateway, problems: &mut Problems<'_>) {
    let Some(acme) = &gateway.acme else { return };
    if gateway.https.is_empty() {
        let remedy = "set `https`, or remove `acme`";
        problems.add("gateway.acme", "certificates are for `https`, which is not set", remedy);
    }
    if !acme.dns.is_empty() && gateway.domain.is_none() {
        problems.add(
            "gateway.acme.dns",
            "it proves `domain`, which is not set",
            "set `domain`, or remove `dns`",
        );
    }
}

fn node(key: &str, text: &str, problems: &mut Problems<'_>) -> Option<NodeId> {
    let node = text.parse();
    if let Err(error) = &node {
        problems.bad_value(key, format!("`{}` is no node: {error}", text.escape_debug()));
    }
    node.ok()
}

fn followers(raw: &[String], problems: &mut Problems<'_>) -> Vec<NodeId> {
    if raw.len() > FOLLOWERS_MAX {
        problems.add("gateway.followers", "more than 64 gateways", "list fewer");
    }
    let each = raw.iter().enumerate();
    each.filter_map(|(i, text)| node(&format!("gateway.followers[{i}]"), text, problems)).collect()
}

/// A domain that several gateways share has one that decides, so that no two do.
fn shared(gateway: &Gateway, problems: &mut Problems<'_>) {
    let keys = [
        ("gateway.registrar", gateway.registrar.is_some()),
        ("gateway.followers", !gateway.followers.is_empty()),
    ];
    for (key, set) in keys {
        if set && gateway.domain.is_none() {
            let remedy = "set `domain` to the one that the gateways share";
            problems.add(key, "it is about the names below `domain`, which is not set", remedy);
        }
    }
    if gateway.registrar.is_some() && !gateway.followers.is_empty() {
        let remedy = "let them follow the `registrar` itself";
        problems.add("gateway.followers", "a gateway that follows another is followed by none", remedy);
    }
}

fn domain(raw: Option<String>, problems: &mut Problems<'_>) -> Option<String> {
    let text = raw?;
    let domain = text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase();
    if domain.len() > DOMAIN_MAX || !domain.contains('.') || !domain.split('.').all(is_label) {
        problems.bad_value("gateway.domain", format!("bad domain `{}`", text.escape_debug()));
    }
    Some(domain)
}

fn ports(key: &str, raw: Option<String>, problems: &mut Problems<'_>) -> Option<(u16, u16)> {
    let text = raw?;
    let range = text.split_once('-').unwrap_or((&text, &text));
    let range = (range.0.trim().parse::<u16>(), range.1.trim().parse::<u16>());
    let (Ok(first), Ok(last)) = range else {
        problems.bad_value(key, format!("`{}` is no range of ports", text.escape_debug()));
        return None;
    };
    if first > last {
        problems.bad_value(key, format!("{first} comes after {last}"));
    } else if first < UNPRIVILEGED {
        let remedy = "begin at 1024 or above";
        problems.add(
            key,
            format!("{first} is a port for privileged processes, and the daemon is none"),
            remedy,
        );
    } else if u32::from(last - first) >= PORTS_MAX {
        problems.add(key, "more than 10000 ports", "take a smaller range");
    }
    Some((first, last))
}

fn certificates(raw: Vec<schema::CertificateFiles>, problems: &mut Problems<'_>) -> Vec<CertificateFiles> {
    let mut files: Vec<CertificateFiles> = Vec::new();
    for (i, pair) in raw.into_iter().enumerate() {
        let path = format!("gateway.certificates[{i}]");
        let (Some(certificate), Some(key)) = (pair.certificate, pair.key) else {
            problems.add(&path, "needs `certificate` and `key`", "give both");
            continue;
        };
        let certificate = file_path(&format!("{path}.certificate"), Some(certificate), "", problems);
        files.push(CertificateFiles {
            certificate,
            key: file_path(&format!("{path}.key"), Some(key), "", problems),
        });
    }
    files
}

fn accept(raw: Option<WordOrList>, problems: &mut Problems<'_>) -> PublishAccept {
    const KEY: &str = "gateway.publish.accept";
    match raw {
        None => PublishAccept::Any,
        Some(WordOrList::Word(word)) => {
            if word != "any" {
                problems.bad_value(KEY, format!("unknown value `{}`", word.escape_debug()));
            }
            PublishAccept::Any
        }
        Some(WordOrList::List(texts)) => {
            let mut keys = Vec::new();
            for (i, text) in texts.iter().enumerate() {
                match text.parse() {
                    Ok(key) => keys.push(key),
                    Err(error) => problems.add(
                        &format!("{KEY}[{i}]"),
                        format!("`{}` is no network and no node: {error}", text.escape_debug()),
                        "`sinew network show NAME` prints a network's id, `sinew key show` a node's",
                    ),
                }
            }
            PublishAccept::Keys(keys)
        }
    }
}

fn number(
    key: &str,
    raw: Option<i64>,
    range: std::ops::RangeInclusive<i64>,
    default: u32,
    problems: &mut Problems<'_>,
) -> u32 {
    let Some(value) = raw else { return default };
    match u32::try_from(value).ok().filter(|_| range.contains(&value)) {
        Some(value) => value,
        None => {
            problems.bad_value(key, format!("{value} is out of range"));
            default
        }
    }
}

fn reserved(raw: Vec<String>, problems: &mut Problems<'_>) -> Vec<String> {
    for (i, text) in raw.iter().enumerate().filter(|(_, text)| !is_label(text)) {
        let problem = format!("`{}` is no label", text.escape_debug());
        problems.bad_value(&format!("gateway.publish.reserved[{i}]"), problem);
    }
    raw
}

fn proxies(raw: Vec<String>, problems: &mut Problems<'_>) -> Vec<String> {
    let usable = |text: &str| {
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let longest = address.parse::<IpAddr>().ok().map(|ip| if ip.is_ipv4() { 32u8 } else { 128 });
        longest
            .is_some_and(|longest| length.is_none_or(|text| text.parse::<u8>().is_ok_and(|n| n <= longest)))
    };
    for (i, text) in raw.iter().enumerate().filter(|(_, text)| !usable(text)) {
        let problem = format!("`{}` is no address or range", text.escape_debug());
        problems.bad_value(&format!("gateway.proxies[{i}]"), problem);
    }
    raw
}

fn log(raw: Option<String>, problems: &mut Problems<'_>) -> AccessLog {
    match raw.as_deref() {
        None | Some("off") => AccessLog::Off,
        Some("stderr") => AccessLog::Stderr,
        Some(text) => {
            let path = PathBuf::from(text);
            let folder = path.parent().filter(|_| path.is_absolute() && path.file_name().is_some());
            match folder {
                None => problems
                    .bad_value("gateway.log", format!("`{}` is no absolute path", text.escape_debug())),
                Some(folder) if SHARED.iter().any(|shared| Path::new(shared) == folder) => problems.add(
                    "gateway.log",
                    format!("the daemon may not write in {} itself", folder.display()),
                    "give the log a folder of its own, such as /var/log/sinew/access.log",
                ),
                Some(_) => {}
            }
            AccessLog::File(path)
        }
    }
}

/// Sockets that the kernel would refuse, and ranges that would hand out ports of our own.
fn collisions(gateway: &Gateway, listen: &Listen, problems: &mut Problems<'_>) {
    let tcp = [("gateway.http", &gateway.http), ("listen.tcp", &listen.tcp), ("listen.wss", &listen.wss)];
    let pairs = [("gateway.https", &gateway.https, &tcp[..]), ("gateway.http", &gateway.http, &tcp[1..])];
    for (key, own, others) in pairs {
        for (other, taken) in others {
            let both = own.iter().flat_map(|a| taken.iter().map(move |b| (a, b)));
            // TLS tells what is for the mesh and what for a service, but the socket must be one.
            let sharing = key == "gateway.https" && *other == "listen.wss";
            let clash = |a, b| overlap(a, b) && !(sharing && a == b);
            for (addr, first) in both.filter(|(a, b)| clash(**a, **b)) {
                let remedy = match sharing {
                    true => "write the same address to share it, or give one of them another port",
                    false => "give one of them another port",
                };
                problems.add(key, format!("{addr} overlaps with {first} of {other}"), remedy);
            }
        }
    }
    let none = Vec::new();
    let dns = gateway.acme.as_ref().map_or(&none, |acme| &acme.dns);
    let tcp = [&gateway.https, &gateway.http, &listen.tcp, &listen.wss];
    let udp = [&listen.udp, &listen.quic];
    let taken = tcp.iter().chain(&udp).flat_map(|list| list.iter());
    for (addr, other) in taken.flat_map(|other| dns.iter().map(move |addr| (addr, other))) {
        if overlap(*addr, *other) {
            let problem = format!("{addr} overlaps with {other}, where this node listens already");
            problems.add("gateway.acme.dns", problem, "name servers are asked at port 53");
        }
    }
    let ranges = [
        ("gateway.tcp_ports", gateway.tcp_ports, &tcp[..]),
        ("gateway.udp_ports", gateway.udp_ports, &udp[..]),
    ];
    for (key, range, taken) in ranges {
        let Some((first, last)) = range else { continue };
        let inside =
            taken.iter().flat_map(|addrs| addrs.iter()).find(|addr| (first..=last).contains(&addr.port()));
        if let Some(addr) = inside {
            problems.add(
                key,
                format!("{addr} lies in it, and this node listens there"),
                "take another range",
            );
        }
    }
}
