//! The pages of the program itself.
//!
//! What only the start needed, or an operator asked for once, stays mapped for as long as the process lives: most of what
//! an idle daemon seems to take. Pages of a file that nobody may write to can be let go at any time: whatever is used
//! again is mapped again where it was, from the page cache and some sixteen pages at a time.

/// Lets go of the code and constants that the process has used so far, its shared libraries' included. What it goes on
/// using costs it a page fault (about a microsecond) for every 64 KiB.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub fn give_back() {
    // SAFETY: the callback is a function without captures that uses what it is shown only while it is shown.
    unsafe {
        libc::dl_iterate_phdr(Some(let_go), std::ptr::null_mut());
    }
}

/// Elsewhere the system decides alone.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub fn give_back() {}

/// Called for the program and for each of its libraries; 0 = go on.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
// SAFETY: only the loader calls it, from `dl_iterate_phdr`, with an object that is valid for the time of the call.
unsafe extern "C" fn let_go(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader shows a valid object, with so many headers.
    let (base, segments) = unsafe {
        let object = &*object;
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)))
    };
    for segment in segments {
        if let Some((start, length)) = whole_pages(base, segment) {
            // SAFETY: the loader has mapped these pages from a file, privately, and nobody may write to them: they are
            // equal to the file's, and come back as they are.
            unsafe {
                libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
            }
        }
    }
    0
}

/// Where the whole pages of a segment lie that is never written to, and how many bytes they are. Those at its ends may
/// be shared with one that is.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn whole_pages(base: u64, segment: &libc::Elf64_Phdr) -> Option<(usize, usize)> {
    const PAGE: u64 = 65_536; // The largest of any architecture.
    if segment.p_type != libc::PT_LOAD || segment.p_flags & libc::PF_W != 0 {
        return None;
    }
    let start = (base + segment.p_vaddr).next_multiple_of(PAGE);
    let end = (base + segment.p_vaddr + segment.p_memsz) / PAGE * PAGE;
    let length = usize::try_from(end.checked_sub(start)?).ok().filter(|length| *length > 0)?;
    Some((usize::try_from(start).ok()?, length))
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use super::*;

    const R: u32 = libc::PF_R;
    const RX: u32 = libc::PF_R | libc::PF_X;
    const RW: u32 = libc::PF_R | libc::PF_W;

    fn segment(p_type: u32, p_flags: u32, p_vaddr: u64, p_memsz: u64) -> libc::Elf64_Phdr {
        libc::Elf64_Phdr {
            p_type,
            p_flags,
            p_offset: 0,
            p_vaddr,
            p_paddr: 0,
            p_filesz: p_memsz,
            p_memsz,
            p_align: 0,
        }
    }

    #[test]
    fn only_whole_pages_that_are_never_written_to_are_let_go() {
        let base = 0x7000_0000_0000;
        for (segment, expected) in [
            (segment(libc::PT_LOAD, RX, 0x1_0000, 0x3_0000), Some((0x1_0000, 0x3_0000))),
            (segment(libc::PT_LOAD, R, 0x1_1000, 0x3_0000), Some((0x2_0000, 0x2_0000))),
            (segment(libc::PT_LOAD, R, 0x1_1000, 0x1_0000), None),
            (segment(libc::PT_LOAD, R, 0x1_1000, 0x100), None),
            (segment(libc::PT_LOAD, RW, 0x1_0000, 0x3_0000), None),
            (segment(libc::PT_DYNAMIC, R, 0x1_0000, 0x3_0000), None),
        ] {
            let expected = expected.map(|(start, length)| (base as usize + start, length));
            assert_eq!(whole_pages(base, &segment), expected, "{segment:?}");
        }
    }

    /// KiB of the program's own file that the process has in memory.
    fn resident() -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("RssFile:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    #[test]
    fn what_is_let_go_is_not_in_memory_and_comes_back_when_it_is_used() {
        static CONSTANTS: [u64; 1 << 17] = [0x5EED; 1 << 17];
        let sum = |step: usize| -> u64 { std::hint::black_box(&CONSTANTS).iter().step_by(step).sum() };
        let before = sum(1);
        let full = resident().unwrap();
        give_back();
        let empty = resident().unwrap();
        assert!(empty + 900 < full, "{empty} KiB of {full} KiB are left");
        assert_eq!(sum(1), before);
    }
}
