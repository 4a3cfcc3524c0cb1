//! What the tests of several modules share: a small world of routers, a hand-driven one, and the
//! random explorer.

mod explorer;
pub(crate) mod puppet;
pub(crate) mod world;
