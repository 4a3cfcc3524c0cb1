//! The async shell around the node: sockets, TUN, timers, control.
