//! The door for workloads: requests that bring the descriptor of a network namespace.
//!
//! HTTP cannot carry descriptors, so attaching has a socket of its own beside the control socket,
//! with the same permissions (control API, `workloads`). Like the handlers of the API this only
//! translates: a request becomes a command to the loop that owns the node.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde::Serialize;
use sinew_control::api::{ATTACH_MESSAGE_MAX, AttachRequest};
use sinew_control::{ApiError, Versioned};
use sinew_platform::fdpass;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::debug;

use crate::command::{Command, WorkloadCommand};

/// How long a caller may take from its call to its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// A namespace, and the process that is watched.
const DESCRIPTORS_MAX: usize = 2;

/// A request with what it brought.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) request: AttachRequest,
    /// The namespace to attach.
    pub(crate) netns: OwnedFd,
    /// Readable when the process ends whose end ends the attachment.
    pub(crate) watch: Option<OwnedFd>,
}

/// Serves the door until its task is dropped.
pub(crate) async fn serve(door: UnixListener, commands: mpsc::Sender<Command>) {
    loop {
        match door.accept().await {
            Ok((caller, _)) => {
                tokio::spawn(serve_one(caller, commands.clone()));
            }
            Err(error) => {
                debug!(%error, "attach socket");
                // Out of descriptors: those in use come back with time.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_one(mut caller: UnixStream, commands: mpsc::Sender<Command>) {
    let question = fdpass::question(&caller, ATTACH_MESSAGE_MAX, DESCRIPTORS_MAX);
    let result = match timeout(PATIENCE, question).await {
        Ok(Ok((message, descriptors))) => match request(&message, descriptors) {
            Ok(attach) => carry_out(attach, &commands).await,
            Err(error) => Err(error),
        },
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            Err(ApiError::bad_request(error.to_string()))
        }
        // Gone, or silent: nobody waits for an answer.
        Ok(Err(_)) | Err(_) => return,
    };
    let sent = match result {
        Ok(answer) => reply(&mut caller, answer).await,
        Err(error) => reply(&mut caller, error).await,
    };
    if let Err(error) = sent {
        debug!(%error, "the caller of the attach socket is gone");
    }
}

async fn reply<T: Serialize>(caller: &mut UnixStream, body: T) -> io::Result<()> {
    let message = serde_json::to_vec(&Versioned::new(body)).map_err(io::Error::other)?;
    timeout(PATIENCE, caller.write_all(&message)).await?
}

fn request(message: &[u8], mut descriptors: Vec<OwnedFd>) -> Result<Attach, ApiError> {
    let wrong = |error: serde_json::Error| ApiError::bad_request(format!("attach request: {error}"));
    let request: Versioned<AttachRequest> = serde_json::from_slice(message).map_err(wrong)?;
    let request = request.body;
    let watch = if descriptors.len() > 1 { descriptors.pop() } else { None };
    let netns = descriptors.pop().ok_or_else(|| {
        ApiError::bad_namespace("the request brought no descriptor of a network namespace")
    })?;
    if request.watch.is_some() != watch.is_some() {
        return Err(ApiError::bad_request("`watch` and the descriptor of its process come together"));
    }
    Ok(Attach { request, netns, watch })
}

async fn carry_out(
    attach: Attach,
    commands: &mpsc::Sender<Command>,
) -> Result<sinew_control::api::AttachAnswer, ApiError> {
    let (reply, answer) = oneshot::channel();
    let gone = |()| ApiError::internal("the daemon is stopping");
    commands.send(WorkloadCommand::Attach(attach, reply).into()).await.map_err(|_| gone(()))?;
    answer.await.map_err(|_| gone(()))?
}
