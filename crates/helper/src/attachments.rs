//! The verbs, each from question to answer.
//!
//! Whatever is made can be undone until the last step: a namespace by its pin, a device by its
//! descriptor (it is kept only when all the rest stands), a TAP by giving it back. So a refusal
//! leaves things as they were, wherever it happens, and so does the end of this process.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use sinew_platform::netns;

use crate::codec::{Attach, IDS_IN_ONE_REPLY, Id, Reply, Request, SocketKind, Why};
use crate::failure::Failure;
use crate::inside::{self, Built, Former};
use crate::pins::{self, Pins};
use crate::rules;

/// An answer with its descriptors.
pub(crate) type Answer = (Reply, Vec<OwnedFd>);

/// Everything that is attached, as far as it has to be remembered: the rest is in the kernel.
pub(crate) struct Attachments {
    pins: Pins,
    /// The namespace this process lives in: the host's.
    own: OwnedFd,
    /// Where the TAP devices of virtual machines came from; after a restart, the host's.
    origins: BTreeMap<Id, Origin>,
}

/// Where a TAP device came from.
struct Origin {
    namespace: OwnedFd,
    was_up: bool,
}

/// A TAP device that goes back unless it is kept.
struct Borrowed<'a> {
    id: &'a Id,
    now: BorrowedFd<'a>,
    origin: Option<Origin>,
}

impl Borrowed<'_> {
    fn keep(mut self) -> Option<Origin> {
        self.origin.take()
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(origin) = &self.origin {
            let _ = give_back(self.id, self.now, origin.namespace.as_fd(), origin.was_up);
        }
    }
}

impl Attachments {
    pub(crate) fn new(pins: &Path) -> std::io::Result<Self> {
        Ok(Self { pins: Pins::in_folder(pins), own: netns::own()?, origins: BTreeMap::new() })
    }

    pub(crate) fn answer(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Answer {
        let result = match request {
            Request::NewNamespace(id) => self.new_namespace(&id),
            Request::Attach(attach) if attach.tap.is_some() => {
                self.attach_tap(&attach, descriptors.into_iter().next())
            }
            Request::Attach(attach) => self.attach(&attach, descriptors.into_iter().next()),
            Request::Reattach(attach) => self.reattach(&attach),
            Request::Detach(id) => self.detach(&id),
            Request::List(after) => self.list(after.as_ref()),
            Request::Socket(id, kind) => self.socket(&id, kind),
        };
        result.unwrap_or_else(|Failure { why, text }| (Reply::Refused { why, text }, Vec::new()))
    }

    fn new_namespace(&self, id: &Id) -> Result<Answer, Failure> {
        if self.pins.open(id).is_ok() {
            return Err(pins::taken(id));
        }
        let namespace = netns::make().map_err(|error| Failure::step("make a namespace", error))?;
        enter(namespace.as_fd(), inside::furnish)?;
        self.pins.add(id, namespace.as_fd())?.keep();
        Ok((Reply::Namespace, vec![namespace]))
    }

    fn attach(&self, attach: &Attach, given: Option<OwnedFd>) -> Result<Answer, Failure> {
        let id = &attach.id;
        let pinned = self.pins.open(id);
        let (namespace, pin) = match (given, pinned) {
            (None, Ok(pinned)) => (pinned, None),
            (None, Err(failure)) => return Err(failure),
            (Some(given), pinned) => {
                must_be_namespace(given.as_fd())?;
                match pinned {
                    Ok(pinned) if same(pinned.as_fd(), given.as_fd())? => (pinned, None),
                    Ok(_) => return Err(pins::taken(id)),
                    Err(_) => {
                        let pin = self.pins.add(id, given.as_fd())?;
                        (given, Some(pin))
                    }
                }
            }
        };
        rules::judge(attach, same(namespace.as_fd(), self.own.as_fd())?)?;
        let built = enter(namespace.as_fd(), || {
            if inside::is_attached(id)? { Err(pins::taken(id)) } else { inside::build(attach, Former::No) }
        })?;
        let answer = keep(built)?;
        if let Some(pin) = pin {
            pin.keep();
        }
        Ok(answer)
    }

    /// A namespace of its own, with the TAP device in it.
    fn attach_tap(&mut self, attach: &Attach, given: Option<OwnedFd>) -> Result<Answer, Failure> {
        let (id, tap) = (&attach.id, attach.tap.as_deref().unwrap_or_default());
        if self.pins.open(id).is_ok() {
            return Err(pins::taken(id));
        }
        rules::judge(attach, false)?;
        let home = match given {
            Some(given) => {
                must_be_namespace(given.as_fd())?;
                given
            }
            None => self.own.try_clone().map_err(|error| Failure::step("prepare", error))?,
        };
        let namespace = netns::make().map_err(|error| Failure::step("make a namespace", error))?;
        let pin = self.pins.add(id, namespace.as_fd())?;
        let mark = inside::tap_alias(id);
        let was_up = enter(home.as_fd(), || inside::hand_over_tap(tap, &mark, namespace.as_fd()))?;
        let origin = Some(Origin { namespace: home, was_up });
        let borrowed = Borrowed { id, now: namespace.as_fd(), origin };
        let built = enter(namespace.as_fd(), || inside::build(attach, Former::No))?;
        let answer = keep(built)?;
        pin.keep();
        self.origins.extend(borrowed.keep().map(|origin| (id.clone(), origin)));
        Ok(answer)
    }

    fn reattach(&self, attach: &Attach) -> Result<Answer, Failure> {
        let namespace = self.pins.open(&attach.id)?;
        rules::judge(attach, same(namespace.as_fd(), self.own.as_fd())?)?;
        keep(enter(namespace.as_fd(), || inside::build(attach, Former::Yes))?)
    }

    fn detach(&mut self, id: &Id) -> Result<Answer, Failure> {
        if let Ok(namespace) = self.pins.open(id) {
            enter(namespace.as_fd(), || inside::demolish(id))?;
            match self.origins.get(id) {
                Some(origin) => {
                    give_back(id, namespace.as_fd(), origin.namespace.as_fd(), origin.was_up)?;
                }
                None => give_back(id, namespace.as_fd(), self.own.as_fd(), true)?,
            }
        }
        self.origins.remove(id);
        self.pins.remove(id)?;
        Ok((Reply::Done, Vec::new()))
    }

    /// Only where a workload is attached; the host itself the daemon reaches without us.
    fn socket(&self, id: &Id, kind: SocketKind) -> Result<Answer, Failure> {
        let namespace = self.pins.open(id)?;
        let socket = enter(namespace.as_fd(), || inside::socket(kind))?;
        Ok((Reply::Socket, vec![socket]))
    }

    fn list(&self, after: Option<&Id>) -> Result<Answer, Failure> {
        let mut ids: Vec<_> =
            self.pins.list()?.into_iter().filter(|id| after.is_none_or(|after| id > after)).collect();
        let more = ids.len() > IDS_IN_ONE_REPLY;
        ids.truncate(IDS_IN_ONE_REPLY);
        Ok((Reply::Ids { ids, more }, Vec::new()))
    }
}

/// The last step: from here on the device is there until it is detached.
fn keep(built: Built) -> Result<Answer, Failure> {
    let Built { device, ifindex, sockets } = built;
    device.keep()?;
    let reply = Reply::Attached { ifindex, interface: device.name().to_owned() };
    let mut descriptors = vec![OwnedFd::from(device)];
    descriptors.extend(sockets);
    Ok((reply, descriptors))
}

/// A workload without a TAP device has nothing to give back.
fn give_back(id: &Id, now: BorrowedFd<'_>, home: BorrowedFd<'_>, up: bool) -> Result<(), Failure> {
    let mark = inside::tap_alias(id);
    match enter(now, || inside::give_back_tap(&mark, home))? {
        Some(name) if up => enter(home, || inside::raise(&name)),
        _ => Ok(()),
    }
}

fn must_be_namespace(fd: BorrowedFd<'_>) -> Result<(), Failure> {
    if netns::is_network_namespace(fd) {
        return Ok(());
    }
    let text = "what was given is no network namespace: the workload it belonged to has ended";
    Err(Failure::new(Why::NotANamespace, text))
}

fn same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool, Failure> {
    let identity = |fd| netns::identity(fd).map_err(|error| Failure::step("examine a namespace", error));
    Ok(identity(one)? == identity(other)?)
}

fn enter<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    netns::enter(namespace, work).map_err(|error| Failure::step("enter the namespace", error))?
}
