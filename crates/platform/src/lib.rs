//! The host's edge: addresses, routes, key files, privileges, undo of what we changed.
