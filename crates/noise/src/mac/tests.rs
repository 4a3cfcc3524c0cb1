use super::*;
use sinew_types::Identity;

const SECRET: [u8; 32] = [5; 32];

fn node(seed: u8) -> NodeId {
    Identity::from_seed([seed; 32]).node_id()
}

fn at(seconds: u64) -> Instant {
    Instant::from_micros(seconds * 1_000_000)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn mac1_follows_the_written_layout() {
    let id = node(1);
    let key = sha256(&[b"sinew/mac1/v1\0", id.as_bytes(), &SECRET]);
    let expected = &hmac_sha256(&key, &[b"first 168 bytes"])[..16];
    assert_eq!(HandshakeMac::new(&id, &SECRET).mac1(b"first 168 bytes"), expected);
}

#[test]
fn mac1_binds_message_responder_and_mesh_secret() {
    let mac = HandshakeMac::new(&node(1), &SECRET);
    let made = mac.mac1(b"message");
    assert!(mac.verify_mac1(b"message", &made));
    assert!(!mac.verify_mac1(b"massage", &made));
    assert!(!mac.verify_mac1(b"message", &[0; 16]));
    assert!(!HandshakeMac::new(&node(2), &SECRET).verify_mac1(b"message", &made));
    assert!(!HandshakeMac::new(&node(1), &[0; 32]).verify_mac1(b"message", &made));
    for bit in 0..128 {
        let mut flipped = made;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!mac.verify_mac1(b"message", &flipped), "bit {bit}");
    }
}

#[test]
fn a_sealed_cookie_opens_for_its_own_hs1_alone() {
    let mac = HandshakeMac::new(&node(1), &SECRET);
    let (salt, mac1, cookie) = ([3; 16], [4; 16], [6; 16]);
    let sealed = mac.seal_cookie(&salt, &mac1, &cookie);
    assert_eq!(mac.open_cookie(&salt, &mac1, &sealed), Ok(cookie));
    // An observer who floods an initiator with cookie messages has not seen this HS1's mac1.
    assert_eq!(mac.open_cookie(&salt, &[0; 16], &sealed), Err(Forged));
    assert_eq!(mac.open_cookie(&[0; 16], &mac1, &sealed), Err(Forged));
    assert_eq!(HandshakeMac::new(&node(2), &SECRET).open_cookie(&salt, &mac1, &sealed), Err(Forged));
    assert_eq!(HandshakeMac::new(&node(1), &[0; 32]).open_cookie(&salt, &mac1, &sealed), Err(Forged));
    for at in 0..sealed.len() {
        let mut bent = sealed;
        bent[at] ^= 1;
        assert_eq!(mac.open_cookie(&salt, &mac1, &bent), Err(Forged), "byte {at}");
    }
}

#[test]
fn each_salt_makes_another_key() {
    let mac = HandshakeMac::new(&node(1), &SECRET);
    let sealed = |salt| mac.seal_cookie(&[salt; 16], &[4; 16], &[6; 16]);
    assert_ne!(sealed(1)[..16], sealed(2)[..16], "a zero nonce is safe only under a fresh key");
}

#[test]
fn a_cookie_is_bound_to_address_and_port() {
    let mut jar = CookieJar::new([1; 32], at(0));
    let home = underlay_source(&addr("192.0.2.1:700"));
    let proof = mac2(&jar.cookie(&home, at(1)), b"hs1");
    let cases = [
        (home, true),
        (underlay_source(&addr("192.0.2.1:701")), false),
        (underlay_source(&addr("192.0.2.2:700")), false),
        (underlay_source(&addr("[::ffff:192.0.2.1]:700")), true),
        (underlay_source(&addr("[2001:db8::1]:700")), false),
        (routed_source(&node(1).address()), false),
    ];
    for (source, accepted) in cases {
        assert_eq!(jar.verify_mac2(b"hs1", &proof, &source, at(2)), accepted, "{source:?}");
    }
    assert!(!jar.verify_mac2(b"another", &proof, &home, at(2)));
    assert!(!jar.verify_mac2(b"hs1", &[0; 16], &home, at(2)), "zeros mean no cookie");
}

#[test]
fn a_routed_cookie_is_bound_to_the_mesh_address() {
    let mut jar = CookieJar::new([1; 32], at(0));
    let proof = mac2(&jar.cookie(&routed_source(&node(1).address()), at(1)), b"hs1");
    assert!(jar.verify_mac2(b"hs1", &proof, &routed_source(&node(1).address()), at(1)));
    assert!(!jar.verify_mac2(b"hs1", &proof, &routed_source(&node(2).address()), at(1)));
}

#[test]
fn a_cookie_dies_125_seconds_after_its_secret_was_made() {
    let source = underlay_source(&addr("192.0.2.1:700"));
    let cases = [(0, true), (119, true), (120, true), (124, true), (125, false), (126, false), (9999, false)];
    for (second, accepted) in cases {
        let mut jar = CookieJar::new([1; 32], at(0));
        let proof = mac2(&jar.cookie(&source, at(0)), b"hs1");
        assert_eq!(jar.verify_mac2(b"hs1", &proof, &source, at(second)), accepted, "after {second} s");
    }
}

#[test]
fn the_grace_ends_also_when_the_jar_is_used_all_the_time() {
    let source = underlay_source(&addr("192.0.2.1:700"));
    let mut jar = CookieJar::new([1; 32], at(0));
    let first = mac2(&jar.cookie(&source, at(0)), b"hs1");
    for second in 0..1000 {
        let fresh = mac2(&jar.cookie(&source, at(second)), b"hs1");
        assert!(jar.verify_mac2(b"hs1", &fresh, &source, at(second)), "a fresh cookie at {second} s");
        assert_eq!(jar.verify_mac2(b"hs1", &first, &source, at(second)), second < 125, "at {second} s");
    }
}

#[test]
fn a_cookie_given_out_last_survives_the_change_of_secret() {
    let source = underlay_source(&addr("192.0.2.1:700"));
    let mut jar = CookieJar::new([1; 32], at(0));
    let late = jar.cookie(&source, at(119));
    assert_ne!(jar.cookie(&source, at(120)), late, "another secret by now");
    assert!(jar.verify_mac2(b"hs1", &mac2(&late, b"hs1"), &source, at(121)));
}

#[test]
fn secrets_follow_from_the_seed() {
    let source = underlay_source(&addr("192.0.2.1:700"));
    let cookies = |seed: u8| {
        let mut jar = CookieJar::new([seed; 32], at(0));
        [0, 120, 240].map(|second| jar.cookie(&source, at(second)))
    };
    assert_eq!(cookies(1), cookies(1));
    let (a, b) = (cookies(1), cookies(2));
    assert!(a[0] != a[1] && a[1] != a[2] && a[0] != a[2] && a[0] != b[0]);
}

#[test]
fn a_psk_id_names_a_secret_without_showing_it() {
    assert_eq!(psk_id(&[0; 32]).to_le_bytes(), sha256(&[&[0; 32]])[..4]);
    assert_ne!(psk_id(&[0; 32]), psk_id(&[1; 32]));
}
