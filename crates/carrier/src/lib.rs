//! Moves sealed records between machines: UDP with segmentation offload, and TCP.
