//! The name server inside workloads' namespaces, asked by real programs: dig, and libc.
//!
//! ```text
//!   shop ───── lab        two namespaces, two networks, one range; each has a name server
//!                         at 10.1.0.53 of its own; one thread outside answers for both
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sinew_dns::{
    DOMAIN_DEFAULT, Dns, Host, NetworkZone, Prefix, Scope, ServerHandle, Servers, Service, Upstream, Zones,
};
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::ns::Namespace;
use sinew_tests::process;
use sinew_types::{Identity, NodeId};

const DEADLINE: Duration = Duration::from_secs(20);
const RESOLVER: &str = "10.1.0.53";
const SHOP: [u8; 32] = [1; 32];
const LAB: [u8; 32] = [2; 32];

fn node(seed: u8) -> NodeId {
    Identity::from_seed([seed; 32]).node_id()
}

fn host(addresses: &[&str]) -> Result<Host> {
    let addresses = addresses.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    Ok(Host { addresses, services: Vec::new(), node: Some(node(1)) })
}

/// `db` of both networks has the same IPv4 address.
fn zones() -> Result<Arc<Zones>> {
    let range = || vec![Prefix { address: [10, 1, 0, 0].into(), length: 16 }];
    let mut shop = NetworkZone::new(SHOP, "shop", range())?;
    let service =
        Service { service: "postgres".into(), protocol: "tcp".into(), port: 5432, priority: 1, weight: 2 };
    shop.add("db", Host { services: vec![service], ..host(&["10.1.0.1", "fd12::1"])? })?;
    let many: Vec<_> = (1..=90).map(|at| format!("10.1.9.{at}")).collect();
    shop.add("many", host(&many.iter().map(String::as_str).collect::<Vec<_>>())?)?;
    let mut lab = NetworkZone::new(LAB, "lab", range())?;
    lab.add("db", host(&["10.1.0.1"])?)?;
    lab.add("secret", host(&["10.1.0.7"])?)?;
    let mut zones = Zones::new(DOMAIN_DEFAULT)?;
    zones.insert(Arc::new(shop));
    zones.insert(Arc::new(lab));
    zones.add_node(node(1), "alice")?;
    Ok(Arc::new(zones))
}

/// The sockets that a helper would make inside the workload's namespace.
fn serve(dns: &Dns, ns: &Namespace, scope: Scope) -> Result<ServerHandle> {
    ns.ip(&["addr", "add", &format!("{RESOLVER}/32"), "dev", "lo"])?;
    let (udp, tcp) = ns.enter(|| -> Result<_> {
        let at = (RESOLVER, 53);
        Ok((UdpSocket::bind(at)?, TcpListener::bind(at)?))
    })??;
    Ok(dns.serve(scope, udp, tcp)?)
}

struct Workloads {
    dns: Dns,
    _shop: ServerHandle,
    _lab: ServerHandle,
}

fn start(lab: &mut Lab, upstream: Vec<SocketAddr>) -> Result<Workloads> {
    lab.line(&["shop", "lab"])?;
    let dns = Dns::start(Upstream { servers: Servers::Fixed(upstream), rules: vec![] }, zones()?)?;
    let shop = serve(&dns, lab.ns("shop"), Scope::workload("web", SHOP))?;
    let other = serve(&dns, lab.ns("lab"), Scope::workload("probe", LAB))?;
    Ok(Workloads { dns, _shop: shop, _lab: other })
}

fn dig(ns: &Namespace, args: &str) -> Result<String> {
    let server = format!("@{RESOLVER}");
    let mut argv = vec!["dig", &server, "+tries=1", "+timeout=5"];
    argv.extend(args.split_whitespace());
    ns.run(&argv)
}

#[test]
fn dig_gets_each_kind_of_answer_over_udp_and_tcp() {
    run_lab("dig", |lab| {
        let _workloads = start(lab, vec![])?;
        let ns = lab.ns("shop");
        let key = format!("{}.id.sinew.internal", node(9));
        let key_address = node(9).address().to_string();
        let cases = [
            ("db.shop.sinew.internal A", "NOERROR", "10.1.0.1"),
            ("db.shop.sinew.internal AAAA", "NOERROR", "fd12::1"),
            ("db.shop.sinew.internal ANY", "NOERROR", "fd12::1"),
            ("db.shop.sinew.internal MX", "NOERROR", "ANSWER: 0"),
            ("dB.sHoP.sInEw.InTeRnAl A", "NOERROR", "dB.sHoP.sInEw.InTeRnAl."),
            ("_postgres._tcp.db.shop.sinew.internal SRV", "NOERROR", "1 2 5432 db.shop.sinew.internal."),
            ("-x 10.1.0.1", "NOERROR", "db.shop.sinew.internal."),
            ("-x fd12::1", "NOERROR", "db.shop.sinew.internal."),
            ("-x fd12::2", "NXDOMAIN", "SOA"),
            ("nobody.shop.sinew.internal A", "NXDOMAIN", "SOA"),
            ("db.lab.sinew.internal A", "NXDOMAIN", "SOA"),
            ("-x 10.1.0.7", "NXDOMAIN", "SOA"),
            ("alice.node.sinew.internal AAAA", "NXDOMAIN", "SOA"),
            (&format!("{key} AAAA"), "NOERROR", &key_address),
            ("example.org A", "REFUSED", "ANSWER: 0"),
            ("version.bind CH TXT", "REFUSED", "ANSWER: 0"),
            ("db.shop.sinew.internal A +edns=1 +noednsneg", "BADVERS", "ANSWER: 0"),
            ("db.shop.sinew.internal A +opcode=status", "NOTIMP", "ANSWER: 0"),
        ];
        for (args, status, contains) in cases {
            for transport in ["+notcp", "+tcp"] {
                let answer = dig(ns, &format!("{args} {transport}"))?;
                ensure!(answer.contains(&format!("status: {status}")), "{args} {transport}: {answer}");
                ensure!(answer.contains(contains), "{args} {transport}: no `{contains}` in {answer}");
                ensure!(!answer.contains("WARNING") && !answer.contains(";; Got bad"), "{args}: {answer}");
            }
        }
        Ok(())
    });
}

#[test]
fn a_long_answer_is_cut_by_udp_and_whole_by_tcp() {
    run_lab("truncate", |lab| {
        let _workloads = start(lab, vec![])?;
        let ns = lab.ns("shop");
        for edns in ["+noedns", "+bufsize=1232", "+bufsize=4096"] {
            let cut = dig(ns, &format!("many.shop.sinew.internal A +ignore {edns}"))?;
            ensure!(cut.contains(" tc ") && cut.contains("ANSWER: 0"), "{edns}: {cut}");
            // Without +ignore dig does as every client: asks again by TCP.
            let whole = dig(ns, &format!("many.shop.sinew.internal A {edns}"))?;
            ensure!(whole.contains("ANSWER: 90") && whole.contains("(TCP)"), "{edns}: {whole}");
        }
        Ok(())
    });
}

/// Same question, same address of the resolver, another namespace: another network's answer; and
/// what is hidden reads exactly as what does not exist.
#[test]
fn two_workloads_with_one_range_see_their_own_network_only() {
    run_lab("scopes", |lab| {
        let _workloads = start(lab, vec![])?;
        for (ns, own, other) in [("shop", "shop", "lab"), ("lab", "lab", "shop")] {
            let reverse = dig(lab.ns(ns), "-x 10.1.0.1 +short")?;
            ensure!(reverse.trim() == format!("db.{own}.sinew.internal."), "{ns}: {reverse}");
            for kind in ["A", "AAAA", "SRV", "ANY", "TXT", "NS", "SOA"] {
                for front in ["db.", "secret.", "_postgres._tcp.db.", ""] {
                    let ask = |network: &str| -> Result<String> {
                        let args = format!(
                            "{front}{network}.sinew.internal {kind} +noall +comments +question +answer +authority +additional +qid=7 +nocookie"
                        );
                        Ok(dig(lab.ns(ns), &args)?.replace(network, "NETWORK"))
                    };
                    let (hidden, absent) = (ask(other)?, ask("zzzz")?);
                    ensure!(hidden == absent, "{ns} {front} {kind}:\n{hidden}\n{absent}");
                    ensure!(hidden.contains("NXDOMAIN"), "{hidden}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn libc_finds_short_names_by_the_search_domain() {
    run_lab("getent", |lab| {
        let _workloads = start(lab, vec![])?;
        let text = format!("nameserver {RESOLVER}\nsearch shop.sinew.internal\n");
        let (resolv, nss) = (lab.dir().join("resolv.conf"), lab.dir().join("nsswitch.conf"));
        std::fs::write(&resolv, text)?;
        std::fs::write(&nss, "hosts: files dns\n")?;
        // `ip netns exec` has a mount namespace of its own: the machine's files stay as they are.
        let getent = |query: &str| -> Result<process::Output> {
            let script = format!(
                "mount --bind {} /etc/resolv.conf && mount --bind {} /etc/nsswitch.conf && exec getent {query}",
                resolv.display(),
                nss.display()
            );
            process::run(lab.ns("shop").command("sh").args(["-c", &script]), DEADLINE)
        };
        let cases = [
            ("ahostsv4 db", "10.1.0.1"),
            ("ahostsv6 db", "fd12::1"),
            ("ahostsv4 db.shop.sinew.internal", "10.1.0.1"),
            ("hosts 10.1.0.1", "db.shop.sinew.internal"),
            ("ahostsv4 many", "10.1.9.90"),
        ];
        for (query, contains) in cases {
            let output = getent(query)?;
            ensure!(output.code == Some(0) && output.stdout.contains(contains), "{query}: {output:?}");
        }
        for query in ["ahosts nobody", "ahosts db.lab.sinew.internal", "hosts 10.1.0.7"] {
            ensure!(getent(query)?.code == Some(2), "{query} was found");
        }
        Ok(())
    });
}

/// A resolver that is silent: hundreds of questions for it wait, ours are answered at once.
#[test]
fn our_names_are_answered_in_time_while_upstream_is_dead() {
    run_lab("dead", |lab| {
        let silent = UdpSocket::bind("127.0.0.1:0")?;
        let workloads = start(lab, vec![silent.local_addr()?])?;
        let ns = lab.ns("shop");
        let names: String = (0..300).map(|at| format!("n{at}.example.org A\n")).collect();
        let batch = lab.dir().join("names");
        std::fs::write(&batch, names)?;
        let log = lab.dir().join("flood.log");
        let script = format!(
            "for i in 1 2 3 4 5 6 7 8; do dig @{RESOLVER} +tries=1 +timeout=3 +short -f {} & done; wait",
            batch.display()
        );
        let mut flood = process::Proc::spawn(ns.command("sh").args(["-c", &script]), &log)?;
        sinew_tests::wait::until("a question goes upstream", DEADLINE, || {
            silent.set_nonblocking(true).is_ok() && silent.recv(&mut [0; 512]).is_ok()
        })?;
        let mut worst = Duration::ZERO;
        let socket = ns.enter(|| UdpSocket::bind(("10.77.0.1", 0)))??;
        socket.connect((RESOLVER, 53))?;
        socket.set_read_timeout(Some(DEADLINE))?;
        let mut times = Vec::new();
        for _ in 0..500 {
            let begin = Instant::now();
            // `db.shop.sinew.internal A`, by hand.
            socket.send(
                b"\x00\x07\x01\x00\x00\x01\0\0\0\0\0\0\x02db\x04shop\x05sinew\x08internal\0\0\x01\0\x01",
            )?;
            let mut answer = [0; 512];
            let length = socket.recv(&mut answer)?;
            ensure!(answer[..length].ends_with(&[10, 1, 0, 1]), "a wrong answer");
            times.push(begin.elapsed());
            worst = worst.max(begin.elapsed());
        }
        times.sort_unstable();
        println!(
            "500 answers with upstream dead: median {:?}, p99 {:?}, worst {worst:?}",
            times[250], times[495]
        );
        ensure!(flood.running(), "the flood ended too early to prove anything");
        ensure!(times[495] < Duration::from_millis(5), "p99 {:?}", times[495]);
        let answer = dig(ns, "other.example.net A +timeout=6")?;
        ensure!(answer.contains("SERVFAIL"), "{answer}");
        drop(workloads);
        Ok(())
    });
}

#[test]
fn an_explanation_says_which_network_answered_and_what_a_scope_may_not_see() {
    run_lab("explain", |lab| {
        let workloads = start(lab, vec![])?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let ask = |scope: &Scope, name: &str, kind: &str| {
            runtime.block_on(workloads.dns.explain(scope, name, kind)).map_err(anyhow::Error::msg)
        };
        let scope = Scope::workload("web", SHOP);
        let found = ask(&scope, "db", "a")?;
        ensure!(found.name == "db.shop.sinew.internal" && found.source == "network shop", "{found:?}");
        ensure!(found.records.first().context("a record")?.data == "10.1.0.1", "{found:?}");
        let hidden = ask(&scope, "secret.lab.sinew.internal.", "A")?;
        ensure!(hidden.code == "NXDOMAIN" && hidden.why.contains("not for whoever asks here"), "{hidden:?}");
        let reverse = ask(&scope, "10.1.0.1", "PTR")?;
        ensure!(reverse.records.len() == 1, "{reverse:?}");
        let elsewhere = ask(&scope, "example.org", "A")?;
        ensure!(elsewhere.code == "REFUSED" && elsewhere.source == "upstream", "{elsewhere:?}");
        ensure!(ask(&scope, "db", "NOSUCHTYPE").is_err());
        let records = workloads.dns.zones().records(&scope);
        let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
        ensure!(names.contains(&"_postgres._tcp.db.shop.sinew.internal"), "{names:?}");
        ensure!(!names.iter().any(|name| name.contains(".lab.") || name.contains(".node.")), "{names:?}");
        let host = workloads.dns.zones().records(&Scope::host(vec![LAB]));
        ensure!(host.iter().any(|record| record.name == "alice.node.sinew.internal"), "{host:?}");
        Ok(())
    });
}
