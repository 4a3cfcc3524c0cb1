//! What is kept on disk, all of it readable by its owner alone.
//!
//! ```text
//!  FOLDER/acme-v02.api.letsencrypt.org-1a2b3c4d/   one for each authority
//!      account.json      who we are to the authority, with the key
//!      failures.json     who has failed how often and may try again when
//!      app.example.org.pem, _wildcard.example.org.pem    key and chain in one file: they change together
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use sinew_platform::private;
use zeroize::Zeroizing;

use crate::Pair;
use crate::book::Memory;

/// Longest files, bytes. Chains have a few KiB.
const ACCOUNT_MAX: usize = 16 * 1024;
const PAIR_MAX: usize = 128 * 1024;
const FAILURES_MAX: usize = 16 * 1024 * 1024;

/// The folder of one authority.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Opens or makes it.
    pub(crate) fn open(root: &Path, directory: &str) -> io::Result<Self> {
        let name = directory.split("://").nth(1).unwrap_or(directory);
        let name = name.split(['/', ':']).next().unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
        let name: String = name.chars().take(100).map(plain).collect();
        // Two directories may be on one host.
        let hash = Sha256::digest(directory.as_bytes());
        let short: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let path = root.join(format!("{name}-{short}"));
        private::folder(&path)?;
        Ok(Self(path))
    }

    fn pair(&self, host: &str) -> PathBuf {
        // Names are checked before they come here (`book::usable`): no slashes, no dots in front.
        match host.strip_prefix("*.") {
            Some(rest) => self.0.join(format!("_wildcard.{rest}.pem")),
            None => self.0.join(format!("{host}.pem")),
        }
    }

    /// The account, if there is one.
    pub(crate) fn account(&self) -> io::Result<Option<AccountCredentials>> {
        let Some(bytes) = found(private::read(&self.0.join("account.json"), ACCOUNT_MAX))? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other)
    }

    pub(crate) fn set_account(&self, account: &AccountCredentials) -> io::Result<()> {
        let bytes = Zeroizing::new(serde_json::to_vec(account)?);
        private::replace(&self.0.join("account.json"), &bytes)
    }

    /// Puts an account aside that the authority does not know.
    pub(crate) fn drop_account(&self) -> io::Result<()> {
        std::fs::rename(self.0.join("account.json"), self.0.join("account.unknown.json"))
    }

    /// The certificate of a host, if there is one.
    pub(crate) fn load(&self, host: &str) -> io::Result<Option<Pair>> {
        let Some(bytes) = found(private::read(&self.pair(host), PAIR_MAX))? else { return Ok(None) };
        pair(&bytes).map(Some).map_err(io::Error::other)
    }

    /// Keeps `key` and `chain`, PEM, in place of what was there.
    pub(crate) fn store(&self, host: &str, key: &str, chain: &str) -> io::Result<()> {
        let both = Zeroizing::new([key.trim_end(), "\n", chain].concat());
        private::replace(&self.pair(host), both.as_bytes())
    }

    pub(crate) fn failures(&self) -> io::Result<BTreeMap<String, Memory>> {
        let Some(bytes) = found(private::read(&self.0.join("failures.json"), FAILURES_MAX))? else {
            return Ok(BTreeMap::new());
        };
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    }

    pub(crate) fn set_failures(&self, failures: &BTreeMap<String, Memory>) -> io::Result<()> {
        private::replace(&self.0.join("failures.json"), &serde_json::to_vec(failures)?)
    }

    /// Deletes certificates that have been over for `days`; how many. Wanted ones are renewed before.
    pub(crate) fn tidy(&self, now: u64, days: u64) -> usize {
        let files = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let over = |path: &Path| {
            let bytes = private::read(path, PAIR_MAX).ok()?;
            let validity = crate::x509::validity(pair(&bytes).ok()?.chain.first()?)?;
            Some(validity.until + days * 86_400 < now)
        };
        let pems =
            files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "pem"));
        pems.filter(|path| over(path) == Some(true) && std::fs::remove_file(path).is_ok()).count()
    }
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Key and chain from PEM text.
pub(crate) fn pair(pem: &[u8]) -> Result<Pair, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| format!("certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("key: {error}"))?;
    if chain.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(Pair { chain, key }) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_certificate_comes_back_as_it_was_kept_and_old_ones_are_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), "https://ca.example:14000/dir").unwrap();
        for host in ["a.example", "*.a.example"] {
            assert!(folder.load(host).unwrap().is_none());
            let mut params = rcgen::CertificateParams::new([host.to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 4, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let made = params.self_signed(&key).unwrap();
            folder.store(host, &key.serialize_pem(), &made.pem()).unwrap();
            let pair = folder.load(host).unwrap().unwrap();
            assert_eq!(pair.chain, [made.der().clone()]);
            assert_eq!(pair.key.secret_der(), key.serialize_der());
            let meta = std::fs::metadata(folder.pair(host)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
        }
        let april: u64 = 1_585_699_200;
        assert_eq!(folder.tidy(april + 6 * 86_400, 7), 0);
        assert_eq!(folder.tidy(april + 8 * 86_400, 7), 2);
        assert!(folder.load("a.example").unwrap().is_none());
    }

    #[test]
    fn each_authority_has_a_folder_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let urls = ["https://ca.example/a", "https://ca.example/b", "https://../../etc", "nonsense"];
        for url in urls {
            let path = Folder::open(dir.path(), url).unwrap().0;
            assert_eq!(path.parent(), Some(dir.path()), "{url}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), urls.len());
    }

    #[test]
    fn failures_outlive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), "https://ca.example/a").unwrap();
        assert!(folder.failures().unwrap().is_empty());
        let memory = Memory { failures: 3, next_try: 99, kind: 1, error: Some("no".into()) };
        let all = BTreeMap::from([("a.example".to_owned(), memory)]);
        folder.set_failures(&all).unwrap();
        assert_eq!(folder.failures().unwrap(), all);
    }
}
