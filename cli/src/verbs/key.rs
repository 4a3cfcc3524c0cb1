//! `key new|show|secret`.

use std::path::Path;

use serde::Serialize;
use sinew_control::api::Key;
use sinew_control::secrets::{self, Secret, SecretError};
use sinew_control::{ApiError, Exit, paths};

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
        KeyVerb::New { file } => Key::of(&secrets::create_key(&file, &random()?).map_err(refused)?),
        KeyVerb::Show { file: Some(file) } => Key::of(&secrets::load_key(&file).map_err(refused)?),
        KeyVerb::Show { file: None } => client.get(paths::KEY).await?,
        KeyVerb::Secret { file } => {
            secrets::create_mesh_secret(&file, &random()?).map_err(refused)?;
            let table = || format!("{} holds a new mesh secret; copy it to every node\n", file.display());
            out.object(&Made { file: &file }, table)?;
            return Ok(Exit::Ok);
        }
    };
    out.object(&key, || render::key(&key))?;
    Ok(Exit::Ok)
}

fn random() -> Result<Secret, ApiError> {
    let mut seed = Secret::new([0; 32]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| ApiError::invalid(format!("no random bytes from the system: {error}"), ""))?;
    Ok(seed)
}

fn refused(error: SecretError) -> ApiError {
    ApiError::invalid(error.to_string(), "")
}
