//! `network admin grant|revoke`: what the owner's key signs after a network was made.
//!
//! ```text
//!  with a daemon at hand          documents ─▶ signed here ─▶ handed in
//!  the key on an offline machine  export ─▶ (carry) ─▶ signed there, --documents --sign-to ─▶ (carry) ─▶ import
//! ```

use std::path::{Path, PathBuf};

use serde::Serialize;
use sinew_control::api::{Documents, DocumentsImport, Hex, LoadedConfig, NetworkChanged};
use sinew_control::config::ConfigFile;
use sinew_control::{ApiError, Exit, paths};
use sinew_overlay::{Grant, Owner, Range4, Refusal, RefusalKind, Signed};
use sinew_platform::{clock, keyfile};
use sinew_types::{Identity, NodeId};

use super::create::MEMBER_PREFIX;
use super::{CHANGE_PATIENCE, documents};
use crate::args::{AdminRevokeArgs, AdminVerb, GrantArgs, OwnerArgs, Range, Scope};
use crate::client::Client;
use crate::output::Out;
use crate::render;

/// What signing came to.
#[derive(Serialize)]
struct Done {
    /// Of the network as this command saw it.
    network: String,
    subject: String,
    /// Members admitted by a revoked admin that the owner keeps.
    kept: Vec<String>,
    /// Those that it does not keep.
    lost: Vec<String>,
    /// Where the documents were written; `null` = handed in.
    signed_to: Option<PathBuf>,
    /// What the daemon made of them; `null` = not handed in.
    changed: Option<NetworkChanged>,
}

pub(super) async fn run(client: &Client, out: Out, verb: AdminVerb) -> Result<Exit, ApiError> {
    let done = match verb {
        AdminVerb::Grant(args) => grant(client, args).await?,
        AdminVerb::Revoke(args) => revoke(client, args).await?,
    };
    out.object(&done, || text(&done))?;
    Ok(Exit::Ok)
}

async fn grant(client: &Client, args: GrantArgs) -> Result<Done, ApiError> {
    let node = node_id(&args.node)?;
    let desk = Desk::open(client, args.network, &args.owner).await?;
    let owner = desk.owner()?;
    let numbers = match (args.range, owner.state().plan.range()) {
        (None, _) => owner.free_numbers().ok_or_else(|| {
            let hint = "revoke an admin, or give this one a part of another's --range";
            ApiError::new("nothing_left", Exit::Usage, "every subnet may be shared out by some admin", hint)
        })?,
        (Some(share), Some(range)) => numbers(&range, share)?,
        (Some(_), None) => {
            return Err(ApiError::invalid("this network has no IPv4 range", "leave --range out"));
        }
    };
    let longest = args.longest.map(|longest| u32::try_from(longest.as_secs()).unwrap_or(u32::MAX));
    let bits = args.scope.iter().fold(0, |bits, scope| {
        bits | match scope {
            Scope::Admit => Grant::ADMIT,
            Scope::Revoke => Grant::REVOKE,
            Scope::Policy => Grant::POLICY,
            Scope::Head => Grant::HEAD,
        }
    });
    let grant = Grant { scopes: bits, numbers, longest };
    let signed = owner.grant(node, grant, None).map_err(|refusal| refused(&refusal))?;
    deliver(client, &desk.source, &args.owner, node, &signed).await
}

async fn revoke(client: &Client, args: AdminRevokeArgs) -> Result<Done, ApiError> {
    let node = node_id(&args.node)?;
    let drop = args.drop.iter().map(|text| node_id(text)).collect::<Result<Vec<_>, _>>()?;
    let desk = Desk::open(client, args.network, &args.owner).await?;
    let keep = |member: &sinew_overlay::Member| !args.drop_all && !drop.contains(&member.node);
    let revoked = desk.owner()?.revoke_admin(&node, keep).map_err(|refusal| refused(&refusal))?;
    let mut done = deliver(client, &desk.source, &args.owner, node, &revoked.documents).await?;
    done.kept = revoked.kept.iter().map(NodeId::to_string).collect();
    done.lost = revoked.lost.iter().map(NodeId::to_string).collect();
    Ok(done)
}

/// What is needed to sign: the network's documents and the owner's key.
struct Desk {
    key: Identity,
    source: Documents,
}

impl Desk {
    async fn open(client: &Client, network: String, args: &OwnerArgs) -> Result<Self, ApiError> {
        let source = match &args.documents {
            Some(file) => documents::read(file)?,
            None => documents::fetch(client, network).await?,
        };
        let file = match (&args.owner_key, &args.documents) {
            (Some(file), _) => file.clone(),
            (None, None) => default_key_file(client, &source.name).await?,
            (None, Some(_)) => {
                let hint = "name it: --owner-key FILE";
                return Err(ApiError::invalid(
                    "which owner's key? No daemon is asked with --documents",
                    hint,
                ));
            }
        };
        let seed = keyfile::load(&file)
            .map_err(|error| ApiError::invalid(error.to_string(), "--owner-key FILE names another"))?;
        let key = Identity::from_seed(*seed);
        if key.node_id().to_string() != source.network {
            let message = format!("{} is not the key of {}'s owner", file.display(), source.name);
            let hint = "--owner-key FILE names another";
            return Err(ApiError::new("not_owner", Exit::Denied, message, hint));
        }
        Ok(Self { key, source })
    }

    fn owner(&self) -> Result<Owner<'_>, ApiError> {
        let documents: Vec<_> = self.source.documents.iter().map(|hex| hex.0.clone()).collect();
        Owner::read(&self.key, &documents, clock::unix() / 1_000_000).map_err(|refusal| refused(&refusal))
    }
}

/// Hands in what was signed, or writes it down.
async fn deliver(
    client: &Client,
    source: &Documents,
    args: &OwnerArgs,
    subject: NodeId,
    signed: &[Signed],
) -> Result<Done, ApiError> {
    let documents: Vec<_> = signed.iter().map(|signed| Hex(signed.bytes.to_vec())).collect();
    let changed = match &args.sign_to {
        Some(file) => {
            let (network, name) = (source.network.clone(), source.name.clone());
            documents::write(file, &Documents { network, name, documents })?;
            None
        }
        None => {
            let request = DocumentsImport { network: source.network.clone(), documents };
            Some(client.post(paths::NETWORKS_DOCUMENTS_IMPORT, &request, CHANGE_PATIENCE).await?)
        }
    };
    Ok(Done {
        network: source.network.clone(),
        subject: subject.to_string(),
        kept: Vec::new(),
        lost: Vec::new(),
        signed_to: args.sign_to.clone(),
        changed,
    })
}

fn text(done: &Done) -> String {
    let mut text = match (&done.changed, &done.signed_to) {
        (Some(changed), _) => render::network::changed(
            &NetworkChanged { subject: Some(done.subject.clone()), ..changed.clone() },
            "done",
            "was so already",
        ),
        (None, file) => {
            let file = file.as_deref().unwrap_or(Path::new("-")).display();
            format!("signed into {file}: hand it in with `sinew network documents import NETWORK {file}`\n")
        }
    };
    for (what, nodes) in [("stays a member", &done.kept), ("is no member any more", &done.lost)] {
        nodes.iter().for_each(|node| text.push_str(&format!("{node} {what}\n")));
    }
    text
}

/// Where `network create` puts the owner's key.
pub(super) async fn default_key_file(client: &Client, name: &str) -> Result<PathBuf, ApiError> {
    let loaded: LoadedConfig = client.get(paths::CONFIG).await?;
    let file = ConfigFile::parse(Path::new(&loaded.file), loaded.text).map_err(|_| {
        let hint = "name the owner's key: --owner-key FILE";
        ApiError::new("bad_answer", Exit::Usage, "the daemon's configuration is not understood", hint)
    })?;
    Ok(file.config.node.state_dir.join("networks").join(format!("{name}.owner.key")))
}

/// The numbers of the subnets that a share of the network's range holds. Number 0 is nobody's.
pub(super) fn numbers(range: &Range4, share: Range) -> Result<(u16, u16), ApiError> {
    let outside = || {
        let message = format!("{share} is not inside {}/{}", range.first, range.len);
        ApiError::invalid(message, "a part of the network's range, from its own size to a /24")
    };
    let offset = share.network.to_bits().checked_sub(range.first.to_bits()).ok_or_else(outside)?;
    if share.prefix < range.len || share.prefix > MEMBER_PREFIX {
        return Err(outside());
    }
    let first = offset >> (32 - MEMBER_PREFIX);
    let last = first + (1 << (MEMBER_PREFIX - share.prefix)) - 1;
    if last >= 1 << (MEMBER_PREFIX - range.len) {
        return Err(outside());
    }
    let number = |number: u32| u16::try_from(number).map_err(|_| outside());
    let (first, last) = (number(first.max(1))?, number(last)?);
    if first > last {
        return Err(ApiError::invalid(format!("{share} is kept for the network as a whole"), ""));
    }
    Ok((first, last))
}

fn node_id(text: &str) -> Result<NodeId, ApiError> {
    text.parse().map_err(|error| {
        ApiError::invalid(format!("{text}: {error}"), "a whole node id: `sinew key show` there")
    })
}

pub(super) fn refused(refusal: &Refusal) -> ApiError {
    let exit = match refusal.kind() {
        RefusalKind::Usage => Exit::Usage,
        RefusalKind::Unreachable => Exit::Unreachable,
        RefusalKind::Unknown => Exit::Unknown,
        RefusalKind::Denied => Exit::Denied,
    };
    ApiError::new(refusal.code(), exit, refusal.to_string(), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(network: [u8; 4], prefix: u8) -> Result<(u16, u16), ApiError> {
        let range = Range4 { first: [10, 20, 0, 0].into(), len: 16, member_len: MEMBER_PREFIX };
        numbers(&range, Range { network: network.into(), prefix })
    }

    #[test]
    fn a_share_of_the_range_is_a_run_of_numbers() {
        assert_eq!(share([10, 20, 0, 0], 17), Ok((1, 127)));
        assert_eq!(share([10, 20, 128, 0], 17), Ok((128, 255)));
        assert_eq!(share([10, 20, 7, 0], 24), Ok((7, 7)));
        assert_eq!(share([10, 20, 0, 0], 16), Ok((1, 255)));
        for (network, prefix) in
            [([10, 21, 0, 0], 17), ([10, 0, 0, 0], 8), ([10, 19, 0, 0], 16), ([10, 20, 0, 0], 24)]
        {
            assert!(share(network, prefix).is_err(), "{network:?}/{prefix}");
        }
    }
}
