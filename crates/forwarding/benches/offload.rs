//! Cutting and merging packets, and finding the next hop. `cargo bench -p sinew-forwarding`.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use sinew_forwarding::offload::{Checksum, Coalescer, Offloads, Sink, Split};
use sinew_forwarding::{Fib, FibEntry};
use sinew_types::{Identity, InterfaceId, MeshAddr, Metric, Rank, Seqno};
use sinew_wire::virtio::{GSO_UDP_L4, NEEDS_CSUM, VirtioNetHdr};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// Packets handed over together, and the most that one super-packet holds.
const BATCHES: [usize; 3] = [1, 32, 128];
const SUPER: usize = 44;
const PAYLOAD: usize = 1_350;

fn main() {
    divan::main();
}

/// A UDP super-packet of `count` datagrams, as the kernel hands it over.
fn super_packet(count: usize) -> (VirtioNetHdr, Vec<u8>) {
    let len = 8 + count * PAYLOAD;
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
    packet[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    packet.extend_from_slice(&[[0xfd; 16], [0xfe; 16]].concat());
    packet.extend_from_slice(&[9, 9, 8, 8]);
    packet.extend_from_slice(&(len as u16).to_be_bytes());
    packet.resize(40 + len, 7);
    let gso_type = if count > 1 { GSO_UDP_L4 } else { 0 };
    let gso_size = if count > 1 { PAYLOAD as u16 } else { 0 };
    let vnet =
        VirtioNetHdr { flags: NEEDS_CSUM, gso_type, hdr_len: 48, gso_size, csum_start: 40, csum_offset: 6 };
    (vnet, packet)
}

fn batch(count: usize) -> Vec<(VirtioNetHdr, Vec<u8>)> {
    let sizes = (0..count).step_by(SUPER).map(|from| SUPER.min(count - from));
    sizes.map(super_packet).collect()
}

fn cut(vnet: &VirtioNetHdr, packet: &mut [u8], out: &mut [u8]) -> usize {
    let mut split = Split::new(vnet, packet, 1_416).expect("a good packet");
    let mut segments = 0;
    while split.write_into(out, Checksum::Partial).is_some() {
        segments += 1;
    }
    segments
}

#[divan::bench(args = BATCHES)]
fn split(bencher: Bencher<'_, '_>, count: usize) {
    let (mut packets, mut out) = (batch(count), vec![0; 2_000]);
    bencher
        .counter(ItemsCount::new(count))
        .bench_local(|| packets.iter_mut().map(|(vnet, packet)| cut(vnet, packet, &mut out)).sum::<usize>());
}

#[divan::bench(args = BATCHES)]
fn coalesce(bencher: Bencher<'_, '_>, count: usize) {
    let mut segments = Vec::new();
    for (vnet, mut packet) in batch(count) {
        let mut split = Split::new(&vnet, &mut packet, 1_416).expect("a good packet");
        let mut out = vec![0; 2_000];
        while let Some(segment) = split.write_into(&mut out, Checksum::Partial) {
            segments.push(out[..segment.len].to_vec());
        }
    }
    let mut coalescer = Coalescer::new();
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let mut bytes = 0;
        let mut emit = |_: InterfaceId, _: &VirtioNetHdr, merged: &[u8]| bytes += merged.len();
        for segment in &mut segments {
            coalescer.push(segment, true, Sink::node(Offloads::ALL), &mut emit).expect("a good packet");
        }
        coalescer.flush(&mut emit);
        bytes
    });
}

fn address(number: u32) -> MeshAddr {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    Identity::from_seed(seed).node_id().address()
}

#[divan::bench(args = [10, 1_000, 4_096])]
fn next_hop(bencher: Bencher<'_, '_>, routes: u32) {
    let addresses: Vec<_> = (0..routes).map(address).collect();
    let mut fib = Fib::new(addresses[0], 7);
    let fd = Rank { seqno: Seqno::new(1), metric: Metric::ZERO };
    for &addr in &addresses {
        fib.set(addr, FibEntry { next_hop: addresses[1], fd, direct: false, mtu: 1_360 });
    }
    let mut at = 0;
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        at = (at + 7) % addresses.len();
        fib.get(&addresses[at]).map(|entry| entry.mtu)
    });
}
