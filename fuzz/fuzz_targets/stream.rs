//! Records on a stream; the first byte says in what pieces it arrives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_wire::stream::Deframer;

fuzz_target!(|bytes: &[u8]| {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    let mut deframer = Deframer::new(256);
    for mut piece in bytes.chunks(usize::from(piece).max(1)) {
        while !piece.is_empty() {
            let n = deframer.push(piece);
            assert!(n > 0, "room is left whenever no record is");
            piece = &piece[n..];
            loop {
                match deframer.next_record() {
                    Ok(Some(record)) => assert!((1..=256).contains(&record.len())),
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
    }
});
