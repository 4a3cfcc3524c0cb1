//! Tickets, as bytes and as people paste them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::same_appended;
use sinew_wire::ticket::Ticket;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ticket) = Ticket::parse(bytes) {
        same_appended(bytes, |out| ticket.emit(out));
        assert_eq!(ticket.to_text().parse().as_ref(), Ok(&ticket));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(ticket) = text.parse::<Ticket>()
    {
        assert_eq!(ticket.to_text().parse().as_ref(), Ok(&ticket));
    }
});
