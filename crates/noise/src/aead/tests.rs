use super::*;
use crate::hash::hmac_sha256;

const SPLIT: [u8; 32] = [7; 32];
const HASH: [u8; 32] = [9; 32];
const BOTH: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// A key with a given iv, to feed published vectors; nonce 0 leaves the iv as it is.
fn plain(cipher: Cipher, key: &str, iv: &str) -> RecordKey {
    let iv = Zeroizing::new(hex(iv).try_into().unwrap());
    RecordKey { key: context(cipher, &hex(key)), iv, cipher }
}

#[test]
fn both_ciphers_give_the_published_results() {
    let sunscreen = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the \
                     future, sunscreen would be it.";
    let cases = [
        // RFC 8439, section 2.8.2.
        (
            plain(
                Cipher::ChaCha20Poly1305,
                "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
                "070000004041424344454647",
            ),
            "50515253c0c1c2c3c4c5c6c7",
            sunscreen.as_bytes().to_vec(),
            "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b\
             1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
             3ff4def08e4b7a9de576d26586cec64b6116",
            "1ae10b594f09e26a7e902ecbd0600691",
        ),
        // McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16.
        (
            plain(
                Cipher::Aes256Gcm,
                "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
                "cafebabefacedbaddecaf888",
            ),
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            hex(
                "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b5\
                 25b16aedf5aa0de657ba637b39",
            ),
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
             c5f61e6393ba7a0abcc9f662",
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ];
    for (key, aad, text, sealed, tag) in cases {
        let (aad, mut buf) = (hex(aad), text.clone());
        assert_eq!(key.seal(0, &aad, &mut buf).as_slice(), hex(tag));
        assert_eq!(buf, hex(sealed));
        buf.extend(hex(tag));
        assert_eq!(key.open(0, &aad, &mut buf), Ok(()));
        assert_eq!(&buf[..text.len()], text);
    }
}

/// Written out a second time by hand, so that the layout cannot change unseen.
#[test]
fn key_and_nonce_follow_the_written_layout() {
    for cipher in BOTH {
        let info = [b"sinew/record/v1\0".as_slice(), &[cipher as u8], &HASH].concat();
        let first = hmac_sha256(&SPLIT, &[&info, &[1]]);
        let second = hmac_sha256(&SPLIT, &[&first, &info, &[2]]);
        let nonce64 = 0x0102_0304_0506_0708_u64;
        let mut nonce: [u8; 12] = second[..12].try_into().unwrap();
        for (byte, number) in nonce[4..].iter_mut().zip(1..) {
            *byte ^= number;
        }
        let mut expected = *b"record";
        let tag = context(cipher, &first)
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(b"head".as_slice()),
                &mut expected,
            )
            .unwrap();

        let mut sealed = *b"record";
        let own_tag = RecordKey::derive(&SPLIT, cipher, &HASH).seal(nonce64, b"head", &mut sealed);
        assert_eq!((sealed, own_tag.as_slice()), (expected, tag.as_ref()));
    }
}

#[test]
fn keys_differ_by_split_key_cipher_and_handshake() {
    let (a, b) = ([1; 32], [2; 32]);
    let mut outputs = Vec::new();
    for split in [a, b] {
        for hash in [a, b] {
            for cipher in BOTH {
                let mut material = [0; KEY_LEN + NONCE_LEN];
                hkdf_expand(&split, &[RECORD_TAG, &[cipher.code()], &hash], &mut material);
                outputs.push((material[..KEY_LEN].to_vec(), material[KEY_LEN..].to_vec()));
                // What one key seals no other opens.
                let mut record = [0x55; 40];
                let (text, tag) = record.split_at_mut(24);
                tag.copy_from_slice(&RecordKey::derive(&split, cipher, &hash).seal(3, b"", text));
                for other in [a, b] {
                    let mut copy = record;
                    let opened = RecordKey::derive(&other, cipher, &hash).open(3, b"", &mut copy);
                    assert_eq!(opened.is_ok(), other == split);
                }
            }
        }
    }
    for (i, (key, iv)) in outputs.iter().enumerate() {
        for (other_key, other_iv) in &outputs[i + 1..] {
            assert!(key != other_key && iv != other_iv);
        }
    }
}

#[test]
fn any_change_of_text_tag_header_or_nonce_is_refused() {
    for cipher in BOTH {
        let key = RecordKey::derive(&SPLIT, cipher, &HASH);
        let mut sealed = b"twenty bytes of text".to_vec();
        let tag = key.seal(5, b"header", &mut sealed);
        sealed.extend(tag);
        let open = |nonce, aad: &[u8], record: &[u8]| key.open(nonce, aad, &mut record.to_vec());
        assert_eq!(open(5, b"header", &sealed), Ok(()));
        assert_eq!(open(6, b"header", &sealed), Err(Forged));
        assert_eq!(open(5 | 1 << 56, b"header", &sealed), Err(Forged), "the lane is part of the nonce");
        assert_eq!(open(5, b"Header", &sealed), Err(Forged));
        assert_eq!(open(5, b"", &sealed), Err(Forged));
        assert_eq!(open(5, b"header", &sealed[1..]), Err(Forged));
        for length in 0..TAG_LEN {
            assert_eq!(open(5, b"header", &sealed[..length]), Err(Forged), "{length} bytes hold no tag");
        }
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(5, b"header", &flipped), Err(Forged), "bit {bit}");
        }
    }
}

#[test]
fn a_refused_record_shows_no_plaintext() {
    for cipher in BOTH {
        let key = RecordKey::derive(&SPLIT, cipher, &HASH);
        let mut buf = *b"a secret that must not be seen--";
        let mut tag = key.seal(0, b"", &mut buf);
        tag[0] ^= 1;
        assert_eq!(key.open_detached(0, b"", &mut buf, &tag), Err(Forged));
        assert_ne!(&buf, b"a secret that must not be seen--");
    }
}

#[test]
fn a_detached_tag_opens_as_an_attached_one() {
    let key = RecordKey::derive(&SPLIT, Cipher::Aes256Gcm, &HASH);
    let mut buf = *b"text";
    let tag = key.seal(1, b"aad", &mut buf);
    assert_eq!(key.open_detached(1, b"aad", &mut buf, &tag), Ok(()));
    assert_eq!(&buf, b"text");
}

#[test]
fn an_empty_record_is_only_its_tag() {
    for cipher in BOTH {
        let key = RecordKey::derive(&SPLIT, cipher, &HASH);
        let mut tag = key.seal(0, b"header", &mut []);
        assert_eq!(key.open(0, b"header", &mut tag), Ok(()));
    }
}

#[test]
fn aes_is_chosen_when_both_have_it_and_nothing_when_nothing_is_shared() {
    let aes = CipherSet(2);
    let cases = [
        (CipherSet::ALL, CipherSet::ALL, Some(Cipher::Aes256Gcm)),
        (CipherSet::ALL, CipherSet::CHACHA, Some(Cipher::ChaCha20Poly1305)),
        (CipherSet::CHACHA, CipherSet::ALL, Some(Cipher::ChaCha20Poly1305)),
        (CipherSet::ALL, aes, Some(Cipher::Aes256Gcm)),
        (aes, CipherSet::CHACHA, None),
        (CipherSet(0), CipherSet::ALL, None),
        // Bits of a later version are not ours to choose.
        (CipherSet(0xfffc), CipherSet(0xfffc), None),
        (CipherSet(0xffff), CipherSet(0xffff), Some(Cipher::Aes256Gcm)),
    ];
    for (a, b, chosen) in cases {
        assert_eq!(choose(a, b), chosen, "{a:?} with {b:?}");
        assert_eq!(choose(b, a), chosen, "both sides choose alike");
    }
}

#[test]
fn every_node_accepts_chacha_and_codes_round_trip() {
    assert!(CipherSet::local().contains(Cipher::ChaCha20Poly1305));
    for code in 0..=u8::MAX {
        let cipher = Cipher::from_code(code);
        assert_eq!(cipher.is_some(), (1..=2).contains(&code));
        assert!(cipher.is_none_or(|cipher| cipher.code() == code));
    }
}

#[test]
fn a_key_does_not_print_itself() {
    assert_eq!(
        format!("{:?}", RecordKey::derive(&SPLIT, Cipher::Aes256Gcm, &HASH)),
        "RecordKey(aes-256-gcm)"
    );
}
