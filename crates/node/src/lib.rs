//! The whole node as one machine without IO.
