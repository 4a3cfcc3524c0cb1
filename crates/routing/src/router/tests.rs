use std::time::Duration;

use crate::world::World;

#[test]
fn a_line_learns_the_whole_line() {
    let mut world = World::new(4, &[(0, 1, 1), (1, 2, 2), (2, 3, 3)]);
    world.open_all();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.check(), Ok(()));
    assert_eq!(world.check_rest(), Ok(()));
    assert_eq!(world.metric(0, 3), Some(6));
}
