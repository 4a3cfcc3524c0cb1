//! What the daemon does for its size.

use std::time::Duration;

use sinew_platform::{heap, program};
use tokio::time::sleep;

/// When a start is over, with its first links.
const STARTED: Duration = Duration::from_secs(2);
/// Between two times at which the program's pages are let go: often enough that what an operator has asked for does not
/// stay for good, seldom enough that mapping the others again does not count.
const PAUSE: Duration = Duration::from_secs(300);

/// Gives memory back when the start is over, and from time to time what was used once.
pub(crate) async fn keep_small() {
    sleep(STARTED).await;
    heap::give_back();
    loop {
        program::give_back();
        sleep(PAUSE).await;
    }
}
