//! What keeping a mesh costs, as a table under version control: a change that makes control
//! traffic grow shows in a diff. After a deliberate change:
//!
//! ```text
//! SINEW_SNAPSHOT=update cargo test --release -p sinew-sim --test snapshot
//! ```

use std::fmt::Write as _;
use std::time::Duration;

use sinew_sim::{Faults, Params, Topology, World};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots/control-bytes.txt");
const HEAD: &str = "\
Control traffic of an idle mesh: random graphs of mean degree 6, links of 1 to 20 ms, nothing lost,
all hosts started at once. Bytes are those of datagrams, without UDP and IP headers.

- routed: virtual seconds until every pair had a path.
- start: bytes a host sent in the first 10 s: handshakes, link probes, packet size searches, routes.
- routes: the part of it that is routing messages, before framing and encryption.
- idle: bytes a host sent per second from 10 s to 40 s: hellos, packet size searches.

nodes  links  routed s  start B/host  routes B/host  idle B/host/s
";

fn row(nodes: usize) -> String {
    let topology = Topology::Random { degree: 6 };
    let plan = Params { seed: 1, nodes, topology, faults: Faults::None }.plan();
    let mut world = World::new(&plan);
    let run = |world: &mut World, span| world.run_for(span).unwrap_or_else(|violation| panic!("{violation}"));
    let (mut steps, mut routed) = (0, None);
    while steps < 100 {
        run(&mut world, Duration::from_millis(100));
        steps += 1;
        if routed.is_none() && world.unreachable(1).is_empty() {
            routed = Some(steps);
        }
    }
    let sum = |world: &World| world.sent_bytes().iter().sum::<u64>();
    let routes: u64 = world.hosts().iter().filter_map(|host| Some(host.node.as_ref()?.routing_bytes())).sum();
    let start = sum(&world);
    run(&mut world, Duration::from_secs(30));
    let idle = (sum(&world) - start) / 30;
    let routed = routed.map_or("never".into(), |steps| format!("{}.{}", steps / 10, steps % 10));
    let n = nodes as u64;
    let (links, start, routes, idle) = (plan.links.len(), start / n, routes / n, idle / n);
    format!("{nodes:5}  {links:5}  {routed:>8}  {start:12}  {routes:13}  {idle:13}")
}

#[test]
fn control_bytes_are_as_recorded() {
    let mut table = HEAD.to_owned();
    for nodes in [3, 10, 50, 200] {
        writeln!(table, "{}", row(nodes)).expect("a string takes everything");
    }
    if std::env::var("SINEW_SNAPSHOT").as_deref() == Ok("update") {
        std::fs::write(PATH, &table).expect("the snapshot can be written");
    }
    let recorded = std::fs::read_to_string(PATH).unwrap_or_default();
    assert_eq!(table, recorded, "if the change is meant: SINEW_SNAPSHOT=update (see the head of this file)");
}
