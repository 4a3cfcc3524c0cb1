//! The command as a person meets it: run as a program against a daemon with prepared answers.

mod exits;
mod golden;
mod networks;
mod publish;
mod support;
mod workloads;
