//! Why a packet would not arrive: for the report of a run that fails.

use crate::world::World;

impl World {
    /// Where the news of `dst` ends on its way to `src`: the first host on the shortest way of open
    /// adjacencies that has no path, and its neighbour that has one.
    pub fn explain(&self, (src, dst): (usize, usize)) -> String {
        let mut text = format!("\n  from {src} to {dst}, path {:?}:", self.path(src, dst));
        let Some(way) = self.open_way(dst, src) else { return text + " no open adjacencies lead there" };
        let end = way.iter().position(|&host| host != dst && self.path(host, dst).is_none());
        let Some(end) = end else { return text + " routes stand" };
        for &host in &way[end - 1..=end] {
            let Some(node) = &self.hosts()[host].node else { continue };
            let now = self.hosts()[host].local(self.now());
            let target = &self.hosts()[dst];
            text += &format!("\n    host {host}, distance {:?}:", node.feasibility_distance(&target.addr));
            for route in node.routes(now).into_iter().filter(|route| route.node == target.id) {
                let hop = route.next_hop.and_then(|hop| self.number_of(&hop.address()));
                let (metric, seqno) = (route.metric, route.seqno);
                let (feasible, selected) = (route.feasible, route.selected);
                text += &format!(" by {hop:?} {seqno:?} {metric:?} feasible {feasible} selected {selected};");
            }
        }
        text
    }
}
