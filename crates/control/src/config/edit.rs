//! `peers add --save` and `peers rm --save`: changes to the file that leave every other byte
//! alone, comments and order included.
//!
//! A block is added at the end, or the lines of a `[[peer]]` block are cut out. The result is
//! parsed and compared before it is taken, so an unusual layout leads to a refusal and never to a
//! file that says something else. Writing goes through a new file and a rename.

use std::io::Write as _;
use std::path::Path;

use sinew_types::NodeId;

use super::{ConfigFile, Peer};

/// Why the file was left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The peer is written in a way that cannot be edited safely, such as an inline array.
    #[error("{file} writes its peers in a form that cannot be edited safely; change it by hand")]
    Layout {
        /// The file.
        file: String,
    },
    /// The file could not be written.
    #[error("cannot write {file}: {reason}")]
    Write {
        /// The file.
        file: String,
        /// What the system says.
        reason: String,
    },
}

/// The file with `peer` in it. Unchanged when it is there already; a peer that is there with
/// another cost or other carriers is replaced.
///
/// # Errors
/// [`EditError::Layout`] when the file cannot be edited safely.
pub fn add_peer(file: &ConfigFile, peer: &Peer) -> Result<ConfigFile, EditError> {
    if file.config.peers.contains(peer) {
        return Ok(file.clone());
    }
    let endpoint = |p: &Peer| (p.uri.node, p.uri.host.clone(), p.uri.port);
    let mut text = cut(file, |other| endpoint(other) == endpoint(peer))?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&format!("[[peer]]\nuri = \"{}\"\n", peer.uri));
    if peer.cost != 0 {
        text.push_str(&format!("cost = {}\n", peer.cost));
    }
    if let Some(limit) = peer.limit {
        text.push_str(&format!("limit = \"{limit}\"\n"));
    }
    let mut wanted = file.config.clone();
    wanted.peers.retain(|other| endpoint(other) != endpoint(peer));
    wanted.peers.push(peer.clone());
    verified(file, text, &wanted)
}

/// The file without any entry for `node`.
///
/// # Errors
/// [`EditError::Layout`] when the file cannot be edited safely.
pub fn remove_peer(file: &ConfigFile, node: &NodeId) -> Result<ConfigFile, EditError> {
    let mut wanted = file.config.clone();
    wanted.peers.retain(|peer| peer.uri.node != *node);
    let text = cut(file, |peer| peer.uri.node == *node)?;
    verified(file, text, &wanted)
}

/// Writes the file's text in place of what is at its path, with that file's permissions.
///
/// # Errors
/// [`EditError::Write`]; the old file is then still there, whole.
pub fn save(file: &ConfigFile) -> Result<(), EditError> {
    replace(&file.path, &file.text).map_err(|error| EditError::Write {
        file: file.path.display().to_string(),
        reason: super::diagnose::plain(&error),
    })
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    // A symbolic link stays one: its target is replaced.
    let path = &std::fs::canonicalize(path)?;
    let permissions = std::fs::metadata(path)?.permissions();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.set_permissions(permissions)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn verified(file: &ConfigFile, text: String, wanted: &super::Config) -> Result<ConfigFile, EditError> {
    match ConfigFile::parse(&file.path, text) {
        Ok(edited) if edited.config == *wanted => Ok(edited),
        _ => Err(layout(file)),
    }
}

fn layout(file: &ConfigFile) -> EditError {
    EditError::Layout { file: file.path.display().to_string() }
}

/// The text without the `[[peer]]` blocks that `unwanted` names. The n-th block is the n-th peer.
fn cut(file: &ConfigFile, unwanted: impl Fn(&Peer) -> bool) -> Result<String, EditError> {
    let blocks = blocks(&file.text);
    if blocks.len() != file.config.peers.len() {
        return Err(layout(file));
    }
    let mut kept = String::with_capacity(file.text.len());
    let mut at = 0;
    for (block, _) in blocks.iter().zip(&file.config.peers).filter(|(_, peer)| unwanted(peer)) {
        kept.push_str(&file.text[at..block.start]);
        at = block.end;
    }
    kept.push_str(&file.text[at..]);
    Ok(kept)
}

/// Byte ranges of all `[[peer]]` blocks: from the header to the last line with a key of it. What
/// stands above a header, such as a comment about the next section, is never part of a block.
fn blocks(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut blocks: Vec<std::ops::Range<usize>> = Vec::new();
    let (mut offset, mut inside) = (0, false);
    for line in text.split_inclusive('\n') {
        let start = offset;
        offset += line.len();
        let content = line.trim_start();
        if content.starts_with('[') {
            inside = is_peer_header(content);
            if inside {
                blocks.push(start..offset);
            }
        } else if inside
            && !content.is_empty()
            && !content.starts_with('#')
            && let Some(block) = blocks.last_mut()
        {
            block.end = offset;
        }
    }
    blocks
}

fn is_peer_header(line: &str) -> bool {
    let inner = line.strip_prefix("[[").and_then(|rest| rest.split_once("]]"));
    inner.is_some_and(|(name, _)| name.trim() == "peer")
}
