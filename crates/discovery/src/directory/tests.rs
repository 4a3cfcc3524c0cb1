//! Members on the loopback, one of which lies.

use std::time::{Duration, SystemTime};

use libp2p::PeerId;
use libp2p::futures::StreamExt as _;
use libp2p::identity::Keypair;
use libp2p::kad::{Quorum, Record, RecordKey};
use sinew_directory::record::{LIFE, check, key};
use sinew_directory::{Clockwork, Own, Refusal, Source};
use sinew_types::{Identity, UnixMicros};
use tokio::sync::mpsc;

use super::keeper::{judge, judge_of};
use super::*;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn now() -> UnixMicros {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as u64
}

fn identity(n: u8) -> Identity {
    Identity::from_seed([n; 32])
}

fn keypair(n: u8) -> Keypair {
    Keypair::ed25519_from_bytes(identity(n).libp2p_seed().as_mut_slice()).unwrap()
}

fn record(n: u8, seq: UnixMicros) -> Vec<u8> {
    let peer_key = keypair(n).public().try_into_ed25519().unwrap().to_bytes();
    Own { peer_key: Some(peer_key), ..Own::default() }.sign(&identity(n), seq).to_bytes()
}

fn place(n: u8) -> [u8; 32] {
    key(&identity(n).node_id())
}

#[test]
fn a_store_keeps_the_newest_of_its_owner_and_nothing_else() {
    let now = now();
    let (old, new) = (record(1, now - 5), record(1, now));
    assert_eq!(judge(&place(1), &new, Some(&old), now), Ok(LIFE));
    assert_eq!(judge(&place(1), &new, Some(&new), now), Ok(LIFE), "the same again");
    assert_eq!(judge(&place(1), &old, Some(&new), now), Err(Refusal::Older), "replayed");
    assert_eq!(judge(&place(2), &new, None, now), Err(Refusal::Misplaced));
    let mut forged = new.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(judge(&place(1), &forged, None, now), Err(Refusal::Forged));
    let day = LIFE.as_micros() as u64;
    assert_eq!(judge(&place(1), &record(1, now - 2 * day), None, now), Err(Refusal::Expired));
    assert_eq!(judge(&place(1), &record(1, now + day), None, now), Err(Refusal::TooLong));
    assert_eq!(judge(&place(1), &[0; 4000], None, now), Err(Refusal::Malformed));
    // What lies there already and is void is no reason to refuse anything.
    assert!(judge(&place(1), &old, Some(&record(1, now - 2 * day)), now).is_ok());
}

#[test]
fn a_member_speaks_for_its_own_key_only() {
    let (one, two) = (PeerId::from(keypair(1).public()), PeerId::from(keypair(2).public()));
    assert!(judge_of(&one, &record(1, now()), now()).is_ok());
    assert_eq!(judge_of(&two, &record(1, now()), now()), Err(Refusal::Misplaced));
    let silent = Own::default().sign(&identity(1), now()).to_bytes();
    assert_eq!(judge_of(&one, &silent, now()), Err(Refusal::Misplaced), "it names no key");
    assert_eq!(one.to_string(), identity(1).peer_id(), "the name that `key show` prints");
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn start(n: u8, listen: &[SocketAddr], entries: &[String]) -> (Directory, mpsc::Receiver<Found>) {
    let (sender, found) = mpsc::channel(64);
    let config = DirectoryConfig {
        seed: identity(n).libp2p_seed(),
        entries: entries.to_vec(),
        listen: listen.to_vec(),
        serve: if listen.is_empty() { Serve::Off } else { Serve::On },
        publish: true,
    };
    let directory = Directory::start(config, sender).unwrap();
    directory.publish(record(n, now()));
    (directory, found)
}

async fn hears(found: &mut mpsc::Receiver<Found>, n: u8) {
    let wanted = identity(n).node_id();
    let search = async {
        loop {
            let Found { record, source } = found.recv().await.expect("the directory runs");
            assert_eq!(source, Source::Directory);
            if check(&record, Clockwork::Strict(now())).unwrap().node == wanted {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("node {n} was not found"));
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let look = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while !so() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{what}"));
}

/// A member that says whatever it likes: puts these records, each at its place.
async fn lie(entry: &str, lies: Vec<([u8; 32], Vec<u8>)>) {
    let mut swarm = behaviour::swarm(keypair(99), Serve::Off).unwrap();
    let address: libp2p::Multiaddr = entry.parse().unwrap();
    let Some(libp2p::multiaddr::Protocol::P2p(victim)) = address.iter().last() else { panic!("no id") };
    swarm.behaviour_mut().kad.add_address(&victim, address);
    for (place, value) in lies {
        let record = Record::new(RecordKey::new(&place), value);
        swarm.behaviour_mut().kad.put_record_to(record, std::iter::once(victim), Quorum::One);
    }
    loop {
        swarm.select_next_some().await;
    }
}

#[tokio::test]
async fn members_find_each_other_and_lies_are_refused() {
    let port = free_port();
    let entry = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", port.port(), identity(1).peer_id());
    let (keeper, _keeps) = start(1, &[port], &[]);
    let (first, _) = start(2, &[], std::slice::from_ref(&entry));
    until("the record is read back", || first.status().published).await;
    let (second, mut found) = start(3, &[], std::slice::from_ref(&entry));
    until("the second is in", || second.status().peers > 0).await;
    second.look_up(identity(2).node_id());
    hears(&mut found, 2).await;
    let day = LIFE.as_micros() as u64;
    let mut forged = record(2, now() + 1);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let lies = vec![
        (place(2), forged),
        (place(2), record(99, now())),
        (place(4), record(4, now() - 2 * day)),
        (place(2), record(2, now() - day / 2)),
    ];
    let liar = tokio::spawn(async move { lie(&entry, lies).await });
    let refused = |refusal| keeper.status().refused.get(refusal);
    let all = [Refusal::Forged, Refusal::Misplaced, Refusal::Expired, Refusal::Older];
    until("all four lies are refused", || all.iter().all(|&one| refused(one) > 0)).await;
    liar.abort();
    // The truth is still there, also for who knows the entry by name.
    let (third, mut found) =
        start(5, &[], &[format!("/dns4/localhost/tcp/{}/p2p/{}", port.port(), identity(1).peer_id())]);
    until("the third is in", || third.status().peers > 0).await;
    third.look_up(identity(2).node_id());
    hears(&mut found, 2).await;
}
