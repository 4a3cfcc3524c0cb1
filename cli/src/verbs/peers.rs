//! `peers [ls|add|rm]`.

use sinew_control::api::{PeerAdd, PeerChanged, PeerRemove, Peers};
use sinew_control::{ApiError, Exit, paths};
use sinew_types::PeerUri;

use crate::args::PeersVerb;
use crate::client::{Client, PATIENCE};
use crate::output::Out;
use crate::render;

pub(super) async fn run(client: &Client, out: Out, verb: Option<PeersVerb>) -> Result<Exit, ApiError> {
    match verb {
        None | Some(PeersVerb::Ls) => list(client, out).await,
        Some(PeersVerb::Add { uri, cost, save }) => {
            // Judged here as well, so that a typing error is one without a daemon too.
            uri.parse::<PeerUri>().map_err(|error| ApiError::invalid(error.to_string(), ""))?;
            let request = PeerAdd { uri, cost, save };
            let changed: PeerChanged = client.post(paths::PEERS_ADD, &request, PATIENCE).await?;
            out.object(&changed, || render::peer_changed(&changed, "added", "was a peer already"))?;
            Ok(Exit::Ok)
        }
        Some(PeersVerb::Rm { target, save }) => {
            let request = PeerRemove { target, save };
            let changed: PeerChanged = client.post(paths::PEERS_REMOVE, &request, PATIENCE).await?;
            out.object(&changed, || render::peer_changed(&changed, "removed", "was no peer"))?;
            Ok(Exit::Ok)
        }
    }
}

async fn list(client: &Client, out: Out) -> Result<Exit, ApiError> {
    let answer: Peers = client.get(paths::PEERS).await?;
    out.list(&answer, &answer.peers, || render::peers(&answer.peers, out.wide))?;
    Ok(Exit::Ok)
}
