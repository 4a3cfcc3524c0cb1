//! Who has an underlay link with whom.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use sinew_types::Rng;

/// A shape to draw a network of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// 0 – 1 – 2 – …
    Line,
    /// A line whose ends meet.
    Ring,
    /// Everyone at host 0.
    Star,
    /// A connected random graph of this mean degree.
    Random {
        /// Mean number of links of a host.
        degree: usize,
    },
    /// Two random graphs and one link between them, which comes up late.
    Islands,
}

/// Mean degree inside an island.
const ISLAND_DEGREE: usize = 4;

/// One link to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// One end, the lower number.
    pub a: usize,
    /// The other end.
    pub b: usize,
    /// Down at the start: it joins what was apart.
    pub late: bool,
}

impl Topology {
    /// The links of this shape among `nodes` hosts; the shape is connected once late links are up.
    pub fn edges(self, nodes: usize, rng: &mut Rng) -> Vec<Edge> {
        let plain = |(a, b): (usize, usize)| Edge { a: a.min(b), b: a.max(b), late: false };
        match self {
            Self::Line => (1..nodes).map(|b| plain((b - 1, b))).collect(),
            Self::Ring if nodes > 2 => (0..nodes).map(|a| plain((a, (a + 1) % nodes))).collect(),
            Self::Ring => Self::Line.edges(nodes, rng),
            Self::Star => (1..nodes).map(|b| plain((0, b))).collect(),
            Self::Random { degree } => random(0, nodes, degree, rng).into_iter().map(plain).collect(),
            Self::Islands => {
                let half = nodes / 2;
                let mut pairs = random(0, half, ISLAND_DEGREE, rng);
                pairs.extend(random(half, nodes - half, ISLAND_DEGREE, rng));
                let mut edges: Vec<_> = pairs.into_iter().map(plain).collect();
                if half > 0 {
                    edges.push(Edge { a: 0, b: half, late: true });
                }
                edges
            }
        }
    }
}

/// A random tree over `first..first + count`, filled up with random links.
fn random(first: usize, count: usize, degree: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
    let mut edges = BTreeSet::new();
    for b in 1..count {
        let a = rng.below(b as u64) as usize;
        edges.insert((first + a, first + b));
    }
    let most = count.saturating_sub(1) * count / 2;
    let wanted = (count * degree / 2).min(most);
    while edges.len() < wanted {
        let (a, b) = (rng.below(count as u64) as usize, rng.below(count as u64) as usize);
        if a != b {
            edges.insert((first + a.min(b), first + a.max(b)));
        }
    }
    edges.into_iter().collect()
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line => f.write_str("line"),
            Self::Ring => f.write_str("ring"),
            Self::Star => f.write_str("star"),
            Self::Random { degree } => write!(f, "random:{degree}"),
            Self::Islands => f.write_str("islands"),
        }
    }
}

impl FromStr for Topology {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "line" => Ok(Self::Line),
            "ring" => Ok(Self::Ring),
            "star" => Ok(Self::Star),
            "islands" => Ok(Self::Islands),
            "random" => Ok(Self::Random { degree: 6 }),
            _ => {
                let degree = text.strip_prefix("random:").and_then(|degree| degree.parse().ok());
                let degree = degree.ok_or_else(|| {
                    format!("unknown topology `{text}`: line, ring, star, random, random:DEGREE, islands")
                })?;
                Ok(Self::Random { degree })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rng() -> Rng {
        Rng::new([7; 32])
    }

    fn connected(nodes: usize, edges: &[Edge]) -> bool {
        let mut seen = BTreeSet::from([0]);
        for _ in 0..nodes {
            for edge in edges {
                if seen.contains(&edge.a) || seen.contains(&edge.b) {
                    seen.extend([edge.a, edge.b]);
                }
            }
        }
        seen.len() == nodes
    }

    #[test]
    fn every_shape_is_connected_and_has_no_link_twice() {
        let shapes = [
            Topology::Line,
            Topology::Ring,
            Topology::Star,
            Topology::Random { degree: 4 },
            Topology::Islands,
        ];
        for shape in shapes {
            for nodes in [2, 3, 10, 50] {
                let edges = shape.edges(nodes, &mut rng());
                assert!(connected(nodes, &edges), "{shape} of {nodes}");
                assert_eq!(edges.iter().collect::<BTreeSet<_>>().len(), edges.len(), "{shape} of {nodes}");
                assert!(edges.iter().all(|edge| edge.a < edge.b && edge.b < nodes), "{shape} of {nodes}");
            }
        }
    }

    #[test]
    fn a_random_graph_has_the_mean_degree_that_was_asked_for() {
        assert_eq!(Topology::Random { degree: 6 }.edges(200, &mut rng()).len(), 600);
    }

    #[test]
    fn islands_are_apart_until_the_late_link_is_up() {
        let mut edges = Topology::Islands.edges(20, &mut rng());
        edges.retain(|edge| !edge.late);
        assert!(!connected(20, &edges));
    }

    #[test]
    fn names_read_back() {
        for shape in ["line", "ring", "star", "random:5", "islands"] {
            assert_eq!(shape.parse::<Topology>().unwrap().to_string(), shape);
        }
        assert!("blob".parse::<Topology>().is_err());
    }
}
