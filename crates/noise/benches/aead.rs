//! Sealing and opening one record, by cipher and length. `cargo bench -p sinew-noise`.

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher};
use sinew_noise::{Cipher, RecordKey};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const AAD: [u8; 16] = [1; 16];
const CIPHERS: [Cipher; 2] = [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];
/// The header that a relay seals, a full-size packet, a super-packet on a stream; bytes.
const LENGTHS: [usize; 3] = [60, 1_400, 61_000];

fn main() {
    divan::main();
}

fn key(cipher: Cipher) -> RecordKey {
    RecordKey::derive(&[7; 32], cipher, &[9; 32])
}

fn cases() -> impl Iterator<Item = (Cipher, usize)> {
    CIPHERS.into_iter().flat_map(|cipher| LENGTHS.map(|len| (cipher, len)))
}

fn per_record(len: usize) -> (BytesCount, ItemsCount) {
    (BytesCount::new(len), ItemsCount::new(1usize))
}

#[divan::bench(args = cases().map(Case).collect::<Vec<_>>())]
fn seal(bencher: Bencher<'_, '_>, case: &Case) {
    let (key, mut text, mut nonce) = (key(case.0.0), vec![3; case.0.1], 0);
    let (bytes, items) = per_record(case.0.1);
    bencher.counter(bytes).counter(items).bench_local(|| {
        nonce += 1;
        key.seal(nonce, &AAD, &mut text)
    });
}

#[divan::bench(args = cases().map(Case).collect::<Vec<_>>())]
fn open(bencher: Bencher<'_, '_>, case: &Case) {
    let (key, mut text) = (key(case.0.0), vec![3; case.0.1]);
    let tag = key.seal(1, &AAD, &mut text);
    let sealed = [&text[..], &tag].concat();
    let (bytes, items) = per_record(case.0.1);
    bencher
        .counter(bytes)
        .counter(items)
        .with_inputs(|| sealed.clone())
        .bench_local_refs(|sealed| key.open(1, &AAD, sealed).is_ok());
}

/// A cipher and a length, named in the table.
struct Case((Cipher, usize));

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0.0.as_str(), self.0.1)
    }
}
