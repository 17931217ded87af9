//! BFD packets in public captures.

use ferrolb_bgp::bfd::{PACKET_LENGTH, Packet};

use super::corpus;

/// The UDP datagrams to a BFD port in a capture, found by the IPv4 or IPv6 header after the link
/// layer of each record.
fn datagrams(capture: &[u8]) -> Vec<&[u8]> {
    let word = |at: usize, octets: &[u8]| -> Option<usize> {
        let octets: [u8; 4] = *octets.get(at..)?.first_chunk()?;
        let little = capture.starts_with(&[0xd4, 0xc3, 0xb2, 0xa1]);
        let value = if little {
            u32::from_le_bytes(octets)
        } else {
            u32::from_be_bytes(octets)
        };
        usize::try_from(value).ok()
    };
    let mut found = Vec::new();
    let mut rest = capture.get(24..).unwrap_or_default();
    while let Some(length) = word(8, rest) {
        let Some(frame) = rest.get(16..16 + length) else {
            break;
        };
        let port = |at: usize| frame.get(at..at + 2);
        for udp in [14 + 20, 14 + 40, 18 + 20, 18 + 40] {
            if [&[0x0e, 0xc8][..], &[0x12, 0xb0]]
                .iter()
                .any(|p| port(udp + 2) == Some(*p))
            {
                found.extend(frame.get(udp + 8..));
                break;
            }
        }
        rest = &rest[16 + length..];
    }
    found
}

/// All BFD captures: name without extension, and content.
fn captures() -> Vec<(String, Vec<u8>)> {
    corpus("pcap")
        .into_iter()
        .map(|path| (path.file_stem().unwrap().display().to_string(), path))
        .filter(|(name, _)| name.contains("bfd") && !name.contains("bgp"))
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn packets_in_public_captures_decode_to_what_was_encoded() {
    // The number of packets without and with authentication.
    let expected = [
        ("bfd-multihop", (40, 0)),
        ("bfd-raw-auth-md5", (0, 31)),
        ("bfd-raw-auth-sha1", (0, 25)),
        ("bfd-raw-auth-simple", (0, 15)),
        ("bfd_source_port_49152", (1, 0)),
    ];
    let captures = captures();
    for (name, expected) in expected {
        let capture = captures.iter().find(|(found, _)| found == name);
        let (_, capture) = capture.unwrap_or_else(|| panic!("{name} is missing"));
        let (mut plain, mut authenticated) = (0, 0);
        for octets in datagrams(capture) {
            let packet = Packet::decode(octets).unwrap_or_else(|e| panic!("{name}: {e}"));
            if packet.authentication.is_some() {
                authenticated += 1;
            } else {
                plain += 1;
                assert_eq!(packet.encode(), octets[..PACKET_LENGTH], "{name}");
            }
        }
        assert_eq!((plain, authenticated), expected, "{name}");
    }
}

#[test]
fn the_decoder_does_not_panic_at_any_offset_of_a_capture() {
    let (mut good, mut bad) = (0, 0);
    for (_, capture) in captures() {
        for at in 0..capture.len() {
            match Packet::decode(&capture[at..]) {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
        }
    }
    assert!(good > 112 && bad > good, "{good}, {bad}");
}
