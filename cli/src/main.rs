//! sinew: inspect and steer a running mesh node.

fn main() {}
