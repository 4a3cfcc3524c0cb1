//! The topology as a table and as Graphviz text.

use std::collections::BTreeMap;

use sinew_control::api::{Graph, GraphLink, GraphNode, LinkKind};

use super::table::{
    Column::{Number, Text},
    draw,
};
use super::units::{maybe, printable, rtt, short};

/// What a node is called in a picture: its name, or the beginning of its key.
pub(super) fn label(node: &GraphNode) -> String {
    node.name.as_deref().map_or_else(|| short(&node.node_id), printable)
}

/// What stands beside a line: cost, and for links the carrier.
pub(super) fn caption(link: &GraphLink) -> String {
    let parts = [link.metric_ms.map(|ms| format!("{ms} ms")), link.carrier.as_deref().map(printable)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Links and routes, a line each.
pub(crate) fn table(graph: &Graph) -> String {
    let names: BTreeMap<&str, String> =
        graph.nodes.iter().map(|node| (node.node_id.as_str(), label(node))).collect();
    let name = |node: &str| names.get(node).cloned().unwrap_or_else(|| short(node));
    let columns = [Text("FROM"), Text("TO"), Text("KIND"), Number("METRIC"), Text("CARRIER"), Number("RTT")];
    draw(
        &columns,
        graph.links.iter().map(|link| {
            vec![
                name(&link.from),
                name(&link.to),
                link.kind.as_str().to_owned(),
                link.metric_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
                maybe(link.carrier.as_ref()),
                rtt(link.rtt_ms),
            ]
        }),
    )
}

/// For `dot -Tsvg` and its kin. Links are solid, routes over unseen links dashed.
pub(crate) fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = String::from("graph sinew {\n  node [shape=box, style=rounded];\n");
    for node in &graph.nodes {
        let bold = if node.local { ", penwidth=2" } else { "" };
        text.push_str(&format!(
            "  {} [label={}, tooltip={}{bold}];\n",
            quoted(&node.node_id),
            quoted(&label(node)),
            quoted(&node.address)
        ));
    }
    for link in &graph.links {
        let style = match link.kind {
            LinkKind::Link => "solid",
            LinkKind::Route => "dashed",
        };
        text.push_str(&format!(
            "  {} -- {} [style={style}, label={}];\n",
            quoted(&link.from),
            quoted(&link.to),
            quoted(&caption(link))
        ));
    }
    text + "}\n"
}
