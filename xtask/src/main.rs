//! Developer commands: cargo demo, cargo xtest.

fn main() {}
