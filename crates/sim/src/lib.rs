//! A seeded network of real nodes under virtual time, with faults and checkers.
