//! `network create`: the owner's key is made and used here; the daemon gets finished documents.

use std::path::PathBuf;

use serde::Serialize;
use sinew_control::api::{Hex, Key, NetworkCreate, NetworkCreated};
use sinew_control::{ApiError, Exit, paths};
use sinew_overlay::{Founding, Range4, found};
use sinew_platform::keyfile;
use sinew_platform::{KeyFileError, clock};
use sinew_types::{Identity, Label, NodeId};

use super::CHANGE_PATIENCE;
use super::owner::{default_key_file, numbers, refused};
use crate::args::{CreateArgs, Format};
use crate::client::{Client, PATIENCE};
use crate::output::{self, Out};
use crate::render;

/// A member's IPv4 prefix.
pub(super) const MEMBER_PREFIX: u8 = 24;
/// Longest prefix of a network with room for a few members.
const LONGEST_PREFIX: u8 = 22;

/// A new network, and where its owner's key lies.
#[derive(Serialize)]
struct Made {
    #[serde(flatten)]
    network: NetworkCreated,
    owner_key: PathBuf,
}

pub(super) async fn run(client: &Client, out: Out, args: CreateArgs) -> Result<Exit, ApiError> {
    let name: Label =
        args.name.parse().map_err(|error| ApiError::invalid(format!("{}: {error}", args.name), ""))?;
    if args.ipv4.prefix > LONGEST_PREFIX {
        let message = format!("{} has no room for members, which get a /24 each", args.ipv4);
        return Err(ApiError::invalid(message, "a range from /8 to /22"));
    }
    let range = Range4 { first: args.ipv4.network, len: args.ipv4.prefix, member_len: MEMBER_PREFIX };
    let subnets = 1u32 << (MEMBER_PREFIX - args.ipv4.prefix);
    let numbers = match args.admin_range {
        Some(share) => numbers(&range, share)?,
        None => (1, u16::try_from(subnets / 2 - 1).unwrap_or(u16::MAX)),
    };
    let key: Key = client.get(paths::KEY).await?;
    let admin: NodeId = key.node_id.parse().map_err(|_| ApiError::bad_answer("its key is none"))?;
    let file = match args.owner_key {
        Some(file) => file,
        None => default_key_file(client, &args.name).await?,
    };
    let (owner, made) = owner_key(&file)?;
    let founding = Founding {
        name,
        range: Some(range),
        strict: args.strict,
        admin,
        admin_name: None,
        groups: Vec::new(),
        numbers: Some(numbers),
    };
    let now = clock::unix() / 1_000_000;
    let created = match found(&owner, &founding, now) {
        Ok(documents) => hand_in(client, args.name, documents).await,
        Err(refusal) => Err(refused(&refusal)),
    };
    if created.is_err() && made {
        // A key of nothing would only raise questions.
        let _ = std::fs::remove_file(&file);
    }
    let made = Made { network: created?, owner_key: std::path::absolute(&file).unwrap_or(file) };
    out.object(&made, || render::network::created(&made.network, &made.owner_key))?;
    if out.format == Format::Table {
        output::note("the owner's key is needed only to change admins, and whoever has it owns the network:");
        output::note("move it to a place that is offline, with a copy (`sinew network admin --help`)");
    }
    Ok(Exit::Ok)
}

async fn hand_in(
    client: &Client,
    name: String,
    documents: Vec<Vec<u8>>,
) -> Result<NetworkCreated, ApiError> {
    let documents = documents.into_iter().map(Hex).collect();
    client
        .post(paths::NETWORKS_CREATE, &NetworkCreate { name, documents }, CHANGE_PATIENCE.max(PATIENCE))
        .await
}

/// The key in the file, made there if there is none; whether it was made.
fn owner_key(file: &std::path::Path) -> Result<(Identity, bool), ApiError> {
    let (seed, made) = match keyfile::load(file) {
        Err(KeyFileError::Missing { .. }) => (keyfile::create(file), true),
        result => (result, false),
    };
    let seed =
        seed.map_err(|error| ApiError::invalid(error.to_string(), "--owner-key FILE names another"))?;
    Ok((Identity::from_seed(*seed), made))
}
