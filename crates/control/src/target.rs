//! Which node a person means: a full key, the beginning of one, a mesh address or a name.

use sinew_types::{MeshAddr, NodeId};

use crate::error::{ApiError, Exit};

/// Shortest beginning of a node id that is taken for one.
const SHORTEST_PREFIX: usize = 4;

/// Finds the node that `target` names among `known` (each node with its name, if it has one).
///
/// A full node id needs no entry: the key itself says who is meant.
///
/// # Errors
/// `unknown_target` (exit 4) when nothing fits, `ambiguous_target` (exit 1) when several nodes do.
pub fn resolve<'a>(
    target: &str,
    known: impl IntoIterator<Item = (NodeId, Option<&'a str>)>,
) -> Result<NodeId, ApiError> {
    if let Ok(node) = target.parse() {
        return Ok(node);
    }
    let address = target.parse::<MeshAddr>().ok();
    let fits = |node: &NodeId, name: Option<&str>| match address {
        Some(address) => node.address() == address,
        None => {
            name == Some(target) || (target.len() >= SHORTEST_PREFIX && node.to_string().starts_with(target))
        }
    };
    let mut found: Vec<NodeId> =
        known.into_iter().filter(|(node, name)| fits(node, *name)).map(|(node, _)| node).collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [] => Err(ApiError::unknown_target(target)),
        [node] => Ok(*node),
        several => Err(ambiguous(target, several)),
    }
}

fn ambiguous(target: &str, nodes: &[NodeId]) -> ApiError {
    /// How many of the candidates the hint lists.
    const LISTED: usize = 4;
    let list: Vec<_> = nodes.iter().take(LISTED).map(NodeId::short).collect();
    let message = format!("`{target}` fits {} nodes", nodes.len());
    ApiError::new("ambiguous_target", Exit::Usage, message, format!("say which: {}", list.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinew_types::Identity;

    fn node(n: u8) -> NodeId {
        Identity::from_seed([n; 32]).node_id()
    }

    #[test]
    fn a_target_is_a_key_its_beginning_an_address_or_a_name() {
        let known = [(node(1), Some("paris")), (node(2), Some("rome")), (node(3), None)];
        let find = |text: &str| resolve(text, known);
        assert_eq!(find(&node(9).to_string()), Ok(node(9)));
        assert_eq!(find(&node(3).to_string()[..6]), Ok(node(3)));
        assert_eq!(find(&node(2).address().to_string()), Ok(node(2)));
        assert_eq!(find("paris"), Ok(node(1)));
    }

    #[test]
    fn an_unknown_or_ambiguous_target_says_so() {
        let known = [(node(1), Some("twin")), (node(2), Some("twin"))];
        let find = |text: &str| resolve(text, known).unwrap_err();
        assert_eq!((find("nobody").exit, find("nobody").code.as_str()), (4, "unknown_target"));
        assert_eq!(find("fd3f::1").exit, 4);
        assert_eq!(find(&node(1).to_string()[..3]).exit, 4);
        assert_eq!((find("twin").exit, find("twin").code.as_str()), (1, "ambiguous_target"));
    }
}
