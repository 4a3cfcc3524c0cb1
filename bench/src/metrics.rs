//! Name, unit and direction of each number, in the order of the tables.

/// One kind of number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    /// Key in JSON.
    pub(crate) key: &'static str,
    /// Heading of its column.
    pub(crate) title: &'static str,
    /// Table that it stands in.
    pub(crate) block: &'static str,
    /// Unit, in JSON.
    pub(crate) unit: &'static str,
    /// Whether more is better; `None` where it depends.
    pub(crate) higher_is_better: Option<bool>,
    /// Digits after the point.
    pub(crate) digits: usize,
}

const fn metric(
    block: &'static str,
    key: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Option<bool>,
    digits: usize,
) -> Metric {
    Metric { key, title, block, unit, higher_is_better: better, digits }
}

const MORE: Option<bool> = Some(true);
const LESS: Option<bool> = Some(false);

const TCP: &str = "TCP throughput, Mbit/s";
const CPU: &str = "CPU seconds per GB received (one stream)";
const RTT: &str = "Round trip of 64 B over UDP, ms";
const RR: &str = "64 B request/response over TCP";
const UDP: &str = "UDP datagrams/s at less than 1 % loss";
const HTTP1: &str = "Gateway HTTP/1.1, TLS, 32 connections: CPU s for 10,000 requests";
const HTTP2: &str = "Gateway HTTP/2, TLS, 16 connections of 8 streams: CPU s for 10,000 requests";
const CALM: &str = "Gateway calm, 1,000 requests a second: ms";
const FILES: &str = "Gateway file, one large one: MB/s";
const THROUGH: &str = "Gateway passthrough, TLS of the server, 32 connections: CPU s for 10,000 requests";
const DAEMON: &str = "Daemons: start, and memory of the biggest node in MB";
const NOISE: &str = "CPU that others used meanwhile, % of the machine";

/// All of them.
pub(crate) const ALL: &[Metric] = &[
    metric(TCP, "tcp1_mbps", "1 stream", "Mbit/s", MORE, 0),
    metric(TCP, "tcp4_mbps", "4 streams", "Mbit/s", MORE, 0),
    metric(TCP, "tcp_reverse_mbps", "reverse", "Mbit/s", MORE, 0),
    metric(TCP, "retransmits", "retransmits", "segments in the 1-stream run", LESS, 0),
    metric(CPU, "cpu_a", "A", "s/GB", LESS, 2),
    metric(CPU, "cpu_r", "R", "s/GB", LESS, 2),
    metric(CPU, "cpu_b", "B", "s/GB", LESS, 2),
    metric(CPU, "cpu_daemons", "all daemons", "s/GB", LESS, 2),
    metric(CPU, "cpu_all", "everything", "s/GB", LESS, 2),
    metric(RTT, "rtt_p50_ms", "idle p50", "ms", LESS, 3),
    metric(RTT, "rtt_p99_ms", "idle p99", "ms", LESS, 3),
    metric(RTT, "loaded_rtt_p50_ms", "loaded p50", "ms", LESS, 3),
    metric(RTT, "loaded_rtt_p99_ms", "loaded p99", "ms", LESS, 3),
    metric(RTT, "loaded_lost_percent", "loaded lost %", "%", LESS, 1),
    metric(RTT, "loaded_mbps", "load Mbit/s", "Mbit/s", MORE, 0),
    metric(RR, "rr_per_s", "per second", "1/s", MORE, 0),
    metric(RR, "rr_p99_us", "p99 us", "us", LESS, 0),
    metric(UDP, "udp1200_pps", "1,200 B", "1/s", MORE, 0),
    metric(UDP, "udp200_pps", "200 B", "1/s", MORE, 0),
    metric(HTTP1, "gw_h1_per_s", "requests/s", "1/s", MORE, 0),
    metric(HTTP1, "gw_h1_p99_ms", "p99 ms", "ms", LESS, 2),
    metric(HTTP1, "gw_h1_cpu", "CPU between", "s", LESS, 2),
    metric(HTTP1, "gw_h1_cpu_all", "CPU of everything", "s", LESS, 2),
    metric(HTTP2, "gw_h2_per_s", "requests/s", "1/s", MORE, 0),
    metric(HTTP2, "gw_h2_p99_ms", "p99 ms", "ms", LESS, 2),
    metric(HTTP2, "gw_h2_cpu", "CPU between", "s", LESS, 2),
    metric(HTTP2, "gw_h2_cpu_all", "CPU of everything", "s", LESS, 2),
    metric(CALM, "gw_calm_p50_ms", "p50", "ms", LESS, 2),
    metric(CALM, "gw_calm_p99_ms", "p99", "ms", LESS, 2),
    metric(FILES, "gw_h1_mb_s", "HTTP/1.1", "MB/s", MORE, 0),
    metric(FILES, "gw_h2_mb_s", "HTTP/2", "MB/s", MORE, 0),
    metric(FILES, "gw_thru_mb_s", "passed through", "MB/s", MORE, 0),
    metric(THROUGH, "gw_thru_per_s", "requests/s", "1/s", MORE, 0),
    metric(THROUGH, "gw_thru_p99_ms", "p99 ms", "ms", LESS, 2),
    metric(THROUGH, "gw_thru_cpu", "CPU between", "s", LESS, 2),
    metric(DAEMON, "first_ping_s", "first ping s", "s", LESS, 2),
    metric(DAEMON, "rss_idle_mb", "RSS idle", "MB", LESS, 1),
    metric(DAEMON, "rss_tcp_mb", "RSS after TCP", "MB", LESS, 1),
    metric(DAEMON, "rss_end_mb", "RSS at the end", "MB", LESS, 1),
    metric(NOISE, "foreign_percent", "mean", "%", None, 1),
];

/// Table headings in order.
pub(crate) fn blocks() -> Vec<&'static str> {
    let mut blocks: Vec<_> = ALL.iter().map(|metric| metric.block).collect();
    blocks.dedup();
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_blocks_contiguous() {
        let mut keys: Vec<_> = ALL.iter().map(|metric| metric.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), ALL.len());
        let mut blocks = blocks();
        blocks.sort_unstable();
        let all = blocks.len();
        blocks.dedup();
        assert_eq!(blocks.len(), all);
    }
}
