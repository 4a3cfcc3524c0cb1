//! Relays between real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

const HOUR: Duration = Duration::from_secs(3600);

async fn relayed(
    spliced: bool,
    idle: Duration,
) -> (TcpStream, TcpStream, tokio::task::JoinHandle<(End, u64, u64)>) {
    let (client, inner_client) = pair().await;
    let (inner_backend, backend) = pair().await;
    let task = tokio::spawn(async move {
        let moved = Moved::default();
        let end = if spliced {
            tcp(inner_client, Stream::Tcp(inner_backend), idle, &moved).await
        } else {
            tcp(inner_client, Stream::Other(Box::new(inner_backend)), idle, &moved).await
        };
        (end, moved.up.get(), moved.down.get())
    });
    (client, backend, task)
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn large_transfers_arrive_whole_both_ways_at_once() {
    const LENGTH: usize = 20 << 20;
    for spliced in [true, false] {
        block_on(async move {
            let (client, backend, task) = relayed(spliced, HOUR).await;
            let sent = std::sync::Arc::new(noise(LENGTH));
            let both = [client, backend].map(|stream| {
                let sent = sent.clone();
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    let expected = sent.clone();
                    let writer = tokio::spawn(async move {
                        write.write_all(&sent).await.unwrap();
                        write.shutdown().await.unwrap();
                        write
                    });
                    let mut got = Vec::new();
                    read.read_to_end(&mut got).await.unwrap();
                    writer.await.unwrap();
                    assert!(got == *expected, "bytes changed");
                })
            });
            for side in both {
                side.await.unwrap();
            }
            assert_eq!(task.await.unwrap(), (End::Closed, LENGTH as u64, LENGTH as u64));
        });
    }
}

#[test]
fn an_end_one_way_leaves_the_other_open() {
    for spliced in [true, false] {
        block_on(async move {
            let (mut client, mut backend, task) = relayed(spliced, HOUR).await;
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut got = Vec::new();
            backend.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"question");
            backend.write_all(b"answer").await.unwrap();
            drop(backend);
            got.clear();
            client.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"answer");
            assert_eq!(task.await.unwrap(), (End::Closed, 8, 6));
        });
    }
}

#[test]
fn a_pair_that_moves_nothing_ends() {
    for spliced in [true, false] {
        block_on(async move {
            let (mut client, _backend, task) = relayed(spliced, Duration::from_millis(50)).await;
            assert_eq!(task.await.unwrap().0, End::Idle);
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        });
    }
}

#[test]
fn a_side_that_breaks_off_ends_both() {
    for spliced in [true, false] {
        block_on(async move {
            let (client, mut backend, task) = relayed(spliced, HOUR).await;
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            assert_eq!(task.await.unwrap().0, End::Broken);
            let _ = backend.read(&mut [0; 8]).await;
        });
    }
}
