//! HTTP/2 to clients and to backends: many requests at once, trailers, events as they happen,
//! WebSockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use common::*;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use sinew_gateway::config::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, future).await.unwrap() })
}

async fn client<B>(front: &Front) -> SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let stream = tokio::net::TcpStream::connect(front.at(Protocol::Https)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(front.authority.client(&[b"h2"])));
    let stream = connector.connect(ServerName::try_from("a.example").unwrap(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let (sender, serving) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(serving);
    sender
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://a.example{path}")).body(Empty::new()).unwrap()
}

/// A backend that speaks HTTP/2 and echoes bodies with trailers, as gRPC servers do.
fn grpc_backend() -> SocketAddr {
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(grpc));
                tokio::spawn(serving);
            }
        });
    });
    address.recv().unwrap()
}

async fn grpc(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let te = request.headers().get("te").cloned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-te", te.unwrap_or(HeaderValue::from_static("none")));
    let frames = [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

#[test]
fn many_requests_at_once_share_a_connection() {
    let backend = http_backend(|head, _| ok(head.split(' ').nth(1).unwrap()));
    let front = Front::start(&web(&[backend.address], ""));
    run(async {
        let sender = client(&front).await;
        let mut asks = tokio::task::JoinSet::new();
        for number in 0..100 {
            let mut sender: SendRequest<Empty<Bytes>> = sender.clone();
            asks.spawn(async move {
                let response = sender.send_request(get(&format!("/{number}"))).await.unwrap();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, format!("/{number}"));
            });
        }
        while let Some(done) = asks.join_next().await {
            done.unwrap();
        }
    });
    assert_eq!(front.gateway.status().services[0].statuses[1], 100);
}

#[test]
fn another_host_on_the_connection_is_misdirected() {
    let backend = named("x");
    let front = Front::start(&web(&[backend.address], ""));
    run(async {
        let mut sender = client(&front).await;
        let other = Request::get("https://b.example/").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(other).await.unwrap().status(), StatusCode::MISDIRECTED_REQUEST);
        assert_eq!(sender.send_request(get("/")).await.unwrap().status(), 200);
    });
}

/// Clients that are still sending take a reset of their stream for the answer (curl 7.88).
#[test]
fn a_body_that_is_answered_early_is_read_to_its_end() {
    const CHUNKS: u32 = 200;
    let backend = named("x");
    let front = Front::start(&web(&[backend.address], ""));
    run(async {
        let mut sender = client(&front).await;
        let (all, sent) = tokio::sync::oneshot::channel();
        // More than all windows hold.
        let chunks = futures_util::stream::unfold((0, Some(all)), |(count, mut all)| async move {
            if count == CHUNKS {
                all.take().unwrap().send(()).unwrap();
                return None;
            }
            let chunk = Frame::data(Bytes::from(vec![0; 64 * 1024]));
            Some((Ok::<_, Infallible>(chunk), (count + 1, all)))
        });
        let body = StreamBody::new(Box::pin(chunks));
        let upload = Request::post("https://b.example/").body(body).unwrap();
        assert_eq!(sender.send_request(upload).await.unwrap().status(), StatusCode::MISDIRECTED_REQUEST);
        sent.await.unwrap();
    });
}

#[test]
fn grpc_keeps_its_trailers_both_ways() {
    let front = Front::start(&web(&[grpc_backend()], "protocol = 'h2c'"));
    run(async {
        let mut sender = client(&front).await;
        for _ in 0..3 {
            let request = Request::post("https://a.example/svc/Echo").header("te", "trailers");
            let request =
                request.header("content-type", "application/grpc").body(Full::from("message")).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let body = response.into_body().collect().await.unwrap();
            let trailers = body.trailers().unwrap().clone();
            assert_eq!(
                (&trailers["grpc-status"], &trailers["x-te"]),
                (&"0".parse().unwrap(), &"trailers".parse().unwrap())
            );
            assert_eq!(body.to_bytes(), "message");
        }
    });
}

#[test]
fn an_event_arrives_when_it_happens() {
    let backend = backend(|mut stream| {
        read_head(&mut stream);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(b"9\r\ndata: 1\n\n\r\n");
        // The next event comes only after the test has seen the first: it ends the connection then.
        let _ = stream.read(&mut [0]);
    });
    let front = Front::start(&web(&[backend.address], "[timeouts]\nbody = 0.1"));
    run(async {
        let mut sender = client(&front).await;
        let mut body = sender.send_request(get("/")).await.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "data: 1\n\n");
        // Events come when they come: no time-out of bodies ends the stream.
        let more = tokio::time::timeout(std::time::Duration::from_millis(400), body.frame()).await;
        assert!(more.is_err(), "{more:?}");
    });
}

#[test]
fn a_stalled_body_that_is_no_stream_of_events_ends() {
    let backend = backend(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        let _ = stream.read(&mut [0]);
    });
    let front = Front::start(&web(&[backend.address], "[timeouts]\nbody = 0.2"));
    run(async {
        let mut sender = client(&front).await;
        let body = sender.send_request(get("/")).await.unwrap().into_body();
        assert!(body.collect().await.is_err());
    });
    wait("the log says so", || {
        let events = front.heard.requests.lock().unwrap();
        events.iter().any(|event| event.aborted && event.error.is_some_and(|error| error.contains("stopped")))
    });
}

#[test]
fn a_websocket_over_http2_reaches_a_backend_that_speaks_http1() {
    let backend = backend(|mut stream| {
        let head = read_head(&mut stream).to_lowercase();
        assert!(head.starts_with("get /chat http/1.1") && head.contains("sec-websocket-key: "), "{head}");
        assert!(
            head.contains("upgrade: websocket") && head.contains("sec-websocket-protocol: chat"),
            "{head}"
        );
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        );
        let mut buffer = [0; 1000];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..length]);
        }
    });
    let front = Front::start(&web(&[backend.address], ""));
    run(async {
        let mut sender = client(&front).await;
        // The settings that allow it have to come first.
        let other = Request::get("https://b.example/").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(other).await.unwrap().status(), 421);
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = "https://a.example/chat".parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
        request.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
        request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.headers().get("sec-websocket-accept").is_none());
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        for number in 0..50u8 {
            stream.write_all(&[number; 100]).await.unwrap();
            let mut back = [0; 100];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(back, [number; 100]);
        }
    });
}

#[test]
fn a_flood_of_streams_and_headers_is_bounded() {
    let backend = named("x");
    let front = Front::start(&web(&[backend.address], "[limits]\nheader_bytes = 4096"));
    run(async {
        let mut sender = client(&front).await;
        let large = Request::get("https://a.example/").header("x", "y".repeat(8000));
        let answer = sender.send_request(large.body(Empty::<Bytes>::new()).unwrap()).await;
        assert!(answer.is_err() || answer.unwrap().status() == 431);
    });
}
