use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn sha256_gives_the_published_digests() {
    // FIPS 180-2, appendix B.
    let cases: [(&[&[u8]], &str); 3] = [
        (&[b"abc"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (&[b"a", b"", b"bc"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (&[], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ];
    for (parts, digest) in cases {
        assert_eq!(sha256(parts).as_slice(), hex(digest));
    }
}

#[test]
#[allow(clippy::type_complexity)]
fn hmac_sha256_gives_the_published_macs() {
    // RFC 4231, test cases 1, 2 and 6 (a key longer than a block).
    let cases: [(&[u8], &[&[u8]], &str); 3] = [
        (&[0x0b; 20], &[b"Hi There"], "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe",
            &[b"what do ya want ", b"for nothing?"],
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            &[0xaa; 131],
            &[b"Test Using Larger Than Block-Size Key - Hash Key First"],
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ];
    for (key, parts, mac) in cases {
        assert_eq!(hmac_sha256(key, parts).as_slice(), hex(mac));
    }
}

#[test]
fn hkdf_expand_gives_the_published_output() {
    // RFC 5869, test cases 1 (two blocks) and 2 (three).
    let info = hex("f0f1f2f3f4f5f6f7f8f9");
    let long_info: Vec<u8> = (0xb0..=0xff).collect();
    let cases = [
        (
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            info,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            long_info,
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e\
             09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
    ];
    for (prk, info, okm) in cases {
        let okm = hex(okm);
        let mut out = vec![0; okm.len()];
        hkdf_expand(hex(prk).as_slice().try_into().unwrap(), &[&info[..3], &info[3..]], &mut out);
        assert_eq!(out, okm);
    }
}

#[test]
fn only_equal_strings_compare_equal() {
    assert!(equal(b"", b""));
    assert!(equal(b"same", b"same"));
    assert!(!equal(b"same", b"sane"));
    assert!(!equal(b"same", b"same "));
}
