use std::collections::BTreeMap;

use sinew_types::Rng;

use super::*;

/// Two ends of one stream and a network between them.
struct Wire {
    now: Instant,
    ends: [(Stream, Rtt); 2],
    flying: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    rng: Rng,
    loss: u64,
    latency: Duration,
    jitter_us: u64,
    sent: u64,
    /// Messages delivered at end 1, and whether they are acknowledged at once.
    got: Vec<(u64, Vec<u8>)>,
    processes: bool,
    processed: u64,
}

impl Wire {
    fn new(seed: u8, loss: u64) -> Self {
        let end = |id| (Stream::new(StreamClass::Documents, id), Rtt::default());
        Self {
            now: Instant::from_micros(1),
            ends: [end(1), end(2)],
            flying: BTreeMap::new(),
            rng: Rng::new([seed; 32]),
            loss,
            latency: Duration::from_millis(20),
            jitter_us: 10_000,
            sent: 0,
            got: Vec::new(),
            processes: true,
            processed: 0,
        }
    }

    fn pump(&mut self) {
        for n in 0..2 {
            loop {
                let mut bytes = Vec::new();
                let (stream, rtt) = &mut self.ends[n];
                if stream.poll_segment(0, rtt, self.now, &mut bytes).is_none() {
                    break;
                }
                self.sent += 1;
                if self.rng.below(1000) >= self.loss {
                    let delay = self.latency + Duration::from_micros(self.rng.below(self.jitter_us + 1));
                    self.flying.insert((self.now + delay, self.sent), (1 - n, bytes));
                }
            }
        }
    }

    fn deliver(&mut self, n: usize, bytes: &[u8]) {
        let (header, chunk) = SegmentHeader::split(bytes).unwrap();
        let (stream, rtt) = &mut self.ends[n];
        if let Some(ordinal) = stream.on_segment(&header, chunk, rtt, self.now).unwrap() {
            self.processed = ordinal;
        }
        while let Some(message) = self.ends[n].0.poll_message() {
            if self.processes {
                self.ends[n].0.acknowledge(message.0, self.now);
            }
            self.got.push(message);
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.pump();
            let wire = self.flying.keys().next().map(|&(at, _)| at);
            let timers = self.ends.iter().filter_map(|(stream, _)| stream.poll_timeout()).map(|(at, _)| at);
            let Some(at) = timers.chain(wire).min().filter(|&at| at <= until) else { break };
            self.now = self.now.max(at);
            if let Some(entry) = self.flying.first_entry().filter(|e| e.key().0 <= self.now) {
                let (n, bytes) = entry.remove();
                self.deliver(n, &bytes);
            } else {
                self.ends.iter_mut().for_each(|(stream, rtt)| stream.handle_timeout(rtt, self.now));
                if self.ends.iter().any(|(stream, _)| stream.is_given_up(self.now)) {
                    return;
                }
            }
        }
        self.now = until;
    }
}

fn message(n: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (n as usize * 31 + i) as u8).collect()
}

#[test]
fn messages_of_every_length_arrive_whole_and_in_order_under_twenty_percent_loss() {
    for seed in 0..20 {
        let mut wire = Wire::new(seed, 200);
        let lengths = [1, 2, 1097, 1098, 1099, 1100, 2197, 2198, 2199, 16_384, 5];
        for (n, &len) in lengths.iter().enumerate() {
            while !wire.ends[0].0.has_room(len) {
                wire.run(Duration::from_millis(10));
            }
            assert_eq!(wire.ends[0].0.push(&message(n as u64, len)), n as u64 + 1);
        }
        wire.run(Duration::from_secs(12));
        assert_eq!(wire.got.len(), lengths.len(), "seed {seed}");
        for (n, (ordinal, bytes)) in wire.got.iter().enumerate() {
            assert_eq!((*ordinal, bytes), (n as u64 + 1, &message(n as u64, lengths[n])), "seed {seed}");
        }
        assert_eq!(wire.processed, lengths.len() as u64);
        assert_eq!((wire.ends[0].0.held(), wire.ends[1].0.held()), (0, 0));
    }
}

#[test]
fn what_arrived_is_not_acknowledged_before_it_is_processed() {
    let mut wire = Wire::new(1, 0);
    wire.processes = false;
    for n in 0..3 {
        wire.ends[0].0.push(&message(n, 100));
    }
    wire.run(Duration::from_secs(5));
    assert_eq!((wire.got.len(), wire.processed), (3, 0));
    wire.ends[1].0.acknowledge(2, wire.now);
    wire.run(Duration::from_secs(1));
    assert_eq!(wire.processed, 0, "the first one is not processed yet");
    wire.ends[1].0.acknowledge(1, wire.now);
    wire.run(Duration::from_secs(1));
    assert_eq!(wire.processed, 2);
}

#[test]
fn a_receiver_that_does_not_process_is_never_sent_more_than_its_credit_and_loses_nothing() {
    let mut wire = Wire::new(2, 100);
    wire.processes = false;
    let mut pushed = 0;
    for _ in 0..50 {
        while wire.ends[0].0.has_room(1000) {
            wire.ends[0].0.push(&message(pushed, 1000));
            pushed += 1;
        }
        wire.run(Duration::from_millis(100));
    }
    assert!(wire.ends[1].0.held() <= REMOTE_BUFFER, "{}", wire.ends[1].0.held());
    assert!(wire.got.len() >= 14);
    let before = wire.sent;
    wire.run(Duration::from_secs(9));
    assert!(wire.sent - before < 20, "a waiting sender only asks now and then: {}", wire.sent - before);
    wire.processes = true;
    let waiting: Vec<_> = wire.got.iter().map(|(ordinal, _)| *ordinal).collect();
    waiting.iter().for_each(|&ordinal| wire.ends[1].0.acknowledge(ordinal, wire.now));
    wire.run(Duration::from_secs(10));
    assert_eq!(wire.got.len() as u64, pushed);
    assert_eq!(wire.processed, pushed);
}

#[test]
fn a_lost_acknowledgement_is_asked_for_again() {
    let mut wire = Wire::new(3, 0);
    wire.processes = false;
    wire.ends[0].0.push(b"x");
    wire.run(Duration::from_millis(200));
    wire.loss = 1000;
    wire.ends[1].0.acknowledge(1, wire.now);
    wire.run(Duration::from_millis(10));
    wire.loss = 0;
    wire.run(Duration::from_secs(4));
    assert_eq!(wire.processed, 1);
}

#[test]
fn fifteen_seconds_without_a_word_end_it_but_a_slow_processor_does_not() {
    let mut wire = Wire::new(4, 0);
    wire.processes = false;
    wire.ends[0].0.push(b"x");
    wire.run(Duration::from_secs(60));
    assert!(!wire.ends[0].0.is_given_up(wire.now), "the peer answers, it only has not processed");
    wire.loss = 1000;
    wire.run(Duration::from_secs(16));
    assert!(wire.ends[0].0.is_given_up(wire.now));
}

#[test]
fn the_window_starts_at_ten_halves_once_per_loss_event_and_recovers() {
    let mut wire = Wire::new(5, 0);
    wire.ends[0].0.widen();
    wire.ends[1].0.widen();
    wire.jitter_us = 0;
    for n in 0..50 {
        wire.ends[0].0.push(&message(n, 1000));
    }
    wire.pump();
    assert_eq!(wire.sent, 10);
    wire.run(Duration::from_secs(2));
    assert_eq!(wire.processed, 50);
}

#[test]
fn reordering_by_two_is_not_loss() {
    let mut wire = Wire::new(6, 0);
    wire.jitter_us = 0;
    for n in 0..9 {
        wire.ends[0].0.push(&message(n, 50));
    }
    wire.pump();
    // Every third one comes two places late.
    let segments: Vec<_> = std::mem::take(&mut wire.flying).into_values().map(|(_, bytes)| bytes).collect();
    for group in segments.chunks(3) {
        for at in [1, 2, 0] {
            wire.deliver(1, &group[at]);
        }
    }
    wire.now += Duration::from_millis(40);
    wire.sent = 0;
    wire.run(Duration::from_millis(100));
    let data = wire.sent;
    assert!(data <= 4, "only acknowledgements were sent: {data}");
    assert_eq!(wire.processed, 9);
}

fn header(seq: u32, ack: u32, len: usize) -> SegmentHeader {
    SegmentHeader {
        class: StreamClass::Documents,
        adj: 0,
        seq,
        ack,
        sack: u64::MAX,
        credit: 1,
        len: len as u16,
    }
}

#[test]
fn a_peer_that_breaks_the_rules_breaks_its_own_stream_only() {
    let now = Instant::from_micros(1);
    let mut rtt = Rtt::default();
    let stream = || Stream::new(StreamClass::Documents, 1);
    let cases: [(&str, u32, &[u8]); 4] = [
        ("no room for a length", 0, &[1]),
        ("an empty message", 0, &[0, 0]),
        ("a message above the longest", 0, &[0xff, 0xff, 1]),
        ("more than announced", 0, &[1, 0, 7, 7]),
    ];
    for (what, seq, chunk) in cases {
        let mut stream = stream();
        let result = stream.on_segment(&header(seq, 0, chunk.len()), chunk, &mut rtt, now);
        assert_eq!(result, Err(DropReason::BadControl), "{what}");
        assert!(stream.on_segment(&header(1, 0, 3), &[1, 0, 7], &mut rtt, now).is_err(), "{what}: broken");
    }
    let mut stream = stream();
    assert_eq!(stream.on_segment(&header(0, 1, 0), &[], &mut rtt, now), Err(DropReason::BadControl));
    assert_eq!(
        stream.on_segment(&header(64, 0, 3), &[1, 0, 7], &mut rtt, now),
        Err(DropReason::TableFull),
        "beyond the span"
    );
}

#[test]
fn the_receiver_holds_no_more_than_its_buffer_whatever_is_sent() {
    let now = Instant::from_micros(1);
    let (mut stream, mut rtt) = (Stream::new(StreamClass::Documents, 1), Rtt::default());
    for seq in 1..64 {
        let _ = stream.on_segment(&header(seq, 0, 1100), &[0; 1100], &mut rtt, now);
    }
    assert!(stream.held() <= REMOTE_BUFFER);
}
