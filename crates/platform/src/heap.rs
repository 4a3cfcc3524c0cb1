//! Memory that was freed and that the allocator keeps.
//!
//! glibc gives back what lies at the end of a heap alone. After a crowd has come and gone, what little has stayed is
//! spread over all of it, and the process would have the size of its worst hour for the rest of its life.

/// Gives freed memory back to the system, where the allocator can. Each heap is locked for as long as it is looked
/// through: milliseconds, so this is for quiet moments.
pub fn give_back() {
    // SAFETY: takes an integer by value, and locks what it works on.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
