//! Table tests in virtual time.
