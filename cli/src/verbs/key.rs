//! `key new|show|secret`.

use std::path::Path;

use serde::Serialize;
use sinew_control::api::Key;
use sinew_control::{ApiError, Exit, paths};
use sinew_platform::{KeyFileError, keyfile, secretfile};
use sinew_types::Identity;
use zeroize::Zeroizing;

use crate::args::KeyVerb;
use crate::client::Client;
use crate::output::Out;
use crate::render;

/// What `key secret` made.
#[derive(Serialize)]
struct Made<'a> {
    file: &'a Path,
}

pub(super) async fn run(client: &Client, out: Out, verb: KeyVerb) -> Result<Exit, ApiError> {
    let key = match verb {
        KeyVerb::New { file } => names(keyfile::create(&file).map_err(refused)?),
        KeyVerb::Show { file: Some(file) } => names(keyfile::load(&file).map_err(refused)?),
        KeyVerb::Show { file: None } => client.get(paths::KEY).await?,
        KeyVerb::Secret { file } => {
            secretfile::create(&file, &*random()?).map_err(refused)?;
            let table = || format!("{} holds a new mesh secret; copy it to every node\n", file.display());
            out.object(&Made { file: &file }, table)?;
            return Ok(Exit::Ok);
        }
    };
    out.object(&key, || render::key(&key))?;
    Ok(Exit::Ok)
}

fn names(seed: Zeroizing<[u8; 32]>) -> Key {
    Key::of(&Identity::from_seed(*seed))
}

fn random() -> Result<Zeroizing<[u8; 32]>, ApiError> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut_slice())
        .map_err(|error| ApiError::invalid(format!("no random bytes from the system: {error}"), ""))?;
    Ok(secret)
}

fn refused(error: KeyFileError) -> ApiError {
    ApiError::invalid(error.to_string(), "")
}
