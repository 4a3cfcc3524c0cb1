//! Where a session is thought to be (protocol A3.7).

use crate::common::{Flying, Net, udp_packet};
use crate::puppet::{MS, Stage};

#[test]
fn a_captured_record_raced_from_elsewhere_draws_no_data_and_at_most_three_bytes_for_one() {
    let mut stage = Stage::new(Net::new(1, &[]), 1);
    let (victim, local, near) = (stage.victim(), stage.net.address(0), stage.puppets[0].addr);
    for thief in 0..20 {
        let captured = stage.puppets[0].packet(&victim, &udp_packet(near, local, 9, &[thief; 100]));
        let received = captured.len();
        stage.net.launch(Flying { from: 150 + usize::from(thief), to: 0, bytes: captured });
        stage.run(5 * MS);
        assert_eq!(stage.net.received[0].len(), usize::from(thief) + 1, "the record itself is good");
        stage.puppets[0].inner.clear();
        for n in 0..50 {
            stage.net.send(0, &udp_packet(local, near, 9, &[n; 300]));
            stage.run(100 * MS);
        }
        assert_eq!(stage.puppets[0].inner.len(), 50, "all data goes where it went");
        let drawn: usize = stage.stray.drain(..).map(|flying| flying.bytes.len()).sum();
        assert!(drawn > 0 && drawn <= 3 * received, "{drawn} bytes for {received}");
    }
}

#[test]
fn a_peer_that_moves_is_followed_once_its_new_place_has_answered() {
    let mut stage = Stage::new(Net::new(1, &[]), 1);
    let (victim, local, near) = (stage.victim(), stage.net.address(0), stage.puppets[0].addr);
    let adj = stage.node().adjacency(&near);
    stage.puppets[0].seat = 150;
    let record = stage.puppets[0].packet(&victim, &udp_packet(near, local, 9, b"from the new place"));
    stage.throw(0, record);
    stage.run(3 * MS);
    stage.net.send(0, &udp_packet(local, near, 9, b"not yet"));
    stage.run(3 * MS);
    assert!(stage.puppets[0].inner.is_empty(), "followed before it answered");
    stage.run(200 * MS);
    stage.net.send(0, &udp_packet(local, near, 9, b"now"));
    stage.run(5 * MS);
    assert_eq!(stage.puppets[0].inner.len(), 1);
    assert_eq!(stage.node().adjacency(&near), adj, "the same neighbour at another place");
}
