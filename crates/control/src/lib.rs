//! Types of the control API; the only serde in the core.
