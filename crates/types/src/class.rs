//! Node classes (routing §4.1).

/// Whether a node carries traffic of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Class {
    /// Forwards for others and keeps the table of all routers.
    #[default]
    Router,
    /// Attaches to one to three routers, never transits.
    Stub,
}

impl Class {
    /// The word used in configuration and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Stub => "stub",
        }
    }
}
