//! Tables and queues stay within what they are given, whatever happens.

use sinew_node::Node;
use sinew_types::Instant;

use super::Violation;

/// Looks at the tables of one host.
pub(crate) fn look(host: usize, node: &Node, now: Instant) -> Result<(), Violation> {
    for (table, size, limit) in node.table_sizes() {
        if size > limit {
            let text = format!("host {host}: `{table}` holds {size}, its limit is {limit}");
            return Err(Violation::new(now, "bounds", text));
        }
    }
    Ok(())
}
