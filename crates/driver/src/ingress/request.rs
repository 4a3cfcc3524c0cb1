//! A connection from its arrival to the answer: bounded in time, in bytes and in number, whoever comes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sinew_control::api::{Answer, AnswerState};
use sinew_types::MeshAddr;
use sinew_wire::ingress::{ANSWER_MAX, AnswerHead, HEAD_LEN, Head, Request, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::count::Outcome;
use super::table::Key;
use super::{Asked, Brought, Errand, Shared, datagrams, streams};
use sinew_platform::keepalive;

/// How long a request may take to be said, and a gateway's own part to think about documents.
const PATIENCE: Duration = Duration::from_secs(5);
const DESK_PATIENCE: Duration = Duration::from_secs(8);
/// Requests that are being said: in all, and by one node.
const SAYING: usize = 512;
const SAYING_OF_ONE: usize = 128;
/// Those that are told that there is no room: in all, by one node, and how long each may take to hear it.
const TURNED: usize = 512;
const TURNED_OF_ONE: usize = 128;
const TURNED_PATIENCE: Duration = Duration::from_secs(1);
/// Connections of one node: no gateway may take the room of the others.
const SHARE_OF_ONE: usize = 2;
/// Lists of names that are being told: in all, and to one node; and how long each may take.
const LISTS: usize = 16;
const LISTS_OF_ONE: usize = 1;
const LIST_PATIENCE: Duration = Duration::from_secs(30);
/// After an error of the listener itself (no descriptors are left).
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections there are, by source.
#[derive(Default)]
struct Crowd {
    saying: BTreeMap<Ipv6Addr, usize>,
    turned: BTreeMap<Ipv6Addr, usize>,
    streams: BTreeMap<Ipv6Addr, usize>,
    lists: BTreeMap<Ipv6Addr, usize>,
}

/// Whose limit is meant.
#[derive(Clone, Copy)]
enum Part {
    Saying,
    Turned,
    Streams,
    Lists,
}

impl Crowd {
    const fn part(&mut self, part: Part) -> &mut BTreeMap<Ipv6Addr, usize> {
        match part {
            Part::Saying => &mut self.saying,
            Part::Turned => &mut self.turned,
            Part::Streams => &mut self.streams,
            Part::Lists => &mut self.lists,
        }
    }
}

/// A place in the crowd, given back when dropped.
struct Place {
    crowd: Arc<Mutex<Crowd>>,
    from: Ipv6Addr,
    part: Part,
}

impl Place {
    fn take(crowd: &Arc<Mutex<Crowd>>, from: Ipv6Addr, part: Part, all: usize, one: usize) -> Option<Self> {
        let mut inner = crowd.lock().unwrap_or_else(PoisonError::into_inner);
        let places = inner.part(part);
        if places.values().sum::<usize>() >= all || places.get(&from).is_some_and(|own| *own >= one) {
            return None;
        }
        *places.entry(from).or_default() += 1;
        drop(inner);
        Some(Self { crowd: Arc::clone(crowd), from, part })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        let places = inner.part(self.part);
        if let Some(count) = places.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                places.remove(&self.from);
            }
        }
    }
}

/// Takes connections until the runtime ends.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let listener =
        match listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener)) {
            Ok(listener) => listener,
            Err(error) => return tracing::warn!(%error, "the service port is closed"),
        };
    let crowd: Arc<Mutex<Crowd>> = Arc::default();
    loop {
        let (stream, from) = match listener.accept().await {
            Ok((stream, from)) => (stream, from.ip()),
            Err(error) => {
                debug!(%error, "accept");
                sleep(PAUSE).await;
                continue;
            }
        };
        let IpAddr::V6(from) = from else { continue };
        if !MeshAddr::contains(&from) {
            shared.counters.note(Outcome::Crowded);
            continue;
        }
        if let Some(place) = Place::take(&crowd, from, Part::Saying, SAYING, SAYING_OF_ONE) {
            drop(tokio::spawn(serve(stream, from, place, Arc::clone(&shared))));
        } else if let Some(place) = Place::take(&crowd, from, Part::Turned, TURNED, TURNED_OF_ONE) {
            shared.counters.note(Outcome::Answered(Status::Busy));
            drop(tokio::spawn(turn_away(stream, place)));
        } else {
            shared.counters.note(Outcome::Crowded);
        }
    }
}

/// Says that there is no room. What is being said is heard to its end and thrown away: were the socket closed
/// meanwhile, the kernel would reset the connection, and who asks might never read the answer.
async fn turn_away(mut stream: TcpStream, _place: Place) {
    let told = async {
        stream.write_all(&[Status::Busy as u8]).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let _ = timeout(TURNED_PATIENCE, told).await;
}

async fn serve(mut stream: TcpStream, from: Ipv6Addr, place: Place, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let _ = keepalive::set(&stream);
    let request = match timeout(PATIENCE, read(&mut stream)).await {
        Ok(Ok(request)) => request,
        Ok(Err(Said::Malformed)) => {
            shared.counters.note(Outcome::Answered(Status::Malformed));
            return drop(stream.write_all(&[Status::Malformed as u8]).await);
        }
        Ok(Err(Said::Nothing)) | Err(_) => return shared.counters.note(Outcome::Silent),
    };
    match request {
        Request::Publish(documents) => {
            let status = publish(&mut stream, documents, &shared).await;
            shared.counters.note(Outcome::Answered(status));
        }
        Request::Names(domain) => {
            let status = names(&mut stream, domain, &place, &shared).await;
            shared.counters.note(Outcome::Answered(status));
        }
        Request::Connect(open) => {
            let key = Key { from, open, datagrams: false };
            open_stream(&mut stream, key, place, &shared).await;
        }
        Request::Datagrams(open) => {
            let key = Key { from, open, datagrams: true };
            open_stream(&mut stream, key, place, &shared).await;
        }
    }
}

enum Said {
    Malformed,
    Nothing,
}

async fn read(stream: &mut TcpStream) -> Result<Request, Said> {
    let mut head = [0; HEAD_LEN];
    stream.read_exact(&mut head).await.map_err(|_| Said::Nothing)?;
    let head = Head::parse(&head).map_err(|_| Said::Malformed)?;
    // In bounds: the head was refused otherwise. Filled as it comes, not before.
    let mut body = Vec::new();
    let whole = stream.take(u64::from(head.len)).read_to_end(&mut body).await;
    if whole.map_err(|_| Said::Nothing)? != head.len as usize {
        return Err(Said::Nothing);
    }
    Request::parse(head, &body).map_err(|_| Said::Malformed)
}

/// Grants a stream or says why not; what is granted goes on in a task of its own, with its own place.
async fn open_stream(stream: &mut TcpStream, key: Key, place: Place, shared: &Arc<Shared>) {
    let (all, one) = (shared.streams, shared.streams / SHARE_OF_ONE);
    let own = Place::take(&place.crowd, key.from, Part::Streams, all, one);
    let result = match own {
        None => Err(Status::Busy),
        Some(own) => {
            let found = shared.tables.borrow().find(&key).cloned();
            match found {
                Ok(target) => {
                    streams::reach(&key, &target, shared).await.map(|reached| (reached, target, own))
                }
                Err(status) => Err(status),
            }
        }
    };
    drop(place);
    let status = result.as_ref().err().copied().unwrap_or(Status::Ok);
    shared.counters.note(Outcome::Answered(status));
    if stream.write_all(&[status as u8]).await.is_err() {
        return;
    }
    if let Ok((reached, target, own)) = result {
        let counted = shared.counters.opened(key.service());
        match reached {
            streams::Reached::Stream(backend) => {
                streams::relay(stream, backend, (&key, &target), &counted, shared).await;
            }
            streams::Reached::Datagrams(socket) => {
                datagrams::relay(stream, &socket, (&key, &target), &counted, shared).await;
            }
        }
        drop(own);
    }
}

/// Hands documents to the gateway of this node, if it is one, and its answer back.
async fn publish(stream: &mut TcpStream, documents: Vec<Vec<u8>>, shared: &Arc<Shared>) -> Status {
    let (status, answer) = match &shared.desk {
        Some(desk) => {
            let (reply, answer) = oneshot::channel();
            match desk.try_send(Errand::Brought(Brought { documents, reply })) {
                Ok(()) => match timeout(DESK_PATIENCE, answer).await {
                    Ok(Ok(answer)) => (Status::Ok, Some(answer)),
                    _ => (Status::Busy, None),
                },
                Err(_) => (Status::Busy, None),
            }
        }
        None => (Status::Ok, Some(no_gateway())),
    };
    let json = answer.and_then(|answer| serde_json::to_vec(&answer).ok()).unwrap_or_default();
    let status = if json.len() > ANSWER_MAX { Status::Busy } else { status };
    let json = if status == Status::Ok { json } else { Vec::new() };
    conclude(stream, status, &json, PATIENCE).await;
    status
}

/// Tells another gateway of this one's domain whose its names are (protocol A11.6).
async fn names(stream: &mut TcpStream, domain: String, place: &Place, shared: &Arc<Shared>) -> Status {
    let own = Place::take(&place.crowd, place.from, Part::Lists, LISTS, LISTS_OF_ONE);
    let told = match (&shared.desk, &own) {
        (None, _) => Err(Status::NotPublished),
        (_, None) => Err(Status::Busy),
        (Some(desk), Some(_)) => {
            let (reply, told) = oneshot::channel();
            match desk.try_send(Errand::Asked(Asked { from: place.from, domain, reply })) {
                Ok(()) => timeout(DESK_PATIENCE, told).await.ok().and_then(Result::ok),
                Err(_) => None,
            }
            .unwrap_or(Err(Status::Busy))
        }
    };
    let (status, list) = told.map_or_else(|status| (status, Vec::new()), |list| (Status::Ok, list));
    conclude(stream, status, &list, LIST_PATIENCE).await;
    status
}

async fn conclude(stream: &mut TcpStream, status: Status, body: &[u8], patience: Duration) {
    let head = AnswerHead { status, len: body.len() as u32 };
    let whole = async {
        stream.write_all(&head.emit()).await?;
        stream.write_all(body).await
    };
    let _ = timeout(patience, whole).await;
}

fn no_gateway() -> Answer {
    Answer {
        service: None,
        seq: 0,
        state: AnswerState::Refused,
        hosts: Vec::new(),
        addresses: Vec::new(),
        port: None,
        code: "not_a_gateway".to_owned(),
        text: "that node is no gateway: its configuration has no [gateway]".to_owned(),
    }
}
