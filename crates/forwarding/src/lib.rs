//! What happens to one packet: FIB, verdicts, ICMP answers, inbound filter, split and coalesce.
