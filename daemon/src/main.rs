//! sinewd: the mesh daemon.

fn main() {}
