//! The topology as a picture, without any tool: this node in the middle, its neighbours around
//! it, and every other node further out, in the sector of the neighbour that leads to it.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use sinew_control::api::{Graph, GraphLink, GraphNode, LinkKind};

use super::graph::{caption, label};

/// Least distance of two nodes on a ring, in pixels.
const SPACING: f64 = 120.0;
/// Least distance of two rings.
const RING: f64 = 160.0;
/// Room for a label at the edge.
const MARGIN: f64 = 90.0;

/// Draws the graph. The same graph gives the same bytes.
pub(crate) fn svg(graph: &Graph) -> String {
    let places = layout(graph);
    let reach = places.values().map(|(x, y)| x.abs().max(y.abs())).fold(0.0, f64::max) + MARGIN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{0:.0} {0:.0} {1:.0} {1:.0}\" width=\"{1:.0}\" \
         height=\"{1:.0}\" font-family=\"sans-serif\" font-size=\"12\" text-anchor=\"middle\">\n",
        -reach,
        2.0 * reach
    );
    text.push_str(&format!(
        "<rect x=\"{0:.0}\" y=\"{0:.0}\" width=\"{1:.0}\" height=\"{1:.0}\" fill=\"white\"/>\n",
        -reach,
        2.0 * reach
    ));
    for link in &graph.links {
        if let (Some(from), Some(to)) = (places.get(link.from.as_str()), places.get(link.to.as_str())) {
            text.push_str(&line(link, *from, *to));
        }
    }
    for node in &graph.nodes {
        if let Some(place) = places.get(node.node_id.as_str()) {
            text.push_str(&mark(node, *place));
        }
    }
    text + "</svg>\n"
}

type Places<'a> = BTreeMap<&'a str, (f64, f64)>;

fn layout(graph: &Graph) -> Places<'_> {
    let mut places = Places::new();
    let mut inner: Vec<&str> = Vec::new();
    for node in graph.nodes.iter().filter(|node| node.local) {
        places.insert(&node.node_id, (0.0, 0.0));
    }
    for link in graph.links.iter().filter(|link| link.kind == LinkKind::Link) {
        if !inner.contains(&link.to.as_str()) && !places.contains_key(link.to.as_str()) {
            inner.push(&link.to);
        }
    }
    // Behind each neighbour its routes, in order; nodes that nothing leads to come last.
    let mut outer: Vec<&str> = Vec::new();
    for neighbour in &inner {
        let behind =
            graph.links.iter().filter(|link| link.kind == LinkKind::Route && link.from == *neighbour);
        outer.extend(behind.map(|link| link.to.as_str()).filter(|to| !inner.contains(to)));
    }
    for node in &graph.nodes {
        let id = node.node_id.as_str();
        if !places.contains_key(id) && !inner.contains(&id) && !outer.contains(&id) {
            outer.push(id);
        }
    }
    let first = ring(&mut places, &inner, 0.0);
    ring(&mut places, &outer, first);
    places
}

/// Places nodes evenly on a circle outside of `within`; gives its radius.
fn ring<'a>(places: &mut Places<'a>, nodes: &[&'a str], within: f64) -> f64 {
    let radius = (nodes.len() as f64 * SPACING / TAU).max(within + RING);
    for (i, node) in nodes.iter().enumerate() {
        let angle = TAU * i as f64 / nodes.len() as f64 - TAU / 4.0;
        places.entry(node).or_insert((radius * angle.cos(), radius * angle.sin()));
    }
    radius
}

fn line(link: &GraphLink, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    let style = match link.kind {
        LinkKind::Link => "stroke=\"#36c\" stroke-width=\"2\"",
        LinkKind::Route => "stroke=\"#999\" stroke-dasharray=\"4 4\"",
    };
    format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#666\" font-size=\"10\">{}</text>\n",
        f64::midpoint(x1, x2),
        f64::midpoint(y1, y2) - 4.0,
        escaped(&caption(link))
    )
}

fn mark(node: &GraphNode, (x, y): (f64, f64)) -> String {
    let fill = match (node.local, node.class.as_deref()) {
        (true, _) => "#36c",
        (false, Some("stub")) => "#9c6",
        (false, _) => "#ccc",
    };
    format!(
        "<g><title>{} {}</title><circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"10\" fill=\"{fill}\" stroke=\"#333\"/>\
         <text x=\"{x:.1}\" y=\"{:.1}\">{}</text></g>\n",
        escaped(&node.node_id),
        escaped(&node.address),
        y + 26.0,
        escaped(&label(node))
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
