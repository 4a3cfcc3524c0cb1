//! Loop-free distance-vector routing with signed origins and a provable metric, without IO.
