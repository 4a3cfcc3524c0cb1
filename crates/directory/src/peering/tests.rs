use sinew_types::{CarrierKind, Identity};
use sinew_wire::directory::Place;

use super::*;
use crate::record::{Checked, Own};

fn identity(n: u16) -> Identity {
    let mut seed = [5; 32];
    seed[..2].copy_from_slice(&n.to_le_bytes());
    Identity::from_seed(seed)
}

fn id(n: u16) -> NodeId {
    identity(n).node_id()
}

/// Node `n` at `addr`.
fn checked(n: u16, addr: &str, stub: bool) -> Checked {
    let place = Place { addr: addr.parse().unwrap(), carriers: vec![CarrierKind::Udp] };
    let record = Own { stub, places: vec![place], ..Own::default() }.sign(&identity(n), 1);
    Checked { node: id(n), record }
}

struct World {
    peering: Peering,
    book: Book,
    rng: Rng,
    now: Instant,
}

impl World {
    fn new(target: usize, max: usize) -> Self {
        let config = PeeringConfig { target, max, stub: false };
        let now = Instant::ZERO;
        Self {
            peering: Peering::new(config, Rng::new([1; 32]), now),
            book: Book::default(),
            rng: Rng::new([2; 32]),
            now,
        }
    }

    fn hears(&mut self, n: u16, addr: &str, source: Source) {
        self.book.note(checked(n, addr, false), source, &mut self.rng, self.now).unwrap();
        self.peering.hurry(self.now);
    }

    fn run(&mut self, time: Duration) -> Vec<Order> {
        let (end, mut orders) = (self.now + time, Vec::new());
        while let Some(due) = self.peering.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let view = View { own: id(60_000), fit: &|_| true, eligible: &|_| true };
            orders.extend(self.peering.handle_timeout(&mut self.book, &view, self.now));
        }
        self.now = end;
        orders
    }

    fn dials(&mut self, time: Duration) -> Vec<NodeId> {
        let dialled = |order: Order| if let Order::Dial(node) = order { Some(node) } else { None };
        self.run(time).into_iter().filter_map(dialled).collect()
    }

    fn up(&mut self, node: NodeId) {
        let ip = self.book.places(&node).first().map_or([198, 18, 0, 1].into(), |place| place.addr.ip());
        let lan = self.book.get(&node).is_some_and(|known| known.source == Source::Lan);
        self.peering.link_up(node, ip, lan, false, self.now);
    }
}

const MOMENT: Duration = Duration::from_millis(900);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn it_dials_until_it_has_its_links_and_no_more() {
    let mut world = World::new(4, 32);
    for n in 0..20 {
        world.hears(n, &format!("20.{n}.0.1:7463"), Source::Directory);
    }
    let dialled = world.dials(MOMENT);
    assert_eq!(dialled.len(), 4);
    dialled.iter().for_each(|node| world.up(*node));
    assert!(world.dials(MINUTE).is_empty());
    assert_eq!(world.peering.chosen(), 4);
}

#[test]
fn whoever_does_not_answer_makes_room_for_the_next() {
    let mut world = World::new(2, 32);
    for n in 0..6 {
        world.hears(n, &format!("20.{n}.0.1:7463"), Source::Directory);
    }
    let first = world.dials(MOMENT);
    let orders = world.run(Duration::from_secs(15));
    assert!(first.iter().all(|node| orders.contains(&Order::Undial(*node))), "{orders:?}");
    let next: Vec<_> = orders.iter().filter(|order| matches!(order, Order::Dial(_))).collect();
    assert_eq!(next.len(), 2);
    assert!(first.iter().all(|node| !next.contains(&&Order::Dial(*node))), "not the same again at once");
}

#[test]
fn other_networks_and_other_tellers_come_first() {
    let mut world = World::new(4, 32);
    let (liar, friend) = (id(900), id(901));
    for n in 0..16 {
        world.hears(n, &format!("66.6.0.{}:7463", n + 1), Source::Exchange(liar));
    }
    for n in 0..3 {
        world.hears(100 + n, &format!("2{n}.1.0.1:7463"), Source::Exchange(friend));
    }
    let dialled = world.dials(MOMENT);
    let honest = dialled.iter().filter(|node| (100..103).any(|n| id(n) == **node)).count();
    assert_eq!(honest, 3, "{dialled:?}");
}

#[test]
fn links_that_others_open_fill_half_of_the_places() {
    let mut world = World::new(4, 32);
    for n in 0..20 {
        world.up(id(500 + n));
    }
    for n in 0..20 {
        world.hears(n, &format!("20.{n}.0.1:7463"), Source::Directory);
    }
    assert_eq!(world.dials(MOMENT).len(), 2);
}

#[test]
fn beyond_the_maximum_the_crowd_goes_first() {
    let mut world = World::new(0, 8);
    let join = |world: &mut World, n: u16, ip: [u8; 4]| {
        world.peering.link_up(id(n), ip.into(), false, false, world.now);
    };
    for n in 0..4u8 {
        join(&mut world, u16::from(n), [20 + n, 1, 0, 1]);
    }
    for n in 0..40 {
        join(&mut world, 100 + n, [66, 6, 0, n as u8]);
    }
    let orders = world.run(MOMENT);
    assert_eq!(orders.len(), 36);
    let honest = |order: &Order| (0..4).any(|n| *order == Order::Drop(id(n)));
    assert!(!orders.iter().any(honest), "{orders:?}");
}

#[test]
fn a_full_house_turns_the_crowd_away_at_the_door_and_nobody_else() {
    let mut world = World::new(0, 8);
    let crowd = |n: u8| IpAddr::from([66, 6, 0, n]);
    for n in 0..4u8 {
        world.peering.link_up(id(n.into()), [20 + n, 1, 0, 1].into(), false, false, world.now);
        world.peering.link_up(id(100 + u16::from(n)), crowd(n), false, false, world.now);
        world.now += MOMENT;
    }
    assert!(world.peering.turns_away(&id(200), crowd(9)));
    assert!(!world.peering.turns_away(&id(100), crowd(0)), "who is in, is in");
    assert!(!world.peering.turns_away(&id(201), [30, 1, 0, 1].into()), "one of the crowd goes instead");
    world.peering.link_up(id(201), [30, 1, 0, 1].into(), false, false, world.now);
    assert_eq!(world.run(MOMENT), [Order::Drop(id(103))]);
}

#[test]
fn neighbours_on_the_local_network_have_places_of_their_own() {
    let mut world = World::new(4, 32);
    for n in 0..3 {
        world.hears(n, &format!("192.168.1.{}:7463", n + 1), Source::Lan);
        world.hears(100 + n, &format!("2{n}.1.0.1:7463"), Source::Directory);
    }
    let mut all = Vec::new();
    for _ in 0..6 {
        for node in world.dials(Duration::from_secs(1)) {
            world.up(node);
            all.push(node);
        }
    }
    assert_eq!(all.len(), 6, "within six seconds, though only {AT_ONCE} at once");
}

#[test]
fn a_peer_that_ends_the_link_at_once_is_left_alone() {
    let mut world = World::new(1, 32);
    world.hears(1, "20.1.0.1:7463", Source::Directory);
    assert_eq!(world.dials(MOMENT), [id(1)]);
    world.up(id(1));
    let order = world.peering.link_down(&id(1), &mut world.book, world.now + Duration::from_secs(1));
    assert_eq!(order, Some(Order::Undial(id(1))));
    assert!(world.dials(MINUTE).is_empty());
}

#[test]
fn a_link_that_falls_silent_is_missed_before_it_is_replaced() {
    let mut world = World::new(1, 32);
    world.hears(1, "20.1.0.1:7463", Source::Directory);
    world.dials(MOMENT);
    world.up(id(1));
    world.run(MINUTE);
    world.hears(2, "20.2.0.1:7463", Source::Directory);
    assert_eq!(world.peering.link_down(&id(1), &mut world.book, world.now), None);
    assert!(world.dials(GRACE - MOMENT).is_empty());
    assert_eq!(world.dials(MINUTE).first(), Some(&id(2)));
}

#[test]
fn a_nearer_one_takes_the_place_of_the_slowest_of_the_near_half_but_not_often() {
    let mut world = World::new(4, 32);
    for n in 0..4 {
        world.hears(n, &format!("20.{n}.0.1:7463"), Source::Directory);
        let dialled = world.dials(Duration::from_secs(2));
        assert_eq!(dialled, [id(n)]);
        world.up(id(n));
        world.peering.measured(&id(n), Some(Duration::from_millis(50 + u64::from(n))), false);
    }
    world.hears(9, "29.9.0.1:7463", Source::Directory);
    assert!(world.dials(MINUTE * 8).is_empty(), "what works is kept");
    let mut orders = Vec::new();
    for _ in 0..300 {
        let now = world.run(Duration::from_secs(1));
        if now.contains(&Order::Dial(id(9))) {
            world.up(id(9));
            world.peering.measured(&id(9), Some(Duration::from_millis(5)), false);
        }
        orders.extend(now);
    }
    assert_eq!(orders, [Order::Dial(id(9)), Order::Undial(id(3)), Order::Drop(id(3))]);
}

#[test]
fn a_stub_looks_for_routers_only() {
    let mut world = World::new(2, 8);
    world.peering.set_config(PeeringConfig { target: 2, max: 8, stub: true }, world.now);
    world.book.note(checked(1, "20.1.0.1:7463", true), Source::Directory, &mut world.rng, world.now).unwrap();
    world.hears(2, "20.2.0.1:7463", Source::Directory);
    let dialled = world.dials(MINUTE);
    assert!(!dialled.is_empty() && dialled.iter().all(|node| *node == id(2)), "{dialled:?}");
}
