//! Support for whole-system tests.
