use super::*;

const PROTOCOL: &str = "Noise_IKpsk2_25519_ChaChaPoly_SHA256";

/// An initiator after its first message: the chaining key then holds `es` and `ss`.
fn state() -> Wiped {
    let mut state = Builder::with_resolver(PROTOCOL.parse().unwrap(), Box::new(Resolver::new(&[1; 32])))
        .local_private_key(&[2; 32])
        .and_then(|builder| builder.psk(2, &[3; 32]))
        .and_then(|builder| builder.remote_public_key(&[9; 32]))
        .unwrap()
        .build_initiator()
        .unwrap();
    state.write_message(&[], &mut [0; 200]).unwrap();
    Wiped::new(state)
}

#[test]
fn wiping_replaces_hash_keys_and_role() {
    let (mut wiped, mut blank) = (state(), blank().unwrap());
    let before = (wiped.get_handshake_hash().to_vec(), wiped.dangerously_get_raw_split());
    wiped.wipe();
    assert_ne!(wiped.get_handshake_hash(), before.0);
    assert_ne!(wiped.dangerously_get_raw_split(), before.1);
    assert_eq!(wiped.get_handshake_hash(), blank.get_handshake_hash());
    assert_eq!(wiped.dangerously_get_raw_split(), blank.dangerously_get_raw_split());
    assert!(wiped.get_remote_static().is_none());
}

#[test]
fn scrubbing_keeps_the_result() {
    assert_eq!(scrubbed(|| [7; 100]), [7; 100]);
}
