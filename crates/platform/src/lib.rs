//! The host's edge: what a node needs from the machine it runs on besides sockets and TUN.
//!
//! * [`keyfile`], [`secretfile`]: secrets in files that only their owner can read; [`private`]: such
//!   files that change.
//! * [`net`]: addresses and routes, each change with its undo; news of the underlay; repair of
//!   what a killed run left.
//! * [`confine`]: what a process gives up for good once it is set up.
//! * [`netns`]: work in network namespaces of others.
//! * [`privilege`]: which capabilities are missing; no core dumps, no debugger.
//! * [`room`], [`process`]: a network and mount namespace for one program, and processes that
//!   cannot be taken for others.
//! * [`signals`]: who sent a signal, for a supervisor that passes signals on.
//! * [`fdpass`]: descriptors beside a question on a unix socket.
//! * [`seqpacket`]: messages with descriptors between two processes.
//! * [`socket`]: the control socket, which outlives no run, and who is at its other end.
//! * [`clock`]: the two clocks of the core.
//! * [`wake`]: when the machine has slept, or its clock was set.
//! * [`heap`], [`program`]: memory that nobody uses any more.
//! * [`kernel`]: faults of kernel versions.
//!
//! Errors here are read by an operator who wants the program to start: each says what is wrong
//! and what to do.
#![allow(unsafe_code)]

pub mod clock;
pub mod confine;
pub mod fdpass;
pub mod heap;
pub mod keepalive;
pub mod kernel;
pub mod keyfile;
pub mod net;
pub mod netns;
pub mod private;
mod private_file;
pub mod privilege;
pub mod process;
pub mod program;
pub mod room;
pub mod secretfile;
pub mod seqpacket;
pub mod signals;
pub mod socket;
pub mod wake;

pub use private_file::{KeyFileError, Kind};
