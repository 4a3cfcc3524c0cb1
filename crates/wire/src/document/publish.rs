//! PUBLISH: a service that a gateway is to offer to people outside (protocol A11.1).
//!
//! The document names its gateway, so it is worth nothing at another one; what the gateway does beyond
//! handing streams on stands in `settings`, which only the gateway reads. One that was taken back says
//! so and nothing else: the gateway has to know that it is gone, not what it was.

use sinew_types::Label;

use super::body::{put_label, read_label, rising, whole};
use super::tlv::{Builder, Fields};
use crate::Malformed;
use crate::codec::{Put, Reader};

/// Most host names of one service.
pub const HOSTS_MAX: usize = 16;
/// Most backends of one service.
pub const BACKENDS_MAX: usize = 16;
/// Longest settings, bytes.
pub const SETTINGS_MAX: usize = 8192;
/// Largest share of a backend.
const WEIGHT_MAX: u16 = 1000;
/// Longest name and longest label of DNS.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// How a service is reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublishMode {
    /// TLS ends at the gateway, which forwards requests.
    Http = 1,
    /// TLS goes through byte for byte.
    TlsPassthrough = 2,
    /// A TCP port of its own.
    Tcp = 3,
    /// A UDP port of its own.
    Udp = 4,
}

/// A port of a workload that serves. It is meant by its name, not by its place: a place is given to the next
/// workload when one ends, and that one nobody published. They are ordered by home, name and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishedBackend {
    /// The member that signs the WORKLOAD: a name that another member comes to bear is another workload.
    pub home: [u8; 32],
    /// Its name.
    pub workload: Label,
    /// Port, not 0.
    pub port: u16,
    /// Its share, at most 1000. At most one has 0: no client is sent there; the gateway asks it who may
    /// come in.
    pub weight: u16,
}

/// What is published, or that nothing is any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The one gateway that it is meant for.
    pub gateway: [u8; 32],
    /// How it is reached.
    pub mode: PublishMode,
    /// Host names, rising: see [`is_host`]. None for modes with a port of their own.
    pub hosts: Vec<String>,
    /// Who serves it, rising; no two with one home, name and port.
    pub backends: Vec<PublishedBackend>,
    /// For the gateway.
    pub settings: Vec<u8>,
    /// It is taken back: no hosts, backends, settings or recovery.
    pub removed: bool,
    /// A hash of the key by which a lost name is got back.
    pub recovery: Option<[u8; 32]>,
}

/// Whether `text` may be a host of a service: a label (a name under the gateway's own domain), or a
/// whole domain name, before which `*.` may stand. Lower case, at most 253 characters.
pub fn is_host(text: &str) -> bool {
    let (name, least) = match text.strip_prefix("*.") {
        Some(rest) => (rest, 2),
        None => (text, 1),
    };
    let good = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= NAME_MAX && name.split('.').count() >= least && name.split('.').all(good)
}

fn host(r: &mut Reader<'_>) -> Result<String, Malformed> {
    let len = usize::from(r.u8()?);
    let text = core::str::from_utf8(r.bytes(len)?).map_err(|_| Malformed)?;
    if is_host(text) { Ok(text.to_owned()) } else { Err(Malformed) }
}

fn backend(r: &mut Reader<'_>) -> Result<PublishedBackend, Malformed> {
    let (home, workload) = (r.array()?, read_label(r)?);
    Ok(PublishedBackend { home, workload, port: r.u16()?, weight: r.u16()? })
}

/// A list that is left out when it is empty.
fn not_empty<T>(list: Vec<T>) -> Result<Vec<T>, Malformed> {
    if list.is_empty() { Err(Malformed) } else { Ok(list) }
}

impl Publish {
    pub(super) fn read(f: &mut Fields<'_>) -> Result<Self, Malformed> {
        let gateway = whole(f.required(1)?, Reader::array)?;
        let mode = match whole(f.required(2)?, Reader::u8)? {
            1 => PublishMode::Http,
            2 => PublishMode::TlsPassthrough,
            3 => PublishMode::Tcp,
            4 => PublishMode::Udp,
            _ => return Err(Malformed),
        };
        let hosts = f.optional(3)?.map(|value| not_empty(rising(value, HOSTS_MAX, host)?)).transpose()?;
        let backends =
            f.optional(4)?.map(|value| not_empty(rising(value, BACKENDS_MAX, backend)?)).transpose()?;
        let settings = f.optional(5)?.map(|value| not_empty(value.to_vec())).transpose()?;
        let removed = f.flag(6)?;
        let recovery = f.optional(7)?.map(|value| whole(value, Reader::array)).transpose()?;
        let publish = Self {
            gateway,
            mode,
            hosts: hosts.unwrap_or_default(),
            backends: backends.unwrap_or_default(),
            settings: settings.unwrap_or_default(),
            removed,
            recovery,
        };
        if publish.is_sound() { Ok(publish) } else { Err(Malformed) }
    }

    /// Whether the parts belong together; who makes one asks before signing it.
    pub fn is_sound(&self) -> bool {
        if self.removed {
            let bare = self.hosts.is_empty() && self.backends.is_empty() && self.settings.is_empty();
            return bare && self.recovery.is_none();
        }
        let by_name = matches!(self.mode, PublishMode::Http | PublishMode::TlsPassthrough);
        let serving = self.backends.iter().filter(|backend| backend.weight > 0).count();
        let apart = self.backends.windows(2).all(|pair| match pair {
            [a, b] => (a.home, &a.workload, a.port) < (b.home, &b.workload, b.port),
            _ => true,
        });
        by_name != self.hosts.is_empty()
            && self.hosts.len() <= HOSTS_MAX
            && self.hosts.iter().all(|host| is_host(host))
            && self.hosts.windows(2).all(|pair| pair[0] < pair[1])
            && serving > 0
            && self.backends.len() - serving <= 1
            && self.backends.len() <= BACKENDS_MAX
            && self.backends.iter().all(|backend| backend.port != 0 && backend.weight <= WEIGHT_MAX)
            && apart
            && self.settings.len() <= SETTINGS_MAX
    }

    pub(super) fn write(&self, b: &mut Builder) {
        b.field(1, &self.gateway).field(2, &[self.mode as u8]);
        let hosts = self.hosts.iter().fold(Vec::new(), |mut out, host| {
            out.u8(host.len() as u8).bytes(host.as_bytes());
            out
        });
        let backends = self.backends.iter().fold(Vec::new(), |mut out, one| {
            out.bytes(&one.home);
            put_label(&mut out, &one.workload);
            out.u16(one.port).u16(one.weight);
            out
        });
        let some = |list: Vec<u8>| (!list.is_empty()).then_some(list);
        b.option(3, some(hosts)).option(4, some(backends)).option(5, some(self.settings.clone()));
        b.flag(6, self.removed).option(7, self.recovery.map(|hash| hash.to_vec()));
    }
}
