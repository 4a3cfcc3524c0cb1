use std::process::Command;
use std::time::Duration;

use super::*;

const MESH: &str = "fd3f:1:2:3::4";

/// Runs `test` in a network namespace of its own, which ends with its thread. Without root there
/// is nothing to test.
fn in_namespace(test: impl AsyncFnOnce(Net) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let body = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(Net::new().unwrap()).await });
    };
    std::thread::spawn(body).join().unwrap();
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A TUN device as a killed run might leave it: persistent, held by nobody.
fn leftover(name: &str) -> u32 {
    ip(&format!("tuntap add {name} mode tun"));
    nix::net::if_::if_nametoindex(name).unwrap()
}

fn address() -> IpAddr {
    MESH.parse().unwrap()
}

#[test]
fn an_interface_comes_up_with_mtu_address_and_route_and_each_is_undone() {
    in_namespace(async |net| {
        let index = leftover("sinewt");
        net.link_up(index, 1416).await.unwrap();
        let shown = ip("link show sinewt");
        assert!(shown.contains("mtu 1416") && shown.contains("UP"), "{shown}");
        let changes = [
            net.add_address(index, address(), 128).await.unwrap(),
            net.add_route(index, "fd3f::".parse().unwrap(), 16).await.unwrap(),
            net.add_address(index, "10.1.2.3".parse().unwrap(), 24).await.unwrap(),
            net.add_route(index, "10.9.0.0".parse().unwrap(), 16).await.unwrap(),
        ];
        let shown = ip("-6 addr show dev sinewt");
        assert!(shown.contains(&format!("{MESH}/128")) && !shown.contains("tentative"), "{shown}");
        assert!(!shown.contains("fe80"), "no link-local address: {shown}");
        assert!(ip("-6 route show dev sinewt").contains("fd3f::/16 proto 115"));
        assert!(ip("route show dev sinewt").contains("10.9.0.0/16 proto 115"));
        for change in changes.iter().rev() {
            net.remove(*change).await.unwrap();
            net.remove(*change).await.unwrap();
        }
        assert_eq!(ip("addr show dev sinewt").matches("inet").count(), 0);
        assert!(!ip("-6 route show dev sinewt").contains("fd3f"));
    });
}

#[test]
fn an_address_may_be_added_twice_and_a_route_of_others_is_not_replaced() {
    in_namespace(async |net| {
        let index = leftover("sinewt");
        net.link_up(index, 1280).await.unwrap();
        for _ in 0..2 {
            net.add_address(index, address(), 128).await.unwrap();
        }
        ip("-6 route add fd3f::/16 dev sinewt");
        let error = net.add_route(index, "fd3f::".parse().unwrap(), 16).await.unwrap_err();
        assert!(matches!(&error, NetError::RouteTaken(route) if route == "fd3f::/16"), "{error}");
        assert!(ip("-6 route show dev sinewt").contains("fd3f::/16 metric"), "untouched");
    });
}

#[test]
fn a_leftover_device_is_deleted_and_one_in_use_is_not() {
    in_namespace(async |net| {
        assert!(net.orphans("sinewt").await.unwrap().is_empty(), "nothing there");
        leftover("sinewt");
        ip("link set sinewt up");
        assert_eq!(net.orphans("sinewt").await.unwrap().len(), 1);
        assert!(nix::net::if_::if_nametoindex("sinewt").is_err());
        assert!(matches!(net.orphans("lo").await, Err(NetError::InterfaceInUse(_))));

        let _holder = held_device("sinewt");
        assert!(matches!(net.orphans("sinewt").await, Err(NetError::InterfaceInUse(_))), "held, though down");
        assert!(nix::net::if_::if_nametoindex("sinewt").is_ok());
    });
}

/// A TUN device that a descriptor keeps alive.
fn held_device(name: &str) -> std::fs::File {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    assert_eq!(result, 0);
    file
}

#[test]
fn addresses_are_listed_with_their_interface() {
    in_namespace(async |net| {
        ip("link set lo up");
        let index = leftover("sinewt");
        net.add_address(index, address(), 64).await.unwrap();
        let found = net.interface_addresses().await.unwrap();
        let ours = found.iter().find(|a| a.address == address()).unwrap();
        assert_eq!((ours.ifindex, ours.name.as_str(), ours.prefix), (index, "sinewt", 64));
        assert!(!ours.running && !ours.loopback && ours.usable && !ours.temporary, "{ours:?}");
        let home = found.iter().find(|a| a.address == IpAddr::from([127, 0, 0, 1])).unwrap();
        assert!(home.loopback && home.running && home.prefix == 8, "{home:?}");
    });
}

async fn until(changes: &mut Changes, wanted: impl Fn(&NetChange) -> bool) {
    let search = async { while !wanted(&changes.next().await.expect("the kernel goes on")) {} };
    tokio::time::timeout(Duration::from_secs(10), search).await.expect("the news comes");
}

#[test]
fn links_and_addresses_that_come_and_go_are_news() {
    in_namespace(async |net| {
        let mut changes = net.changes().unwrap();
        let index = leftover("sinewt");
        until(
            &mut changes,
            |c| matches!(c, NetChange::Link { ifindex, name, .. } if *ifindex == index && name == "sinewt"),
        )
        .await;
        net.link_up(index, 1300).await.unwrap();
        until(&mut changes, |c| matches!(c, NetChange::Link { mtu: 1300, .. })).await;
        let change = net.add_address(index, address(), 128).await.unwrap();
        until(&mut changes, |c| *c == NetChange::Address { ifindex: index, address: address() }).await;
        net.remove(change).await.unwrap();
        until(&mut changes, |c| *c == NetChange::AddressGone { ifindex: index, address: address() }).await;
        ip("link del sinewt");
        until(&mut changes, |c| matches!(c, NetChange::LinkGone { name, .. } if name == "sinewt")).await;
    });
}

#[test]
fn the_way_out_is_found_and_its_change_is_news() {
    in_namespace(async |net| {
        assert_eq!(net.uplink(false).await, None, "there is none yet");
        let mut changes = net.changes().unwrap();
        let index = leftover("sinewt");
        net.add_address(index, "10.1.2.3".parse().unwrap(), 24).await.unwrap();
        net.link_up(index, 1300).await.unwrap();
        ip("route add 10.9.0.0/16 via 10.1.2.1");
        ip("route add default via 10.1.2.1");
        // The other route is none: this would be the second piece of news otherwise.
        until(&mut changes, |c| *c == NetChange::DefaultRoute).await;
        let expected = Uplink {
            ifindex: index,
            gateway: Some("10.1.2.1".parse().unwrap()),
            source: Some("10.1.2.3".parse().unwrap()),
        };
        assert_eq!(net.uplink(false).await, Some(expected));
        assert_eq!(net.uplink(true).await, None, "IPv4 alone");
        ip("route del default");
        until(&mut changes, |c| *c == NetChange::DefaultRoute).await;
        assert_eq!(net.uplink(false).await, None);
    });
}

#[test]
fn another_way_out_is_one_by_a_route_of_the_same_kind() {
    in_namespace(async |net| {
        let others = async || {
            let uplink = net.uplink(false).await.unwrap();
            net.other_uplinks(&uplink, false, &net.interface_addresses().await.unwrap()).await
        };
        let veth = |name: &str, n: u8| {
            ip(&format!("link add {name} type veth peer name {name}p"));
            ip(&format!("addr add 10.1.{n}.2/24 dev {name}"));
            ip(&format!("link set {name} up"));
            ip(&format!("link set {name}p up"));
        };
        veth("wan", 1);
        veth("lte", 2);
        ip("route add default via 10.1.1.1 metric 100");
        assert!(others().await.is_empty(), "an address is no way out");
        ip("route add default via 10.1.2.1 metric 200");
        let named = async || others().await.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(named().await, ["lte"]);
        ip("route del default via 10.1.1.1");
        assert!(named().await.is_empty(), "it is the only one");
        ip("route add default via 10.1.1.1 metric 300");
        assert_eq!(named().await, ["wan"]);
        // Everything goes into a tunnel: what is beside it is none of our business.
        ip("route add 0.0.0.0/1 via 10.1.1.1");
        ip("route add 128.0.0.0/1 via 10.1.1.1");
        assert!(named().await.is_empty(), "other routes than that in use");
        ip("route del 0.0.0.0/1");
        ip("route del 128.0.0.0/1");
        let tunnel = leftover("sinewt");
        net.add_address(tunnel, "10.1.3.2".parse().unwrap(), 24).await.unwrap();
        net.link_up(tunnel, 1300).await.unwrap();
        ip("route add default dev sinewt metric 400");
        assert_eq!(named().await, ["wan"], "a tunnel is none");
        ip("route add default dev sinewt metric 50");
        assert!(named().await.is_empty(), "a tunnel has none beside it");
    });
}

#[test]
fn an_interface_that_is_not_there_is_an_error_that_names_the_action() {
    in_namespace(async |net| {
        let error = net.link_up(4711, 1400).await.unwrap_err().to_string();
        assert!(error.contains("bring up interface 4711 with MTU 1400"), "{error}");
        assert!(net.add_address(4711, address(), 128).await.is_err());
        assert!(net.add_route(4711, address(), 200).await.is_err());
    });
}

#[test]
fn ipv6_that_is_switched_off_is_switched_on_or_named() {
    in_namespace(async |net| {
        // A fresh /proc/sys of this namespace belongs to every process in it.
        let index = leftover("sinewt");
        std::fs::write("/proc/sys/net/ipv6/conf/sinewt/disable_ipv6", "1").unwrap();
        let error = net.add_address(index, address(), 128).await.unwrap_err();
        assert!(matches!(&error, NetError::Ipv6Off(name) if name == "sinewt"), "{error}");
        net.link_up(index, 1416).await.unwrap();
        net.add_address(index, address(), 128).await.unwrap();
    });
}
