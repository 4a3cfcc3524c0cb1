//! The Noise handshake, record ciphers, handshake macs and cookies; secrets erased on drop.
