//! What is known of one path: liveness, quality, and packet size.
