//! The plugin as a runtime meets it: a program, its environment, its stdin, against a daemon with
//! prepared answers and, where the tests run as root, real network namespaces.

mod cleaning;
mod commands;
mod support;
