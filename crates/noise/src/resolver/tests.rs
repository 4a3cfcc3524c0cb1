use super::*;
use serde_json::Value;
use snow::{Builder, HandshakeState};

/// Published vectors; the file names their source.
const VECTORS: &str = include_str!("../../tests/vectors/ikpsk2.json");

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn key(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

fn field(vector: &Value, name: &str) -> Vec<u8> {
    hex(vector[name].as_str().unwrap())
}

fn side(vector: &Value, name: &str, initiator: bool) -> HandshakeState {
    let of = |what: &str| field(vector, &format!("{name}_{what}"));
    let (prologue, secret, ephemeral) = (of("prologue"), of("static"), of("ephemeral"));
    let psk: [u8; 32] = key(vector[format!("{name}_psks")][0].as_str().unwrap());
    let remote = if initiator { of("remote_static") } else { Vec::new() };
    let protocol = vector["protocol_name"].as_str().unwrap().parse().unwrap();
    let builder = Builder::with_resolver(protocol, Box::new(Resolver::new(&[0; 32])))
        .prologue(&prologue)
        .and_then(|builder| builder.local_private_key(&secret))
        .and_then(|builder| builder.psk(2, &psk))
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&ephemeral);
    if initiator {
        builder.remote_public_key(&remote).unwrap().build_initiator().unwrap()
    } else {
        builder.build_responder().unwrap()
    }
}

#[test]
fn the_published_vectors_come_out_byte_for_byte() {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert!(!vectors.is_empty());
    for vector in vectors {
        let (mut initiator, mut responder) = (side(vector, "init", true), side(vector, "resp", false));
        let messages = vector["messages"].as_array().unwrap();
        for (number, message) in messages[..2].iter().enumerate() {
            let (payload, expected) = (field(message, "payload"), field(message, "ciphertext"));
            let (mut sent, mut read) = (vec![0; 1024], vec![0; 1024]);
            let (from, to) =
                if number == 0 { (&mut initiator, &mut responder) } else { (&mut responder, &mut initiator) };
            let length = from.write_message(&payload, &mut sent).unwrap();
            assert_eq!(sent[..length], expected, "message {number}");
            let length = to.read_message(&expected, &mut read).unwrap();
            assert_eq!(read[..length], payload, "message {number}");
        }
        for state in [&initiator, &responder] {
            assert_eq!(state.get_handshake_hash(), field(vector, "handshake_hash"));
        }
        assert_eq!(initiator.dangerously_get_raw_split(), responder.dangerously_get_raw_split());
        check_transport(&initiator.dangerously_get_raw_split(), &messages[2..]);
    }
}

/// The vectors go on into Noise's own transport phase, which checks the split keys.
fn check_transport(split: &([u8; 32], [u8; 32]), messages: &[Value]) {
    let mut ciphers = [ChaChaPoly(None), ChaChaPoly(None)];
    ciphers[0].set(&split.0);
    ciphers[1].set(&split.1);
    assert!(messages.len() >= 4);
    for (number, message) in messages.iter().enumerate() {
        let (payload, mut out) = (field(message, "payload"), vec![0; 1024]);
        let length = ciphers[number % 2].encrypt(number as u64 / 2, &[], &payload, &mut out);
        assert_eq!(out[..length], field(message, "ciphertext"), "transport message {number}");
    }
}

fn x25519(secret: [u8; 32]) -> X25519 {
    let mut dh = X25519::default();
    dh.set(&secret);
    dh
}

#[test]
fn x25519_gives_the_published_results() {
    // RFC 7748, section 5.2: one product, and the iterated one.
    let mut out = [0; 32];
    x25519(key("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"))
        .dh(&hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"), &mut out)
        .unwrap();
    assert_eq!(out, key("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"));

    let (mut k, mut u) = ([0; 32], [0; 32]);
    (k[0], u[0]) = (9, 9);
    for round in 1..=1000 {
        let mut next = [0; 32];
        x25519(k).dh(&u, &mut next).unwrap();
        (k, u) = (next, k);
        if round == 1 {
            assert_eq!(k, key("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"));
        }
    }
    assert_eq!(k, key("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
}

#[test]
fn every_low_order_point_is_refused() {
    // The points of small order on the curve and its twist, with their non-canonical forms.
    let points = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for secret in [[1; 32], [0x77; 32]] {
        for point in points {
            let mut public = key(point);
            for _ in 0..2 {
                let mut out = [0xaa; 32];
                assert_eq!(x25519(secret).dh(&public, &mut out), Err(Error::Dh), "{point}");
                assert_eq!(out, [0xaa; 32], "nothing of the exchange comes out");
                public[31] ^= 0x80; // X25519 ignores the top bit.
            }
        }
    }
}

#[test]
fn our_public_key_is_the_montgomery_form_of_the_node_id() {
    for seed in 0..20 {
        let identity = sinew_types::Identity::from_seed([seed; 32]);
        assert_eq!(x25519(*identity.x25519_secret()).pubkey(), identity.node_id().x25519());
    }
}

#[test]
fn randomness_follows_from_the_seed_and_never_repeats() {
    let draw = |seed: u8| {
        let mut rng = Resolver::new(&[seed; 32]).resolve_rng().unwrap();
        let mut draws = [[0; 32]; 3];
        draws.iter_mut().for_each(|out| rng.try_fill_bytes(out).unwrap());
        draws
    };
    assert_eq!(draw(1), draw(1));
    let (a, b) = (draw(1), draw(2));
    assert!(a[0] != a[1] && a[1] != a[2] && a[0] != a[2] && a[0] != b[0]);
    assert_ne!(a[0], [1; 32], "a seed is not itself the key");
}

#[test]
fn no_other_suite_resolves() {
    let resolver = Resolver::new(&[0; 32]);
    assert!(resolver.resolve_dh(&DHChoice::Curve448).is_none());
    assert!(resolver.resolve_hash(&HashChoice::SHA512).is_none());
    assert!(resolver.resolve_hash(&HashChoice::Blake2s).is_none());
    assert!(resolver.resolve_cipher(&CipherChoice::AESGCM).is_none());
}

#[test]
fn the_cipher_takes_any_input_without_a_panic() {
    let mut cipher = ChaChaPoly(None);
    assert_eq!(cipher.decrypt(0, b"", &[0; 32], &mut [0; 16]), Err(Error::Decrypt), "no key yet");
    cipher.set(&[1; 32]);
    for length in 0..40 {
        assert_eq!(cipher.decrypt(0, b"", &vec![0; length], &mut [0; 64]), Err(Error::Decrypt));
    }
    let mut sealed = [0; 36];
    cipher.encrypt(0, b"", &[7; 20], &mut sealed);
    assert_eq!(cipher.decrypt(0, b"", &sealed, &mut [0; 19]), Err(Error::Decrypt), "no room");
    assert_eq!(cipher.decrypt(0, b"", &sealed, &mut [0; 20]), Ok(20));
}
