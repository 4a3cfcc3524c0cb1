use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::CompressedEdwardsY;

use super::*;

fn node(seed: u8) -> NodeId {
    Identity::from_seed([seed; 32]).node_id()
}

#[test]
fn text_form_round_trips_and_is_52_lower_case_characters() {
    for seed in 0..50 {
        let id = node(seed);
        let text = id.to_string();
        assert_eq!(text.len(), 52);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse::<NodeId>(), Err(NodeIdError::TextAlphabet));
    }
}

#[test]
fn stray_bits_in_the_last_character_are_refused() {
    let text = node(1).to_string();
    let last = ALPHABET.iter().position(|&a| a == text.as_bytes()[51]).unwrap();
    let other = format!("{}{}", &text[..51], char::from(ALPHABET[last | 1]));
    assert_eq!(other.parse::<NodeId>(), Err(NodeIdError::TextAlphabet));
}

#[test]
fn only_the_canonical_encoding_of_a_point_is_a_name() {
    // y = 2^255 - 19 + 1 encodes y = 1 a second time.
    let mut bytes = [0xff; 32];
    bytes[0] = 0xee;
    bytes[31] = 0x7f;
    assert_eq!(NodeId::parse(&bytes), Err(NodeIdError::NotCanonical));
}

#[test]
fn small_order_points_and_torsion_shifts_of_a_key_are_refused() {
    for point in EIGHT_TORSION {
        assert_eq!(NodeId::parse(point.compress().as_bytes()), Err(NodeIdError::Torsion));
    }
    let key = CompressedEdwardsY(*node(3).as_bytes()).decompress().unwrap();
    for shift in &EIGHT_TORSION[1..] {
        assert_eq!(NodeId::parse((key + shift).compress().as_bytes()), Err(NodeIdError::Torsion));
    }
}

#[test]
fn the_sign_bit_tells_a_key_from_its_negative() {
    for seed in 0..20 {
        let id = node(seed);
        let negative = NodeId::from_x25519(&id.x25519(), !id.sign_bit()).unwrap();
        assert_ne!(negative, id);
        assert_eq!(negative.x25519(), id.x25519());
        assert_eq!(NodeId::from_x25519(&id.x25519(), id.sign_bit()), Ok(id));
    }
}

#[test]
fn addresses_lie_in_the_mesh_range_and_depend_on_the_key() {
    let (a, b) = (node(1).address(), node(2).address());
    assert_ne!(a, b);
    assert!(MeshAddr::contains(&a.to_ipv6()));
    assert_eq!(a.to_string().parse(), Ok(a));
    assert!(MeshAddr::from_bytes([0xfe; 16]).is_none());
}

#[test]
fn the_libp2p_key_is_not_the_node_key() {
    let identity = Identity::from_seed([7; 32]);
    assert_ne!(
        SigningKey::from_bytes(&identity.libp2p_seed()).verifying_key().to_bytes(),
        *identity.node_id().as_bytes()
    );
    assert!(identity.peer_id().starts_with("12D3KooW"), "{}", identity.peer_id());
}

#[test]
fn an_identity_prints_no_secret() {
    let text = format!("{:?}", Identity::from_seed([0x41; 32]));
    assert!(!text.contains("41, 41") && text.len() < 24, "{text}");
}
