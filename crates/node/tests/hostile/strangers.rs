//! Who has no key gets no answer and no memory (protocol A2.3, A3.6).

use std::cell::RefCell;
use std::rc::Rc;

use sinew_node::PeerConfig;
use sinew_types::{Metric, Rng};

use crate::common::{Flying, Net, path, udp_packet};
use crate::puppet::MS;

/// Bytes of an opening that mac1 covers, and mac1: behind it is the cookie's mac, which counts
/// only under load.
const COVERED: usize = 184;

#[test]
fn a_hundred_thousand_bad_datagrams_draw_no_answer_and_leave_nothing_behind() {
    // What two nodes say to each other, from the first word on.
    let recorded: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let mut net = Net::new(3, &[]);
    let tap = Rc::clone(&recorded);
    net.tap = Some(Box::new(move |flying| {
        tap.borrow_mut().push(flying.bytes.clone());
        vec![flying]
    }));
    let uri = format!("sinew://{}@10.0.0.1:7463?via=udp", net.ids[0]).parse().expect("a URI");
    let now = net.now;
    net.nodes[1].add_peer(PeerConfig { uri, cost: Metric::ZERO }, now);
    net.drain(1);
    net.run(3000 * MS);
    for n in 0..20 {
        net.send(1, &udp_packet(net.address(1), net.address(0), 9, &[n; 200]));
        net.run(10 * MS);
    }
    net.tap = None;
    let samples = recorded.borrow().clone();
    assert!(samples.len() > 40 && samples.iter().any(|bytes| bytes[0] == 1));
    net.received[0].clear();
    let (tables, events) = (net.nodes[0].table_sizes(), net.events.len());

    let mut rng = Rng::new([7; 32]);
    for n in 0..100_000u64 {
        let mut bytes = samples[rng.below(samples.len() as u64) as usize].clone();
        match n % 5 {
            0 => {
                bytes = vec![0; rng.below(1473) as usize];
                rng.fill(&mut bytes);
            }
            1 => {
                bytes.resize(16 + rng.below(1400) as usize, 0);
                rng.fill(&mut bytes);
                bytes[..4].copy_from_slice(&[1 + (n % 7) as u8, 0, 0, 0]);
            }
            2 => bytes.truncate(rng.below(bytes.len() as u64) as usize),
            3 => {
                let at = rng.below(bytes.len().min(COVERED) as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
            // As it was, but for openings, which are answered in their own way.
            _ if bytes[0] == 1 => bytes[168] ^= 1,
            _ => {}
        }
        let len = bytes.len();
        net.nodes[0].handle_datagrams(path(200), 0, &mut bytes, len, net.now);
        net.drain(0);
        if n % 1000 == 0 {
            net.run(MS);
            net.send(1, &udp_packet(net.address(1), net.address(0), 9, &n.to_be_bytes()));
        }
    }
    net.run(100 * MS);
    let answers: Vec<&Flying> = net.outside.iter().collect();
    assert!(answers.is_empty(), "{} answers, the first {:?}", answers.len(), answers[0]);
    assert_eq!(net.received[0].len(), 100, "the traffic of others goes on");
    assert_eq!(net.events.len(), events);
    for (before, after) in tables.iter().zip(net.nodes[0].table_sizes()) {
        assert_eq!(before.1, after.1, "{}", after.0);
    }
}
