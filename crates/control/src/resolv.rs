//! The `/etc/resolv.conf` of a workload.

use std::fmt::Write as _;
use std::net::IpAddr;

/// What glibc and musl read at most.
const RESOLVERS_MAX: usize = 3;

/// The file's text: where to ask, and which domains to try for short names.
pub fn resolv_conf(resolvers: &[IpAddr], search: &[String]) -> String {
    let mut text = "# Made by sinew for this workload.\n".to_owned();
    for resolver in resolvers.iter().take(RESOLVERS_MAX) {
        let _ = writeln!(text, "nameserver {resolver}");
    }
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::resolv_conf;

    #[test]
    fn a_workload_asks_its_own_resolver() {
        let text = resolv_conf(&["10.20.0.1".parse().unwrap()], &["shop.sinew.internal".to_owned()]);
        let expected =
            "# Made by sinew for this workload.\nnameserver 10.20.0.1\nsearch shop.sinew.internal\n";
        assert_eq!(text, expected);
    }
}
