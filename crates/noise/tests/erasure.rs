//! Keys are gone from memory when their holder is dropped.
//!
//! The test looks where a thief would: it reads this process's own writable memory and searches it
//! for key bytes. It has a `main` of its own, so that no other test's thread holds keys meanwhile.
//! Needles are kept inverted, and compared without ever being made plain, so that the search does
//! not find itself.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

fn main() {
    #[cfg(target_os = "linux")]
    linux::main();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::{self, File};
    use std::hint::black_box;
    use std::os::unix::fs::FileExt;

    use sinew_noise::hash::{hkdf_expand, sha256};
    use sinew_noise::{Cipher, HandshakeMac, Initiator, RecordKey, Responder, SplitKeys};
    use sinew_types::Identity;
    use zeroize::{Zeroize, zeroize_stack};

    /// A key to search for, inverted, and what it is called.
    struct Needle {
        inverted: [u8; 32],
        name: &'static str,
    }

    impl Needle {
        fn new(name: &'static str, key: &[u8; 32]) -> Self {
            Self { inverted: key.map(|byte| !byte), name }
        }

        fn is_at(&self, bytes: &[u8]) -> bool {
            bytes.iter().zip(self.inverted).all(|(&byte, inverted)| byte == !inverted)
        }
    }

    /// The key, not its cipher context: what a record key is expanded to.
    fn expanded(split: &[u8; 32], cipher: Cipher, hash: &[u8; 32]) -> [u8; 32] {
        let mut key = [0; 32];
        hkdf_expand(split, &[b"sinew/record/v1\0", &[cipher as u8], hash], &mut key);
        key
    }

    /// How often each needle stands in writable memory. `buffer` holds a copy of other memory while
    /// it is searched, so it is left out of the search and erased.
    fn count(needles: &[Needle], buffer: &mut [u8]) -> Vec<usize> {
        let (own, memory) = (buffer.as_ptr_range(), File::open("/proc/self/mem").unwrap());
        let own = own.start as u64..own.end as u64;
        let mut found = vec![0; needles.len()];
        for line in fs::read_to_string("/proc/self/maps").unwrap().lines() {
            let mut fields = line.split_whitespace();
            let (range, access) = (fields.next().unwrap(), fields.next().unwrap());
            if !access.starts_with("rw") || line.ends_with("[vvar]") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap();
            let to = u64::from_str_radix(to, 16).unwrap();
            let mut at = u64::from_str_radix(from, 16).unwrap();
            while at < to {
                // Pieces overlap by a needle less one byte, so that none is cut or counted twice.
                let piece = &mut buffer[..4096.min((to - at) as usize)];
                let overlaps = at < own.end && own.start < at + piece.len() as u64;
                if !overlaps && memory.read_exact_at(piece, at).is_ok() {
                    for (needle, found) in needles.iter().zip(&mut found) {
                        *found += piece.windows(32).filter(|bytes| needle.is_at(bytes)).count();
                    }
                }
                piece.zeroize();
                at = if at + 4096 < to { at + 4096 - 31 } else { to };
            }
        }
        found
    }

    struct Held {
        keys: SplitKeys,
        theirs: SplitKeys,
        records: Vec<RecordKey>,
        mac: HandshakeMac,
    }

    /// A handshake and all that hangs on it, and what to search for.
    #[inline(never)]
    fn hold(psk: &[u8; 32]) -> (Held, Vec<Needle>) {
        let (alice, bob) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let (mut initiator, hs1) = Initiator::start(&alice, &bob.node_id(), psk, &[0; 64], [3; 32]).unwrap();
        let received = Responder::read(&bob, psk, &hs1, [4; 32]).unwrap();
        let (hs2, theirs) = received.responder.reply(&[0; 64]).unwrap();
        let (keys, _) = initiator.finish(&hs2).unwrap();

        let mut needles = vec![Needle::new("mesh secret", psk)];
        needles.push(Needle::new("split key to send", &keys.send));
        needles.push(Needle::new("split key to receive", &keys.receive));
        needles.push(Needle::new("static secret", &alice.x25519_secret()));
        let mut records = Vec::new();
        for (cipher, name) in
            [(Cipher::ChaCha20Poly1305, "ChaCha20 record key"), (Cipher::Aes256Gcm, "AES record key")]
        {
            records.push(RecordKey::derive(&keys.send, cipher, &keys.hash));
            needles.push(Needle::new(name, &expanded(&keys.send, cipher, &keys.hash)));
        }
        let mac = HandshakeMac::new(&bob.node_id(), psk);
        needles.push(Needle::new("mac1 key", &sha256(&[b"sinew/mac1/v1\0", bob.node_id().as_bytes(), psk])));
        (Held { keys, theirs, records, mac }, needles)
    }

    #[inline(never)]
    fn run(psk: &mut [u8; 32], buffer: &mut [u8]) -> (Vec<Needle>, Vec<usize>) {
        let (held, needles) = hold(psk);
        psk.zeroize();
        let found = count(&needles, buffer);
        black_box((&held.keys, &held.theirs, &held.records, &held.mac));
        drop(held);
        (needles, found)
    }

    pub(super) fn main() {
        let mut buffer = vec![0; 4096];
        // Made at run time: a constant would stand in the program's own data.
        let mut psk = sha256(&[b"a mesh secret", &std::process::id().to_le_bytes()]);
        let (needles, held) = run(&mut psk, &mut buffer);
        // The test's own frames, and the values that moved through them.
        zeroize_stack::<{ 256 * 1024 }>();
        let after = count(&needles, &mut buffer);

        for ((needle, held), after) in needles.iter().zip(&held).zip(&after) {
            println!("{:22} held {held} times, then {after}", needle.name);
        }
        // The search must be able to find what is there.
        for sought in ["split key to send", "split key to receive", "ChaCha20 record key", "AES record key"] {
            let at = needles.iter().position(|needle| needle.name == sought).unwrap();
            assert!(held[at] > 0, "{sought} was not found while held");
        }
        for (needle, after) in needles.iter().zip(&after) {
            assert_eq!(*after, 0, "{} is still in memory", needle.name);
        }
        println!("test keys_are_gone_when_dropped ... ok");
        println!("{} passed, 0 failed", needles.len());
    }
}
