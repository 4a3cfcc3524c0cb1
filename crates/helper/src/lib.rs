//! The privileged helper process (protocol A9): the few things a daemon needs capabilities for
//! after its start, done by a process that has no network socket and no key.
//!
//! `sinewd` starts itself once more before it has a thread ([`Connection::spawn`]) and then gives
//! up every capability. What is left to the helper is a handful of verbs: interfaces in the
//! namespaces of workloads, and names for those namespaces. Two rules hold for all of them:
//!
//! * A refusal changes nothing, at whichever step it comes.
//! * Workloads outlive the daemon. Their devices stay, in namespaces that have a name in the file
//!   system, until they are detached; [`Helper::reattach`] takes hold of them again
//!   (`docs/decisions/0006-workloads-survive-restart.md`). Everything else ends with the daemon,
//!   however that ends.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `codec` | the messages, byte for byte, and what is malformed |
//! | `client` | the daemon's side |
//! | `serve` | the helper's life; the loop that answers |
//! | `attachments` | each verb, with its undo |
//! | `inside` | the steps inside a namespace |
//! | `pins` | names of namespaces |
//! | `rules` | what no workload may have |

mod attachments;
mod client;
mod codec;
mod failure;
mod inside;
mod pins;
mod rules;
mod serve;

pub use client::{Attached, Connection, DnsSockets, Helper, HelperError};
pub use codec::{Attach, Id, Prefix, SocketKind, Why};
pub use serve::{End, run, serve};

#[cfg(test)]
mod tests;
