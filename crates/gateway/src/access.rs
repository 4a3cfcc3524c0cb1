//! Who may use a service: addresses, rates, users.
//!
//! Cheap checks come first, so that a flood that is refused costs little: addresses, then the rate,
//! then passwords. A password's check is slow on purpose; results are therefore remembered by a keyed
//! hash for a while, and at most a few checks run at once, on threads of their own.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::{Argon2, PasswordHash, PasswordVerifier};
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::config::{Access, BasicUser, Rate};
use crate::limit::Rates;
use crate::net::{Client, Prefix};

/// Password checks at once and waiting, for one service. Each takes 19 MiB with the usual parameters.
const CHECKS: usize = 2;
const CHECKS_WAITING: usize = 64;

/// For how long a password that was right is not checked again, and how many are remembered.
const REMEMBER: Duration = Duration::from_secs(60);
const REMEMBERED_MAX: usize = 4096;

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The address is not allowed.
    Address,
    /// Too many requests; seconds until the next.
    Rate(u32),
    /// No password, or a wrong one.
    Password,
    /// Too many passwords are being checked.
    Busy,
}

/// The checks of one service.
pub(crate) struct Gatekeeper {
    allow: Vec<Prefix>,
    deny: Vec<Prefix>,
    rates: Option<(Rate, Arc<Rates>)>,
    users: Option<Arc<Users>>,
}

impl Gatekeeper {
    pub(crate) fn new(access: &Access, before: Option<&Self>) -> Result<Self, String> {
        let old = before.and_then(|old| old.rates.as_ref());
        let rates = access.rate.map(|rate| match old {
            // Reloading must not give every client its burst again.
            Some((same, rates)) if *same == rate => (rate, rates.clone()),
            _ => (rate, Arc::new(Rates::new(rate))),
        });
        let users = match &access.basic[..] {
            [] => None,
            users => {
                let old = before.and_then(|old| old.users.as_ref());
                let same = old.filter(|old| old.list == *users).cloned();
                Some(match same {
                    Some(same) => same,
                    None => Arc::new(Users::new(users)?),
                })
            }
        };
        Ok(Self { allow: access.allow.clone(), deny: access.deny.clone(), rates, users })
    }

    /// Whether an address may come in at all.
    pub(crate) fn admits(&self, address: IpAddr) -> Result<(), Denied> {
        let within = |list: &[Prefix]| list.iter().any(|prefix| prefix.contains(address));
        if within(&self.deny) || !(self.allow.is_empty() || within(&self.allow)) {
            return Err(Denied::Address);
        }
        Ok(())
    }

    /// Counts one request, connection or flow against the client's rate.
    pub(crate) fn count(&self, address: IpAddr) -> Result<(), Denied> {
        let Some((_, rates)) = &self.rates else { return Ok(()) };
        rates.take(Client::of(address), Instant::now()).map_err(Denied::Rate)
    }

    /// Checks an `Authorization` header; the user's name if there are users at all.
    pub(crate) async fn user(&self, header: Option<&[u8]>) -> Result<Option<String>, Denied> {
        match &self.users {
            None => Ok(None),
            Some(users) => users.clone().check(header.ok_or(Denied::Password)?).await.map(Some),
        }
    }

    /// Whether `Authorization` is ours and nothing that the backend should see.
    pub(crate) fn has_users(&self) -> bool {
        self.users.is_some()
    }
}

struct Users {
    list: Vec<BasicUser>,
    /// Keys the hashes by which right passwords are remembered.
    secret: [u8; 32],
    right: Mutex<FxHashMap<[u8; 32], Instant>>,
    checks: Semaphore,
    waiting: Semaphore,
}

impl Users {
    fn new(list: &[BasicUser]) -> Result<Self, String> {
        for user in list {
            let parsed = PasswordHash::new(&user.hash);
            let argon = parsed.is_ok_and(|hash| hash.algorithm.as_str().starts_with("argon2"));
            if !argon || user.name.is_empty() || user.name.contains(':') {
                return Err(format!(
                    "user `{}`: a name without `:` and an Argon2 hash are needed",
                    user.name
                ));
            }
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| error.to_string())?;
        Ok(Self {
            list: list.to_vec(),
            secret,
            right: Mutex::default(),
            checks: Semaphore::new(CHECKS),
            waiting: Semaphore::new(CHECKS_WAITING),
        })
    }

    async fn check(self: Arc<Self>, header: &[u8]) -> Result<String, Denied> {
        let (name, password) = credentials(header).ok_or(Denied::Password)?;
        let digest = self.digest(&name, &password);
        if self.remembered(&digest, Instant::now()) {
            return Ok(name);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| Denied::Busy)?;
        let _check = self.checks.acquire().await.map_err(|_| Denied::Busy)?;
        let users = self.clone();
        let user = name.clone();
        let right = tokio::task::spawn_blocking(move || users.verify(&user, &password)).await;
        if !right.is_ok_and(|right| right) {
            return Err(Denied::Password);
        }
        self.remember(digest, Instant::now());
        Ok(name)
    }

    /// An unknown name takes as long as a wrong password: the first user's hash is checked for it.
    fn verify(&self, name: &str, password: &str) -> bool {
        let known = self.list.iter().find(|user| user.name == name);
        let Some(user) = known.or(self.list.first()) else { return false };
        let Ok(hash) = PasswordHash::new(&user.hash) else { return false };
        let right = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
        right && known.is_some()
    }

    fn digest(&self, name: &str, password: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update(password);
        hash.finalize().into()
    }

    fn remembered(&self, digest: &[u8; 32], now: Instant) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(digest).is_some_and(|at| now.saturating_duration_since(*at) < REMEMBER)
    }

    fn remember(&self, digest: [u8; 32], now: Instant) {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= REMEMBERED_MAX {
            right.retain(|_, at| now.saturating_duration_since(*at) < REMEMBER);
        }
        if right.len() < REMEMBERED_MAX {
            right.insert(digest, now);
        }
    }
}

/// Name and password of `Basic …` (RFC 7617).
fn credentials(header: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(header).ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > 1024 {
        return None;
    }
    let plain = String::from_utf8(base64(encoded.trim())?).ok()?;
    let (name, password) = plain.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// Decodes base64 with its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut have) = (0u32, 0);
    for byte in digits.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
pub(crate) mod tests {
    use argon2::password_hash::{PasswordHasher, SaltString};

    use super::*;

    pub(crate) fn hash(password: &str) -> String {
        let salt = SaltString::encode_b64(b"0123456789abcdef").unwrap();
        // Small parameters: tests check many.
        let params = argon2::Params::new(64, 1, 1, None).unwrap();
        let argon = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        argon.hash_password(password.as_bytes(), &salt).unwrap().to_string()
    }

    fn gatekeeper(access: &Access) -> Gatekeeper {
        Gatekeeper::new(access, None).unwrap()
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn addresses_are_denied_before_they_are_allowed() {
        let access = Access {
            allow: vec!["10.0.0.0/8".parse().unwrap()],
            deny: vec!["10.1.0.0/16".parse().unwrap()],
            ..Access::default()
        };
        let gate = gatekeeper(&access);
        for (address, admitted) in
            [("10.0.0.1", true), ("10.1.0.1", false), ("192.0.2.1", false), ("::1", false)]
        {
            assert_eq!(gate.admits(address.parse().unwrap()).is_ok(), admitted, "{address}");
        }
        assert!(gatekeeper(&Access::default()).admits("192.0.2.1".parse().unwrap()).is_ok());
    }

    #[test]
    fn only_the_right_password_of_a_known_user_lets_in() {
        let users = vec![BasicUser { name: "ann".into(), hash: hash("secret:with colon") }];
        let gate = gatekeeper(&Access { basic: users, ..Access::default() });
        let right = b"Basic YW5uOnNlY3JldDp3aXRoIGNvbG9u";
        for _ in 0..2 {
            assert_eq!(run(gate.user(Some(right))), Ok(Some("ann".into())));
        }
        for wrong in [
            None,
            Some(&b""[..]),
            Some(b"Basic"),
            Some(b"Basic !!!!"),
            Some(b"Bearer YW5uOnNlY3JldDp3aXRoIGNvbG9u"),
            Some(b"Basic YW5uOndyb25n"),
            Some(b"Basic Ym9iOnNlY3JldDp3aXRoIGNvbG9u"),
        ] {
            assert_eq!(run(gate.user(wrong)), Err(Denied::Password), "{wrong:?}");
        }
    }

    #[test]
    fn a_hash_that_is_none_is_refused_when_it_is_configured() {
        for text in ["", "plain", "$2b$12$abcdefghijklmnopqrstuv", "{SHA}abc"] {
            let users = vec![BasicUser { name: "ann".into(), hash: text.into() }];
            assert!(Gatekeeper::new(&Access { basic: users, ..Access::default() }, None).is_err(), "{text}");
        }
    }

    #[test]
    fn a_change_of_something_else_gives_nobody_a_new_burst() {
        let access = Access { rate: Some(Rate { per_second: 1, burst: 1 }), ..Access::default() };
        let gate = gatekeeper(&access);
        let address = "192.0.2.1".parse().unwrap();
        assert!(gate.count(address).is_ok());
        let after = Gatekeeper::new(&access, Some(&gate)).unwrap();
        assert!(matches!(after.count(address), Err(Denied::Rate(_))));
    }
}
