//! Members on the loopback, one of which lies.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use libp2p::PeerId;
use libp2p::futures::StreamExt as _;
use libp2p::identity::Keypair;
use libp2p::kad::store::{self, RecordStore};
use libp2p::kad::{self, ProviderRecord, Quorum, Record, RecordKey};
use sinew_directory::record::{LIFE, check, key};
use sinew_directory::{Book, Clockwork, Own, Refusal, Source};
use sinew_types::{Identity, Rng, UnixMicros};
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

/// A member that has this value under that place, and answers with it; where it is to be asked.
fn serves(n: u8, place: [u8; 32], value: Vec<u8>) -> (String, impl Future<Output = ()>) {
    let mut swarm = behaviour::swarm(keypair(n), Serve::On).unwrap();
    let port = free_port().port();
    swarm.listen_on(format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()).unwrap();
    swarm.behaviour_mut().kad.store_mut().put(Record::new(RecordKey::new(&place), value)).unwrap();
    let serve = async move {
        loop {
            swarm.select_next_some().await;
        }
    };
    (format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", identity(n).peer_id()), serve)
}

/// A store that has one answer to everything.
struct Parrot(Record);

impl RecordStore for Parrot {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        Some(Cow::Borrowed(&self.0))
    }

    fn put(&mut self, _: Record) -> Result<(), store::Error> {
        Ok(())
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    fn add_provider(&mut self, _: ProviderRecord) -> Result<(), store::Error> {
        Ok(())
    }

    fn providers(&self, _: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}

/// A good record of another node, under that node's own place, is no answer to what was asked.
#[tokio::test]
async fn an_answer_about_somebody_else_is_refused() {
    let stranger = Record::new(RecordKey::new(&place(99)), record(99, now()));
    let mut swarm = libp2p::SwarmBuilder::with_existing_identity(keypair(100))
        .with_tokio()
        .with_tcp(Default::default(), libp2p::noise::Config::new, libp2p::yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| {
            let config = kad::Config::new(behaviour::KAD);
            let mut kad = kad::Behaviour::with_config(key.public().into(), Parrot(stranger), config);
            kad.set_mode(Some(kad::Mode::Server));
            kad
        })
        .unwrap()
        .build();
    let port = free_port().port();
    swarm.listen_on(format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()).unwrap();
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let entry = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", identity(100).peer_id());
    let (reader, mut found) = start(3, &[], &[entry]);
    until("the member is known", || reader.status().peers == 1).await;
    reader.look_up(identity(2).node_id());
    until("it is refused", || reader.status().refused.get(Refusal::Misplaced) > 0).await;
    assert!(found.try_recv().is_err(), "nothing was believed");
}

#[tokio::test]
async fn a_reader_refuses_what_lying_members_serve_and_takes_the_truth_of_an_honest_one() {
    let (truth, day) = (now(), LIFE.as_micros() as u64);
    let mut forged = record(2, truth + 1);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let older = record(2, truth - day / 2);
    let served = [
        forged,
        record(2, truth - 2 * day),
        record(99, truth),
        // It holds still, so it can only be told from the truth by who has both.
        older.clone(),
        record(2, truth),
    ];
    let mut entries = Vec::new();
    for (n, value) in (100..).zip(served) {
        let (entry, serve) = serves(n, place(2), value);
        tokio::spawn(serve);
        entries.push(entry);
    }
    let (reader, mut found) = start(3, &[], &entries);
    until("all members are known", || reader.status().peers == entries.len()).await;
    reader.look_up(identity(2).node_id());
    let mut heard = BTreeSet::new();
    let both = async {
        while heard.len() < 2 {
            heard.insert(found.recv().await.expect("the directory runs").record);
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("the truth, and what was true once");
    assert_eq!(heard, BTreeSet::from([older.clone(), record(2, truth)]));
    let refused = |refusal| reader.status().refused.get(refusal);
    let all = [Refusal::Forged, Refusal::Expired, Refusal::Misplaced];
    until("the others are refused", || all.iter().all(|&one| refused(one) == 1)).await;
    // Whichever came first, a book ends with the newest.
    for order in [[&older, &record(2, truth)], [&record(2, truth), &older]] {
        let mut book = Book::default();
        let mut rng = Rng::new([1; 32]);
        let noted = order.map(|bytes| {
            let checked = check(bytes, Clockwork::Strict(now())).unwrap();
            book.note(checked, Source::Directory, &mut rng, sinew_types::Instant::ZERO)
        });
        assert_eq!(noted[1].is_err(), order[1] == &older, "{noted:?}");
        assert_eq!(book.get(&identity(2).node_id()).map(|known| known.record.seq), Some(truth));
    }
}
