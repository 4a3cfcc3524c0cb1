//! One order from its beginning to the certificate, and one account.
//!
//! Proofs are shown for exactly as long as the order is under way, whatever ends it. The key is new for each
//! certificate: one that leaked is worth no more than one certificate's life.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeHandle, ChallengeType, Error,
    ExternalAccountKey, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::book::Fault;
use crate::folder::Folder;
use crate::web::{Signs, Web};
use crate::{ChallengeKind, Challenges, Options, Pair, Proof};

/// What an order is about.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) host: String,
    pub(crate) challenge: ChallengeKind,
    /// The certificate that the new one replaces, if the authority wants to know.
    pub(crate) replaces: Option<CertificateDer<'static>>,
}

/// A new certificate, PEM.
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: Zeroizing<String>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Issued({})", self.chain)
    }
}

/// What went wrong: with the authority, or here.
#[derive(Debug)]
pub(crate) enum Trouble {
    Acme(Error),
    Refused(String),
    Local(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Acme(error)
    }
}

/// The account on disk, or a new one.
pub(crate) async fn account(web: &Web, folder: &Folder, options: &Options) -> Result<Account, Trouble> {
    let local = |error: std::io::Error| Trouble::Local(format!("account: {error}"));
    let builder = || Account::builder_with_http(Box::new(web.clone()));
    if let Some(credentials) = folder.account().map_err(local)? {
        return Ok(builder().from_credentials(credentials).await?);
    }
    let contact: Vec<&str> = options.contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let external = options.external_account.as_ref();
    let external = external.map(|(id, key)| ExternalAccountKey::new(id.clone(), key));
    let created = builder().create(&new, options.directory.clone(), external.as_ref()).await;
    let (account, credentials) = created?;
    folder.set_account(&credentials).map_err(local)?;
    tracing::info!(id = account.id(), "made an account at the certificate authority");
    Ok(account)
}

/// Orders a certificate.
pub(crate) async fn order(
    account: &Account,
    errand: &Errand,
    challenges: &Arc<dyn Challenges>,
) -> Result<Issued, Trouble> {
    let names = [Identifier::Dns(errand.host.clone())];
    let mut order = new_order(account, &names, errand.replaces.as_ref()).await?;
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            other => return Err(Trouble::Refused(format!("the authorization is {other:?} from the start"))),
        }
        let offered = authorization.challenge(kind(errand.challenge));
        let Some(mut challenge) = offered else {
            let word = errand.challenge.word();
            return Err(Trouble::Refused(format!("the authority does not offer {word} for this host")));
        };
        shown.push(Shown::new(challenges, proof(errand, &challenge)?));
        challenge.set_ready().await?;
    }
    let ready = order.poll_ready(&patience()).await;
    // What failed stands in the authorizations; the order itself says only that something did.
    match ready {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => {}
        Ok(_) => return Err(Trouble::Refused(reason(&mut order).await)),
        Err(Error::Api(problem)) => {
            let told = reason(&mut order).await;
            return Err(if told.is_empty() { Error::Api(problem).into() } else { Trouble::Refused(told) });
        }
        Err(error) => return Err(error.into()),
    }
    finish(&mut order, &errand.host).await
}

async fn new_order(
    account: &Account,
    names: &[Identifier],
    replaces: Option<&CertificateDer<'static>>,
) -> Result<Order, Error> {
    let Some(id) = replaces.and_then(|old| CertificateIdentifier::try_from(old).ok()) else {
        return account.new_order(&NewOrder::new(names)).await;
    };
    match account.new_order(&NewOrder::new(names).replaces(id)).await {
        // Not every authority knows of replacing, and it replaces each certificate once only.
        Err(Error::Unsupported(_)) => account.new_order(&NewOrder::new(names)).await,
        Err(Error::Api(problem)) if is(&problem, "alreadyReplaced") => {
            account.new_order(&NewOrder::new(names)).await
        }
        other => other,
    }
}

async fn finish(order: &mut Order, host: &str) -> Result<Issued, Trouble> {
    let local = |error: rcgen::Error| Trouble::Local(format!("request: {error}"));
    let mut params = CertificateParams::new([host.to_owned()]).map_err(local)?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate().map_err(local)?;
    let request = params.serialize_request(&key).map_err(local)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&patience()).await?;
    let key = Zeroizing::new(key.serialize_pem());
    let both = Zeroizing::new([key.as_str(), &chain].concat());
    let pair = crate::folder::pair(both.as_bytes()).map_err(Trouble::Refused)?;
    let first = pair.chain.first().filter(|first| crate::x509::names(first, host));
    first.ok_or_else(|| Trouble::Refused("the certificate is not for this host".to_owned()))?;
    Ok(Issued { chain, key })
}

/// Why the authority refused, from the challenges that it looked at.
async fn reason(order: &mut Order) -> String {
    let mut told = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            break;
        }
        for challenge in &authorization.challenges {
            if let Some(error) = &challenge.error {
                let kind = ChallengeKind::ALL.into_iter().find(|ours| kind(*ours) == challenge.r#type);
                let kind = kind.map_or("challenge", ChallengeKind::word);
                told.push(format!("{kind}: {error}"));
            }
        }
    }
    told.join("; ")
}

fn patience() -> RetryPolicy {
    // At first quickly, as most proofs take a moment; later every few seconds.
    RetryPolicy::new().initial_delay(Duration::from_millis(200)).backoff(1.7).timeout(Duration::from_secs(90))
}

fn kind(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::Dns01 => ChallengeType::Dns01,
    }
}

impl ChallengeKind {
    const ALL: [Self; 3] = [Self::TlsAlpn01, Self::Http01, Self::Dns01];
}

/// A proof that is shown until this is dropped.
struct Shown {
    challenges: Arc<dyn Challenges>,
    proof: Proof,
}

impl Shown {
    fn new(challenges: &Arc<dyn Challenges>, proof: Proof) -> Self {
        challenges.set(&proof);
        Self { challenges: challenges.clone(), proof }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.challenges.clear(&self.proof);
    }
}

fn proof(errand: &Errand, challenge: &ChallengeHandle<'_>) -> Result<Proof, Trouble> {
    let authorization = challenge.key_authorization();
    let host = errand.host.clone();
    Ok(match errand.challenge {
        ChallengeKind::TlsAlpn01 => {
            let certificate = alpn_certificate(&host, authorization.digest().as_ref());
            let certificate = certificate.map_err(|error| Trouble::Local(format!("proof: {error}")))?;
            Proof::TlsAlpn { host, certificate }
        }
        ChallengeKind::Http01 => {
            // It becomes part of a path here, and comes from outside.
            let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if challenge.token.is_empty() || !challenge.token.bytes().all(good) {
                return Err(Trouble::Refused("the authority's token is malformed".to_owned()));
            }
            Proof::Http { host, token: challenge.token.clone(), answer: authorization.as_str().to_owned() }
        }
        ChallengeKind::Dns01 => {
            let base = host.strip_prefix("*.").unwrap_or(&host);
            Proof::Dns { name: format!("_acme-challenge.{base}"), value: authorization.dns_value() }
        }
    })
}

/// RFC 8737, 3: for the one name, with the digest in a critical extension, signed by itself.
fn alpn_certificate(host: &str, digest: &[u8]) -> Result<Pair, rcgen::Error> {
    let mut params = CertificateParams::new([host.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let made = params.self_signed(&key)?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Ok(Pair { chain: vec![made.der().clone()], key })
}

fn is(problem: &instant_acme::Problem, word: &str) -> bool {
    problem.r#type.as_deref().and_then(|text| text.strip_prefix("urn:ietf:params:acme:error:")) == Some(word)
}

/// Who has to act on it.
pub(crate) fn fault(trouble: Trouble, signs: Signs) -> Fault {
    let error = match trouble {
        Trouble::Refused(text) => return Fault::Refused(text),
        Trouble::Local(text) => return Fault::Local(text),
        Trouble::Acme(error) => error,
    };
    let text = match &error {
        Error::Api(problem) => problem.to_string(),
        other => chain_of(other),
    };
    match &error {
        Error::Api(problem) if is(problem, "rateLimited") => Fault::Limited(text, signs.retry_after),
        Error::Api(problem) if is(problem, "accountDoesNotExist") => Fault::Account(text),
        Error::Api(problem) if is(problem, "badNonce") || is(problem, "serverInternal") => {
            Fault::Server(text)
        }
        _ if signs.broken => match signs.retry_after {
            Some(after) => Fault::Limited(text, Some(after)),
            None => Fault::Server(text),
        },
        Error::Api(_) => Fault::Refused(text),
        // Says nothing about the host; the authority has not answered in time, or not in its language.
        _ => Fault::Server(text),
    }
}

/// An error with what is behind it.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(word: &str) -> Trouble {
        let text = format!(r#"{{"type":"urn:ietf:params:acme:error:{word}","detail":"why"}}"#);
        Trouble::Acme(Error::Api(serde_json::from_str(&text).unwrap()))
    }

    #[test]
    fn faults_are_of_those_who_can_mend_them() {
        let quiet = Signs::default();
        let broken = Signs { broken: true, retry_after: None };
        let later = Signs { broken: false, retry_after: Some(Duration::from_secs(9)) };
        let word = |fault: Fault| match fault {
            Fault::Server(_) => "server",
            Fault::Limited(_, after) => {
                if after.is_some() {
                    "limited for so long"
                } else {
                    "limited"
                }
            }
            Fault::Account(_) => "account",
            Fault::Refused(_) => "refused",
            Fault::Local(_) => "local",
        };
        for (trouble, signs, expected) in [
            (problem("rateLimited"), later, "limited for so long"),
            (problem("rateLimited"), quiet, "limited"),
            (problem("accountDoesNotExist"), quiet, "account"),
            (problem("badNonce"), quiet, "server"),
            (problem("serverInternal"), broken, "server"),
            (problem("rejectedIdentifier"), quiet, "refused"),
            (problem("caa"), quiet, "refused"),
            (Trouble::Acme(Error::Timeout(None)), quiet, "server"),
            (Trouble::Acme(Error::Str("no nonce")), broken, "server"),
            (Trouble::Acme(Error::Str("x")), Signs { broken: true, ..later }, "limited for so long"),
            (Trouble::Refused("dns-01".into()), broken, "refused"),
            (Trouble::Local("disk".into()), broken, "local"),
        ] {
            let shown = format!("{trouble:?}");
            assert_eq!(word(fault(trouble, signs)), expected, "{shown}");
        }
    }

    #[test]
    fn the_proof_by_tls_is_as_the_rfc_says() {
        use x509_parser::prelude::{FromDer, X509Certificate};
        let digest = [7; 32];
        let pair = alpn_certificate("a.example", &digest).unwrap();
        let (_, parsed) = X509Certificate::from_der(&pair.chain[0]).unwrap();
        let oid = x509_parser::der_parser::oid!(1.3.6.1.5.5.7.1.31);
        let extension = parsed.get_extension_unique(&oid).unwrap().unwrap();
        assert!(extension.critical);
        assert_eq!(extension.value, [&[4, 32][..], &digest].concat());
        assert!(crate::x509::names(&pair.chain[0], "a.example"));
    }
}
