//! The authority over HTTPS: one bounded exchange for each request.
//!
//! Instead of the ACME library's own client, for three reasons: an answer cannot be larger than [`BODY_MAX`]
//! or take longer than [`PATIENCE`]; the roots are those that were read before the process gave up its
//! files; and what the library throws away is kept here: whether the authority is out of order, and how long
//! it wants to be left alone.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::header::{HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Largest answer, bytes; chains are the largest there are.
const BODY_MAX: usize = 256 * 1024;

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the authority's answers said besides their content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// It could not be reached, or answered that it is out of order.
    pub(crate) broken: bool,
    /// Its last `Retry-After` beside a refusal.
    pub(crate) retry_after: Option<Duration>,
}

tokio::task_local! {
    /// Those of the last exchange that [`watched`] saw: orders side by side share a client.
    static SIGNS: Cell<Signs>;
}

/// Runs `work` and tells the signs of its last exchange.
pub(crate) async fn watched<T>(work: impl Future<Output = T>) -> (T, Signs) {
    let both = async { (work.await, SIGNS.with(Cell::get)) };
    SIGNS.scope(Cell::default(), both).await
}

fn note(signs: Signs) {
    // Outside of `watched` nobody asks.
    let _ = SIGNS.try_with(|cell| cell.set(signs));
}

/// A client.
#[derive(Clone)]
pub(crate) struct Web {
    tls: Arc<ClientConfig>,
}

impl Web {
    /// Trusts `roots`, PEM.
    pub(crate) fn new(roots: &[u8]) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots) {
            // Systems carry roots that this library does not read; one bad one does not spoil the rest.
            let _ = root.map(|root| store.add(root));
        }
        if store.is_empty() {
            return Err("no root certificates to know the authority by".to_owned());
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let tls = Arc::new(builder.with_root_certificates(store).with_no_client_auth());
        Ok(Self { tls })
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let answer = tokio::time::timeout(PATIENCE, self.ask(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        let answer = answer.inspect_err(|_| note(Signs { broken: true, retry_after: None }));
        let answer = answer.map_err(Error::Other)?;
        note(signs(answer.status(), answer.headers()));
        Ok(answer.into())
    }

    async fn ask(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<http_body_util::Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
        let uri = request.uri().clone();
        let (host, port) = place(&uri)?;
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        let name = ServerName::try_from(host.clone())?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let authority = uri.authority().map_or(host.as_str(), |authority| authority.as_str());
        request.headers_mut().insert(HOST, HeaderValue::from_str(authority)?);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = Uri::builder().path_and_query(path).build()?;
        let ours = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, BODY_MAX).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, http_body_util::Full::new(body)))
        };
        tokio::pin!(ours);
        // The connection ends with this exchange, one way or the other.
        tokio::select! {
            answer = ours.as_mut() => answer,
            ended = connection => {
                ended?;
                ours.await
            }
        }
    }
}

impl HttpClient for Web {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().exchange(request))
    }
}

fn place(uri: &Uri) -> io::Result<(String, u16)> {
    let refused = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text);
    if uri.scheme_str() != Some("https") {
        return Err(refused("the authority must be reached by https"));
    }
    let host = uri.host().ok_or_else(|| refused("the authority's address has no host"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), uri.port_u16().unwrap_or(443)))
}

fn signs(status: StatusCode, headers: &HeaderMap) -> Signs {
    let refused = status.is_client_error() || status.is_server_error();
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Signs {
        broken: status.is_server_error(),
        // No authority may send us away for longer than a week.
        retry_after: seconds
            .filter(|_| refused)
            .map(|seconds: u64| Duration::from_secs(seconds.min(604_800))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_asked() {
        for (uri, expected) in [
            ("https://ca.example/dir", Some(("ca.example", 443))),
            ("https://ca.example:14000/dir", Some(("ca.example", 14000))),
            ("https://[::1]:14000/dir", Some(("::1", 14000))),
            ("http://ca.example/dir", None),
            ("/dir", None),
        ] {
            let found = place(&uri.parse().unwrap()).ok();
            assert_eq!(found, expected.map(|(host, port)| (host.to_owned(), port)), "{uri}");
        }
    }

    #[test]
    fn a_wish_to_be_left_alone_counts_beside_a_refusal_and_is_bounded() {
        for (status, value, expected) in [
            (429, Some("120"), Signs { broken: false, retry_after: Some(Duration::from_secs(120)) }),
            (503, Some("5"), Signs { broken: true, retry_after: Some(Duration::from_secs(5)) }),
            (500, None, Signs { broken: true, retry_after: None }),
            (200, Some("5"), Signs::default()),
            (
                429,
                Some("99999999999"),
                Signs { broken: false, retry_after: Some(Duration::from_secs(604_800)) },
            ),
            (429, Some("soon"), Signs::default()),
        ] {
            let mut headers = HeaderMap::new();
            value.map(|value| headers.insert(RETRY_AFTER, HeaderValue::from_static(value)));
            assert_eq!(
                signs(StatusCode::from_u16(status).unwrap(), &headers),
                expected,
                "{status} {value:?}"
            );
        }
    }

    #[test]
    fn without_roots_nobody_is_believed() {
        assert!(Web::new(b"").is_err());
        assert!(Web::new(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }
}
