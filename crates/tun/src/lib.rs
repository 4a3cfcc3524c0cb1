//! TUN devices with virtio offload, and an in-memory double.
