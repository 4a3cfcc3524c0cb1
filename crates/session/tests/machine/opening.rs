//! Opening a session: latency, loss, reordering, restarts, clocks, both sides at once.

use sinew_session::Event;

use crate::support::*;

#[test]
fn a_session_opens_in_one_round_trip_and_becomes_an_adjacency() {
    let mut world = World::new(2, 1);
    let start = world.now;
    world.open(0, 1);
    world.run(ms(20));
    assert!(world.nodes[0].view(&world.id(1)).is_some(), "the initiator may send after one round trip");
    assert!(world.nodes[1].view(&world.id(0)).is_none(), "the responder waits for the first record");
    world.run(ms(10));
    assert!(world.nodes[1].view(&world.id(0)).is_some());
    world.run(ms(100));
    world.assert_linked();
    world.assert_same_epoch();
    assert_eq!((world.nodes[0].ups(), world.nodes[1].ups()), (1, 1));
    let observed = Event::Observed { peer: world.id(1), addr: world.nodes[0].addr };
    assert!(world.nodes[0].events.contains(&observed));
    assert!(world.now > start);
}

#[test]
fn a_session_opens_under_loss_duplication_and_reordering() {
    for seed in 0..30 {
        let mut world = World::new(2, seed);
        world.link = Link { latency: ms(30), jitter: ms(60), loss: 200, duplication: 100 };
        world.open(0, 1);
        world.run(secs(12));
        world.assert_linked();
        world.link = Link::GOOD;
        world.assert_same_epoch();
        assert_eq!((world.nodes[0].ups(), world.nodes[1].ups()), (1, 1), "seed {seed}");
    }
}

#[test]
fn two_that_open_at_once_end_with_one_association_and_the_same_epoch() {
    let mut rng = sinew_types::Rng::new([9; 32]);
    for round in 0..10_000u32 {
        let mut world = World::new(2, round as u8);
        world.rng = rng.fork();
        world.link =
            Link { latency: ms(rng.below(150)), jitter: ms(rng.below(100)), loss: 0, duplication: 0 };
        world.open(0, 1);
        world.run(ms(rng.below(400)));
        world.open(1, 0);
        world.run(secs(3));
        assert_eq!((world.nodes[0].ups(), world.nodes[1].ups()), (1, 1), "round {round}");
        let closed = |n: usize| world.nodes[n].count(|e| matches!(e, Event::Closed { .. }));
        assert_eq!((closed(0), closed(1)), (0, 0), "round {round}");
        world.assert_linked();
        world.link = Link::GOOD;
        world.assert_same_epoch();
    }
}
