//! Certificates and TLS settings of the carriers that look like the web's own traffic.
//!
//! TLS here only disguises: it makes WebSocket and QUIC carriers pass networks that let nothing else
//! through. It proves nothing about who is at the other end, and nothing relies on it, because what
//! travels inside are records of a session whose handshake has proved both keys (protocol A2), and
//! whoever sits between can do no more than on plain UDP: drop, delay, repeat. Hence a dialler takes
//! *any* certificate, and a listener makes one of its own at start. A certificate from a file is
//! for listeners that share a name with a web site, so that probes see what they expect.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use thiserror::Error;

/// What an observer of a self-made certificate reads in it: nothing of the node.
const OWN_NAME: &str = "localhost";

/// Why there is no usable certificate.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file does not hold what it should.
    #[error("{file}: {problem}; it must be PEM, the certificate first, then those that signed it")]
    File {
        /// Path of the file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// Certificate and key do not fit, or the system has no randomness.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// What a listener shows: a chain of certificates and the key of the first.
#[derive(Debug)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// One of our own making, good for nothing but to begin TLS.
    ///
    /// # Errors
    /// Without randomness.
    pub fn self_made() -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed([OWN_NAME.to_owned()]).map_err(setup)?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Ok(Self { chain: vec![made.cert.der().clone()], key: key.into() })
    }

    /// From PEM files.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let wrong = |path: &Path, error: rustls::pki_types::pem::Error| TlsError::File {
            file: path.display().to_string(),
            problem: error.to_string(),
        };
        let certificates: Vec<_> = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect)
            .map_err(|error| wrong(chain, error))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error))?;
        if certificates.is_empty() {
            return Err(wrong(chain, rustls::pki_types::pem::Error::NoItemsFound));
        }
        Ok(Self { chain: certificates, key })
    }

    /// Settings of a listener that speaks `protocol` (an ALPN name) inside.
    ///
    /// # Errors
    /// When certificate and key do not fit.
    pub(crate) fn server(&self, protocol: &[u8]) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(setup)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(setup)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }
}

/// Settings of a dialler that takes any certificate; see above why.
///
/// # Errors
/// When the provider lacks a protocol version, which ours does not.
pub(crate) fn client(protocol: &[u8]) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn setup(error: impl std::fmt::Display) -> TlsError {
    TlsError::Setup(error.to_string())
}

/// Looks at no certificate, and only checks that the far end holds the key of the one it shows.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
