//! A network `shop` of two nodes, its workloads and names.

use sinew_control::api::*;

use super::{ATTACH, Answer, address, answer, id, json, name};

const AT: &str = "2026-07-01T12:00:00.000Z";

fn version(counter: u64) -> Option<DocumentVersion> {
    Some(DocumentVersion { era: 1, counter })
}

fn summary() -> NetworkSummary {
    NetworkSummary {
        id: id(9),
        name: "shop".to_owned(),
        role: Role::Admin,
        state: NetworkState::Ready,
        ipv4: name("10.20.0.0/16"),
        ipv6: "fd12:3456:789a::/48".to_owned(),
        version: version(17),
        members_total: 2,
        members_up: 2,
        workloads_total: 2,
        requests: 1,
    }
}

fn joining() -> NetworkSummary {
    NetworkSummary {
        id: id(8),
        name: "lab".to_owned(),
        role: Role::Member,
        state: NetworkState::Joining,
        ipv4: None,
        version: None,
        members_total: 0,
        members_up: 0,
        workloads_total: 0,
        requests: 0,
        ..summary()
    }
}

fn member(n: u8) -> Member {
    Member {
        node_id: id(n),
        address: address(n),
        name: name(if n == 1 { "paris" } else { "rome" }),
        this: n == 1,
        role: if n == 1 { Role::Admin } else { Role::Member },
        groups: if n == 1 { vec![] } else { vec!["web".to_owned()] },
        ipv4: Some(format!("10.20.{n}.0/24")),
        ipv6: Some(format!("fd12:3456:789a:{n}::/64")),
        up: true,
        version: version(18 - u64::from(n)),
        drift: Some(i64::from(n) - 1),
        last_seen: name(AT),
        expires: None,
        workloads: 1,
    }
}

fn workload_of(n: u8, called: &str) -> NetworkWorkload {
    NetworkWorkload {
        name: called.to_owned(),
        dns: format!("{called}.shop.sinew.internal"),
        addresses: vec![format!("10.20.{n}.2"), format!("fd12:3456:789a:{n}::2")],
        node_id: id(n),
        groups: vec![],
        key: None,
    }
}

fn network() -> Network {
    Network {
        summary: summary(),
        subnet_ipv4: name("10.20.1.0/24"),
        subnet_ipv6: name("fd12:3456:789a:1::/64"),
        version_at: name(AT),
        documents: 9,
        documents_bytes: 3481,
        members: vec![member(1), member(2)],
        workloads: vec![workload_of(1, "db"), workload_of(2, "web")],
        policy: PolicySummary { default: Action::Deny, rules: 1, author: Some(id(1)), issued: name(AT) },
        health: vec![Health {
            code: "requests_wait".to_owned(),
            severity: Severity::Info,
            text: "a node waits for approval".to_owned(),
            fix: "`sinew network requests shop`".to_owned(),
        }],
    }
}

fn policy() -> Policy {
    let rule = |from: &str, to: &str, action, services: &[&str]| Rule {
        from: vec![from.parse().expect("a selector")],
        to: vec![to.parse().expect("a selector")],
        action,
        services: services.iter().map(|text| text.parse().expect("a service")).collect(),
    };
    Policy {
        default: Action::Deny,
        rules: vec![rule("group:web", "workload:db", Action::Allow, &["tcp/5432", "tcp/6432"])],
    }
}

/// The verdicts on two flows: `db` answers `web` on 5432 and nobody on 22.
pub(crate) fn verdicts(both_allowed: bool) -> PolicyVerdicts {
    let end = |n: u8, side: &str, allowed| FlowEnd {
        node_id: id(n),
        side: side.to_owned(),
        allowed,
        version: version(17),
    };
    let verdict = |port, allowed, rule, why: &str| FlowVerdict {
        from: "workload:web".to_owned(),
        to: "workload:db".to_owned(),
        service: Service::Protocol { number: 6, ports: Some((port, port)) },
        allowed,
        rule,
        why: why.to_owned(),
        ends: vec![end(2, "from", allowed), end(1, "to", allowed)],
    };
    let second = if both_allowed {
        verdict(22, true, None, "no rule names it, the default is allow")
    } else {
        verdict(22, false, None, "no rule names it, the default is deny")
    };
    PolicyVerdicts {
        // The last one is what `trace` asks about.
        verdicts: vec![verdict(5432, true, Some(1), "rule 1 allows group:web to workload:db"), second],
        warnings: vec![PolicyWarning { rule: 1, text: "no member is in group `web`".to_owned() }],
    }
}

fn changed(subject: Option<String>) -> NetworkChanged {
    NetworkChanged { network: id(9), subject, changed: true, version: version(18), reached: 1, members: 1 }
}

fn attached() -> AttachAnswer {
    AttachAnswer {
        id: "w1".to_owned(),
        name: "web".to_owned(),
        interfaces: vec![AttachedInterface {
            interface: "sinew0".to_owned(),
            network: "shop".to_owned(),
            network_id: id(9),
            addresses: vec!["10.20.1.2/32".to_owned(), "fd12:3456:789a:1::2/128".to_owned()],
            routes: vec!["10.20.0.0/16".to_owned(), "fd12:3456:789a::/48".to_owned()],
            mtu: 1380,
            mac: None,
        }],
        resolvers: vec!["10.20.1.1".parse().expect("an address")],
        search: vec!["shop.sinew.internal".to_owned()],
    }
}

fn workload() -> Workload {
    Workload {
        id: "w1".to_owned(),
        name: "web".to_owned(),
        network: "shop".to_owned(),
        addresses: vec!["10.20.1.2".to_owned(), "fd12:3456:789a:1::2".to_owned()],
        netns: name("/proc/self/ns/net"),
        pid: Some(4242),
        state: WorkloadState::Up,
        rx_bytes: 1_234_567,
        tx_bytes: 2048,
        interface: "sinew0".to_owned(),
        mtu: 1380,
        by: AttachedBy::Run,
        tag: None,
        key: None,
        lease_until: None,
        resolvers: vec![],
        search: vec!["shop.sinew.internal".to_owned()],
    }
}

fn record(called: &str, kind: &str, data: &str) -> DnsRecord {
    DnsRecord {
        name: called.to_owned(),
        kind: kind.to_owned(),
        ttl_ms: 5000,
        data: data.to_owned(),
        network: name("shop"),
        node_id: Some(id(2)),
    }
}

fn dns_status() -> DnsStatus {
    let server = |scope: &str, address: &str, search: Vec<String>| DnsServer {
        scope: scope.to_owned(),
        address: address.to_owned(),
        networks: vec!["shop".to_owned()],
        search,
        queries: 12,
        answered: 9,
        forwarded: 2,
        failed: 1,
    };
    DnsStatus {
        enabled: true,
        domain: "sinew.internal".to_owned(),
        host: "systemd-resolved".to_owned(),
        upstreams: vec!["192.0.2.53".to_owned()],
        forward: vec![DnsForward {
            domain: "corp.example".to_owned(),
            servers: vec!["10.0.0.53:53".to_owned(), "10.0.1.53:53".to_owned()],
        }],
        servers: vec![
            server("host", "127.0.0.55:53", vec![]),
            server("web", "10.20.1.1:53", vec!["shop.sinew.internal".to_owned()]),
        ],
        health: vec![],
    }
}

fn names() -> Vec<Answer> {
    let found = DnsAnswer {
        name: "web.shop.sinew.internal".to_owned(),
        status: "NOERROR".to_owned(),
        records: vec![
            record("web.shop.sinew.internal", "A", "10.20.2.2"),
            record("web.shop.sinew.internal", "AAAA", "fd12:3456:789a:2::2"),
        ],
        source: "network shop".to_owned(),
        why: "workload web of rome, by its WORKLOAD document".to_owned(),
        duration_ms: 0.4,
    };
    let records = DnsRecords { records: found.records.clone() };
    vec![
        answer("POST /v1/dns/query", 200, json(found)),
        answer("GET /v1/dns/records?network=shop", 200, json(records)),
        answer("GET /v1/dns/status", 200, json(dns_status())),
    ]
}

pub(super) fn everything() -> Vec<Answer> {
    let joined = Joined {
        network: id(9),
        name: "shop".to_owned(),
        state: NetworkState::Ready,
        subnet_ipv4: name("10.20.2.0/24"),
        subnet_ipv6: name("fd12:3456:789a:2::/64"),
    };
    let invitation = Invitation {
        ticket: "sinewnet1example".to_owned(),
        mode: TicketMode::Counted,
        network: "shop".to_owned(),
        uses: 1,
        expires: AT.to_owned(),
        acceptors: vec![id(1)],
        note: "one acceptor counts: strictly single use".to_owned(),
    };
    let pending = PendingMember { node_id: id(3), address: address(3) };
    let in_force = PolicyInForce { network: id(9), policy: policy(), author: Some(id(1)), issued: name(AT) };
    let documents =
        Documents { network: id(9), name: "shop".to_owned(), documents: vec![Hex(vec![1, 2, 0xff])] };
    let created = NetworkCreated {
        id: id(9),
        name: "shop".to_owned(),
        ipv4: name("10.20.0.0/16"),
        ipv6: "fd12:3456:789a::/48".to_owned(),
    };
    let mut all = vec![
        answer("GET /v1/networks", 200, json(Networks { networks: vec![joining(), summary()] })),
        answer("POST /v1/networks/create", 200, json(created)),
        answer("POST /v1/networks/show", 200, json(network())),
        answer("POST /v1/networks/invite", 200, json(invitation)),
        answer("POST /v1/networks/join", 200, json(joined)),
        answer("POST /v1/networks/requests", 200, json(JoinRequests { requests: vec![pending] })),
        answer("POST /v1/networks/approve", 200, json(changed(Some(id(3))))),
        answer("POST /v1/networks/revoke", 200, json(changed(Some(id(2))))),
        answer("POST /v1/networks/leave", 200, json(changed(None))),
        answer("POST /v1/networks/policy", 200, json(in_force)),
        answer("POST /v1/networks/policy/set", 200, json(changed(None))),
        answer("POST /v1/networks/policy/trace", 200, json(verdicts(true))),
        answer("POST /v1/networks/documents", 200, json(documents)),
        answer("POST /v1/networks/documents/import", 200, json(changed(None))),
        answer("GET /v1/workloads", 200, json(Workloads { workloads: vec![workload()] })),
        answer(
            "POST /v1/workloads/detach",
            200,
            json(Detached { id: "w1".to_owned(), name: "web".to_owned() }),
        ),
        answer(ATTACH, 200, json(attached())),
    ];
    all.extend(names());
    all
}
