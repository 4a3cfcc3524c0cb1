//! `network documents export|import`: signed documents as files.
//!
//! They carry the owner's decisions between a machine that is never online, where the key is, and
//! the network. A file is the API's own JSON, so that a script can read it.

use std::io::Read as _;
use std::path::Path;

use sinew_control::api::{Documents, DocumentsImport, NetworkQuery};
use sinew_control::{ApiError, Exit, Versioned, paths};

use crate::args::DocumentsVerb;
use crate::client::{Client, PATIENCE};
use crate::output::{self, Out};

pub(super) async fn run(client: &Client, out: Out, verb: DocumentsVerb) -> Result<Exit, ApiError> {
    match verb {
        DocumentsVerb::Export { network, file } => export(client, network, file.as_deref()).await,
        DocumentsVerb::Import { network, file } => {
            let documents = read(&file)?.documents;
            let request = DocumentsImport { network, documents };
            let path = paths::NETWORKS_DOCUMENTS_IMPORT;
            super::change(client, out, path, &request, "documents taken", "had these documents already").await
        }
    }
}

async fn export(client: &Client, network: String, file: Option<&Path>) -> Result<Exit, ApiError> {
    let documents = fetch(client, network).await?;
    match file {
        None => output::write(&output::pretty(&documents))?,
        Some(file) => write(file, &documents)?,
    }
    Ok(Exit::Ok)
}

/// All documents of a network.
pub(super) async fn fetch(client: &Client, network: String) -> Result<Documents, ApiError> {
    client.post(paths::NETWORKS_DOCUMENTS, &NetworkQuery { network }, PATIENCE).await
}

/// Reads a file that [`write`] made, `-` for stdin.
pub(super) fn read(path: &Path) -> Result<Documents, ApiError> {
    let mut text = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut text).map(drop)
    } else {
        std::fs::read(path).map(|content| text = content)
    };
    let name = path.display();
    read.map_err(|error| ApiError::invalid(format!("cannot read {name}: {error}"), ""))?;
    serde_json::from_slice::<Versioned<Documents>>(&text).map(|read| read.body).map_err(|error| {
        let hint = "`sinew network documents export` and `--sign-to` write such files";
        ApiError::invalid(format!("{name} holds no documents: {error}"), hint)
    })
}

/// Writes documents to a new file or in place of an old one.
pub(super) fn write(path: &Path, documents: &Documents) -> Result<(), ApiError> {
    std::fs::write(path, output::pretty(documents))
        .map_err(|error| ApiError::invalid(format!("cannot write {}: {error}", path.display()), ""))
}
