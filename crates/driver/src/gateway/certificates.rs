//! Certificates from files, and what is known of each certificate in use.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sinew_control::api::GatewayCertificate;
use sinew_control::config::CertificateFiles;
use sinew_gateway::{Certificate, Certificates};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::answer::date;

/// What a certificate says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    hosts: Vec<String>,
    from: u64,
    until: u64,
}

fn facts(certificate: &Certificate) -> Option<Facts> {
    let (_, parsed) = X509Certificate::from_der(certificate.chain().first()?).ok()?;
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.iter()).into_iter().flatten();
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    Some(Facts {
        hosts: names.filter_map(host).collect(),
        from: seconds(parsed.validity().not_before),
        until: seconds(parsed.validity().not_after),
    })
}

/// The end of the life of the certificate that clients of `host` get, seconds since 1970.
pub(super) fn expiry(certificates: &Certificates, host: &str) -> Option<u64> {
    facts(&certificates.get(host)?).map(|facts| facts.until)
}

/// Hosts that files give, with `*.` for all names of one label more. Nobody else sets their certificates.
#[derive(Clone, Debug, Default)]
pub(super) struct FileHosts(Arc<Mutex<BTreeSet<String>>>);

impl FileHosts {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it, unless a file gives exactly this host; no file comes in between.
    pub(super) fn unless_given(&self, host: &str, act: impl FnOnce()) {
        let hosts = self.lock();
        if !hosts.contains(host) {
            act();
        }
    }

    /// A look at them.
    pub(super) fn with<T>(&self, look: impl FnOnce(&BTreeSet<String>) -> T) -> T {
        look(&self.lock())
    }
}

/// Whether one of these is for `host`.
pub(super) fn covers(hosts: &BTreeSet<String>, host: &str) -> bool {
    let wildcard = || host.split_once('.').is_some_and(|(_, rest)| hosts.contains(&format!("*.{rest}")));
    hosts.contains(host) || wildcard()
}

/// Certificates of the configuration.
#[derive(Debug, Default)]
pub(super) struct Files {
    hosts: FileHosts,
    shown: Vec<GatewayCertificate>,
}

impl Files {
    /// Reads them all, and uses them if every one is good; gives what is wrong otherwise, and all stays.
    pub(super) fn load(
        &mut self,
        files: &[CertificateFiles],
        into: &Arc<Certificates>,
    ) -> Result<(), String> {
        let mut read = Vec::new();
        for pair in files {
            let wrong = |error: String| format!("certificate {}: {error}", pair.certificate.display());
            let certificate = Certificate::from_files(&pair.certificate, &pair.key);
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            let facts = facts(&certificate).ok_or_else(|| wrong("it cannot be read".to_owned()))?;
            if facts.hosts.is_empty() {
                return Err(wrong("it names no host (subjectAltName)".to_owned()));
            }
            read.push((certificate, facts));
        }
        let hosts: BTreeSet<_> = read.iter().flat_map(|(_, facts)| facts.hosts.iter().cloned()).collect();
        let mut given = self.hosts.lock();
        given.difference(&hosts).for_each(|gone| into.remove(gone));
        self.shown.clear();
        for (certificate, facts) in read {
            into.set(&facts.hosts, &certificate);
            self.shown.push(GatewayCertificate {
                not_before: Some(date(facts.from)),
                not_after: Some(date(facts.until)),
                hosts: facts.hosts,
                source: "file".to_owned(),
                problem: None,
            });
        }
        *given = hosts;
        Ok(())
    }

    /// Hosts that they give.
    pub(super) const fn hosts(&self) -> &FileHosts {
        &self.hosts
    }

    /// For people.
    pub(super) fn shown(&self) -> &[GatewayCertificate] {
        &self.shown
    }
}

/// Folders that have to be read when the files are read again; links are followed, as an ACME client of the host may
/// lay them.
pub(crate) fn folders(files: &[CertificateFiles]) -> Vec<PathBuf> {
    let mut folders = BTreeSet::new();
    for path in files.iter().flat_map(|pair| [&pair.certificate, &pair.key]) {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        for path in [path.as_path(), real.as_path()] {
            folders.extend(path.parent().map(Path::to_owned));
        }
    }
    folders.into_iter().collect()
}
