//! A note for each attachment, and word of those that were ended without the daemon.
//!
//! Both are files named by the attachment's tag beside the control socket, in directories that a
//! reboot empties, as it does the namespaces they speak of.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sinew_control::api::{AttachAnswer, interface_pins, plugin_notes, tombstones};
use sinew_platform::netns;

use crate::inside;

/// What cleaning up needs when nobody can be asked.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    id: String,
    interfaces: Vec<String>,
}

/// Writes down what was attached. Without it only cleaning up without a daemon is less thorough.
pub(crate) fn remember(socket: &Path, tag: &str, answer: &AttachAnswer) {
    let interfaces = answer.interfaces.iter().map(|interface| interface.interface.clone()).collect();
    let note = Note { id: answer.id.clone(), interfaces };
    let text = serde_json::to_string(&note).expect("a plain struct with string keys");
    let path = place(socket, tag);
    // Word of an earlier end would end this one, at the daemon's next start.
    let _ = std::fs::remove_file(tombstones(socket).join(tag));
    let _ = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text));
}

/// Removes the note.
pub(crate) fn forget(socket: &Path, tag: &str) {
    let _ = std::fs::remove_file(place(socket, tag));
}

/// Cleans up what can be without the daemon, and leaves word for it.
///
/// # Errors
/// Word could not be left.
pub(crate) fn clean_up(socket: &Path, tag: &str, namespace: Option<&Path>) -> io::Result<()> {
    let note = std::fs::read(place(socket, tag)).ok();
    let note = note.and_then(|text| serde_json::from_slice::<Note>(&text).ok());
    if let Some(note) = note.filter(|note| is_id(&note.id)) {
        let pins = interface_pins(socket, &note.id, note.interfaces.len());
        // A pin leads there even where the runtime has taken its own name for it away.
        for path in namespace.into_iter().chain(pins.iter().map(PathBuf::as_path)) {
            if let Ok(namespace) = inside::open(path) {
                let _ = inside::remove(&namespace, &note.interfaces);
                break;
            }
        }
        pins.iter().for_each(|pin| netns::unpin(pin));
    }
    let word = tombstones(socket);
    std::fs::create_dir_all(&word)?;
    std::fs::write(word.join(tag), "")?;
    forget(socket, tag);
    Ok(())
}

/// An id becomes part of a path.
fn is_id(id: &str) -> bool {
    !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn place(socket: &Path, tag: &str) -> PathBuf {
    plugin_notes(socket).join(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_kept_until_the_attachment_ends_and_word_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("sinew.sock");
        let answer = AttachAnswer {
            id: "w1".to_owned(),
            name: "web".to_owned(),
            interfaces: vec![],
            resolvers: vec![],
            search: vec![],
        };
        let tag = "cni:n:c1:eth0";
        remember(&socket, tag, &answer);
        assert!(place(&socket, tag).exists());
        let pin = sinew_control::api::pinned_namespace(&socket, "w1");
        std::fs::create_dir_all(pin.parent().unwrap()).unwrap();
        std::fs::write(&pin, "").unwrap();
        clean_up(&socket, tag, None).unwrap();
        assert!(!place(&socket, tag).exists() && !pin.exists());
        assert!(tombstones(&socket).join(tag).exists());
        // Again, and of what never was: word is left all the same.
        clean_up(&socket, "cni:n:c2:eth0", Some(Path::new("/nonexistent"))).unwrap();
        assert!(tombstones(&socket).join("cni:n:c2:eth0").exists());
        // A new life takes the word of the last one's end back.
        remember(&socket, tag, &answer);
        assert!(!tombstones(&socket).join(tag).exists());
    }

    #[test]
    fn an_id_cannot_lead_elsewhere() {
        assert!(is_id("w-12ab") && !is_id("../x") && !is_id("") && !is_id("a/b"));
    }
}
