//! A workload that has root and raw sockets, against everybody who is not its fellow.
//!
//! ```text
//!            a ───────────── b ───────────── c
//!   shop                      spy, clerk      fellow
//!   bank     till             vault           teller          both networks are 10.20.0.0/16
//! ```
//! The spy writes frames onto its own interface as they are; captures in the namespaces of the other tenant's
//! workloads, of the machines and of the spy's fellows show what came out. Each attack carries a mark of its
//! own, and each has to be counted by the spy's machine under the one reason that stopped it.

mod ask;
mod attacks;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sinew_tests::capture::{Capture, Pcap};
use sinew_tests::cli::{number, text};
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::raw::{Injector, Packet};
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;

use attacks::Fate::{Dropped, FarDropped, Fellow};
use attacks::{Attack, Attacks, Fate, mark};

const RANGE: &str = "10.20.0.0/16";
/// In the range, and nobody's.
const BEYOND: &str = "10.20.200.200";
const MACHINES: [&str; 3] = ["a", "b", "c"];
/// All may be opened but these two, from anybody to the fellow.
const POLICY: &str = "default = \"allow\"\n[[rule]]\nfrom = \"any\"\nto = \"workload:fellow\"\ndeny = [\"tcp/22\", \"udp/22\"]\n";

/// IPv4 and IPv6 address of somebody.
type Both = (IpAddr, IpAddr);

/// Who is where.
struct Stage {
    fellow: Workload,
    clerk: Workload,
    spy: Workload,
    bank: Vec<Workload>,
    at: Addresses,
}

struct Addresses {
    spy: Both,
    fellow: Both,
    clerk: Both,
    bank: Vec<Both>,
    mesh: Vec<IpAddr>,
    underlay: Vec<IpAddr>,
    resolvers: Vec<IpAddr>,
}

fn both(lab: &Lab, workload: &Workload) -> Result<Both> {
    let all = workload.addresses(lab)?;
    let [v4, v6] = &all[..] else { bail!("not two addresses: {all:?}") };
    Ok((v4.parse()?, v6.parse()?))
}

/// Name servers of a workload.
fn resolvers(lab: &Lab, node: &str, name: &str) -> Result<Vec<IpAddr>> {
    let all = lab.cli(node).list(&["workload", "ls"], "workloads")?;
    let own = all.iter().find(|workload| text(workload, "name") == name).context("it is attached")?;
    let list = own.get("resolvers").and_then(serde_json::Value::as_array).context("resolvers")?;
    Ok(list.iter().filter_map(|address| address.as_str()?.parse().ok()).collect())
}

impl Stage {
    fn set(lab: &mut Lab) -> Result<Self> {
        lab.line(&MACHINES)?;
        lab.peer_links(Dial::First)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        tenant::network(lab, "shop", RANGE, "a", &["b", "c"])?;
        tenant::network(lab, "bank", RANGE, "c", &["a", "b"])?;
        let idle = ["sleep", "infinity"];
        let nginx = tenant::nginx(&lab.dir().join("fellow"), "<h1>fellow</h1>\n")?;
        let fellow = Workload::start(lab, "c", "shop", "fellow", &words(&nginx))?;
        let clerk = Workload::start(lab, "b", "shop", "clerk", &idle)?;
        let spy = Workload::start(lab, "b", "shop", "spy", &idle)?;
        let bank = [("a", "till"), ("b", "vault"), ("c", "teller")];
        let bank: Vec<_> = bank
            .iter()
            .map(|(node, name)| Workload::start(lab, node, "bank", name, &idle))
            .collect::<Result<_>>()?;
        let mut at = Addresses {
            spy: both(lab, &spy)?,
            fellow: both(lab, &fellow)?,
            clerk: both(lab, &clerk)?,
            bank: bank.iter().map(|workload| both(lab, workload)).collect::<Result<_>>()?,
            mesh: MACHINES.iter().map(|name| Ok(lab.address(name)?.parse()?)).collect::<Result<_>>()?,
            underlay: vec!["10.77.0.1".parse()?, "10.77.0.2".parse()?, "10.77.1.1".parse()?],
            resolvers: resolvers(lab, "b", "vault")?,
        };
        at.resolvers.extend(resolvers(lab, "b", "spy")?);
        let file = lab.dir().join("policy.toml");
        std::fs::write(&file, POLICY)?;
        lab.cli("a").json(&["network", "policy", "set", "shop", &file.display().to_string()])?;
        wait::until("the policy is in force at the spy's machine", SOON, || {
            let asked = ["network", "policy", "trace", "shop", "spy", "fellow", "tcp/22"];
            lab.cli("b").run(&asked).is_ok_and(|said| said.code == Some(5))
        })?;
        Ok(Self { fellow, clerk, spy, bank, at })
    }

    fn injector(&self, lab: &Lab) -> Result<Injector> {
        Injector::open(&self.spy.netns(lab)?, "sinew0", BEYOND.parse()?)
    }
}

fn drops(lab: &Lab, node: &str) -> Result<BTreeMap<String, u64>> {
    let all = lab.cli(node).list(&["drops"], "drops")?;
    let count = |entry| number(entry, "count").map(|count| count as u64).unwrap_or_default();
    Ok(all.iter().map(|entry| (text(entry, "reason").to_owned(), count(entry))).collect())
}

/// Sends each attack; what is to be dropped must be counted before the next goes out.
fn attack(lab: &Lab, injector: &Injector, attacks: &[Attack]) -> Result<()> {
    for attack in attacks {
        let (node, reason) = match attack.fate {
            Dropped(reason) => ("b", reason),
            FarDropped(reason) => ("c", reason),
            Fellow => {
                injector.send(&attack.bytes).with_context(|| attack.name.clone())?;
                continue;
            }
        };
        let before = drops(lab, node)?;
        injector.send(&attack.bytes).with_context(|| attack.name.clone())?;
        let count = |all: &BTreeMap<String, u64>| all.get(reason).copied().unwrap_or_default();
        let counted = wait::until("a drop", Duration::from_secs(2), || {
            drops(lab, node).is_ok_and(|now| count(&now) > count(&before))
        });
        if counted.is_err() {
            bail!("{} is not counted as {reason}: {before:?}, {:?}", attack.name, drops(lab, node)?);
        }
    }
    Ok(())
}

/// Captures by the name of the place.
struct Watch(Vec<(String, Capture)>);

impl Watch {
    fn start(lab: &Lab, stage: &Stage) -> Result<Self> {
        let mut places: Vec<(String, PathBuf, &str)> = Vec::new();
        for (number, workload) in stage.bank.iter().enumerate() {
            places.push((format!("bank{number}"), workload.netns(lab)?, "sinew0"));
        }
        for (name, workload) in [("fellow", &stage.fellow), ("clerk", &stage.clerk)] {
            places.push((name.to_owned(), workload.netns(lab)?, "sinew0"));
        }
        for machine in MACHINES {
            places.push((machine.to_owned(), lab.ns(machine).path(), "any"));
        }
        let start = |(name, netns, interface): (String, PathBuf, &str)| {
            let file = lab.dir().join(format!("{name}.pcapng"));
            Ok((name, Capture::start_in(&netns, interface, &file)?))
        };
        Ok(Self(places.into_iter().map(start).collect::<Result<_>>()?))
    }

    fn stop(self) -> Result<Vec<(String, Pcap)>> {
        self.0.into_iter().map(|(name, capture)| Ok((name, capture.stop()?))).collect()
    }
}

/// Honest packets by the same means, one for each place that is watched: were they not seen, nothing that
/// follows would mean anything.
fn controls(lab: &Lab, stage: &Stage, injector: &Injector) -> Result<Vec<(String, Vec<u8>)>> {
    let at = &stage.at;
    let mut sent = Vec::new();
    for (place, (v4, v6)) in [("fellow", at.fellow), ("clerk", at.clerk)] {
        injector.send(&Packet::udp(at.spy.0, v4, (4000, 9), b"GOODSHP4").bytes())?;
        injector.send(&Packet::udp(at.spy.1, v6, (4000, 9), b"GOODSHP6").bytes())?;
        sent.extend([b"GOODSHP4", b"GOODSHP6"].map(|mark| (place.to_owned(), mark.to_vec())));
    }
    for (number, workload) in stage.bank.iter().enumerate() {
        let bank = Injector::open(&workload.netns(lab)?, "sinew0", BEYOND.parse()?)?;
        let next = (number + 1) % stage.bank.len();
        bank.send(&Packet::udp(at.bank[number].0, at.bank[next].0, (4000, 9), b"GOODBANK").bytes())?;
        sent.push((format!("bank{next}"), b"GOODBANK".to_vec()));
    }
    for (number, machine) in MACHINES.iter().enumerate() {
        let host = Injector::open(&lab.ns(machine).path(), "sinew0", "fd3f::9".parse()?)?;
        let next = (number + 1) % MACHINES.len();
        host.send(&Packet::udp(at.mesh[number], at.mesh[next], (4000, 9), b"GOODMESH").bytes())?;
        sent.push((MACHINES[next].to_owned(), b"GOODMESH".to_vec()));
    }
    Ok(sent)
}

fn judge(pcaps: &[(String, Pcap)], attacks: &[Attack], controls: &[(String, Vec<u8>)]) -> Result<()> {
    let marks: Vec<Vec<u8>> = (0..attacks.len()).map(mark).collect();
    let patterns: Vec<&[u8]> = marks.iter().map(Vec::as_slice).collect();
    for (place, pcap) in pcaps {
        ensure!(pcap.dropped == 0, "the capture at {place} missed packets");
        let honest: Vec<&[u8]> =
            controls.iter().filter(|(at, _)| at == place).map(|(_, mark)| mark.as_slice()).collect();
        ensure!(!honest.is_empty(), "nothing shows that the capture at {place} sees anything");
        ensure!(pcap.scan(&honest)?.iter().all(|count| *count > 0), "no honest packet came to {place}");
        for (attack, count) in attacks.iter().zip(pcap.scan(&patterns)?) {
            let here = attack.fate == Fellow && place == "fellow";
            ensure!(here == (count > 0), "{} came out at {place} {count} times", attack.name);
        }
    }
    Ok(())
}

#[test]
fn raw_packets_of_a_workload_reach_nobody_but_fellows() {
    run_lab("raw", |lab| {
        let stage = Stage::set(lab)?;
        let injector = stage.injector(lab)?;
        let watch = Watch::start(lab, &stage)?;
        let sent = controls(lab, &stage, &injector)?;
        let mut attacks = Attacks::new(&stage.at);
        attacks.spoofed_sources()?;
        attacks.destinations()?;
        attacks.link_layer()?;
        attacks.nested();
        attacks.headers();
        attacks.fragments();
        attacks.broken();
        attack(lab, &injector, &attacks.all)?;
        let page = stage.spy.run(lab, &["curl", "-sS", "--fail", "--noproxy", "*", "http://fellow/"])?;
        ensure!(page == "<h1>fellow</h1>\n", "the fellow answers: {page}");
        let pcaps = watch.stop()?;
        judge(&pcaps, &attacks.all, &sent)?;
        let count = |fate: fn(Fate) -> bool| attacks.all.iter().filter(|attack| fate(attack.fate)).count();
        eprintln!(
            "{} attacks dropped, {} packets seen by the fellow alone; {:?}",
            count(|fate| fate != Fellow),
            count(|fate| fate == Fellow),
            drops(lab, "b")?
        );
        Ok(())
    });
}

#[test]
fn a_workload_is_told_nothing_of_others_by_name_servers_and_does_not_reach_the_daemon() {
    run_lab("ask", |lab| {
        let stage = Stage::set(lab)?;
        ask::ask(lab, &stage)?;
        ask::knock(lab, &stage)
    });
}
