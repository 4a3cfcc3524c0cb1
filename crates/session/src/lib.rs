//! Associations, epochs, replay windows, cookies, adjacency and the reliable control channel, without IO.
