//! Length-prefixed records on a stream.

use proptest::prelude::*;
use sinew_wire::Malformed;
use sinew_wire::stream::{Deframer, frame_length};

fn framed(records: &[Vec<u8>]) -> Vec<u8> {
    let frame = |record: &Vec<u8>| [&frame_length(record.len()).expect("a length")[..], record].concat();
    records.iter().flat_map(frame).collect()
}

proptest! {
    #[test]
    fn records_come_out_whole_however_the_stream_was_cut(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
        cut in 1usize..400,
    ) {
        let mut deframer = Deframer::new(300);
        let mut out = Vec::new();
        for mut piece in framed(&records).chunks(cut) {
            while !piece.is_empty() {
                piece = &piece[deframer.push(piece)..];
                while let Some(record) = deframer.next_record().expect("well-formed") {
                    out.push(record.to_vec());
                }
            }
        }
        prop_assert_eq!(out, records);
    }

    #[test]
    fn any_stream_ends_in_records_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut deframer = Deframer::new(64);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let n = deframer.push(rest);
            prop_assert!(n > 0, "room is left whenever no record is");
            rest = &rest[n..];
            loop {
                match deframer.next_record() {
                    Ok(Some(record)) => prop_assert!((1..=64).contains(&record.len())),
                    Ok(None) => break,
                    Err(Malformed) => return Ok(()),
                }
            }
        }
    }
}

#[test]
fn an_empty_or_too_long_record_ends_the_stream() {
    for length in [[0, 0], [11, 0], [0xff, 0xff]] {
        let mut deframer = Deframer::new(10);
        deframer.push(&length);
        assert_eq!(deframer.next_record().map(|_| ()), Err(Malformed), "{length:?}");
    }
    assert_eq!(frame_length(0), Err(Malformed));
    assert_eq!(frame_length(65_536), Err(Malformed));
}

#[test]
fn more_bytes_than_there_was_room_for_cannot_be_claimed() {
    let mut deframer = Deframer::new(4);
    deframer.filled(1000);
    assert!(deframer.spare().is_empty());
}
