//! Writes a routing table as MRT TABLE_DUMP_V2 (RFC 6396 §4.3), the input of `gobgp mrt inject`.

use std::net::Ipv4Addr;

use ipnet::IpNet;

/// How often the last prefix is repeated: `mrt inject` loses the records that are still in its
/// buffers at the end of the file.
const PADDING: usize = 4000;

/// A table with one route per IPv4 prefix.
pub(crate) fn table(prefixes: &[IpNet], next_hop: Ipv4Addr) -> Vec<u8> {
    let mut file = Vec::new();
    // Collector, no view name, one peer: IPv4, two-octet AS.
    let collector = [10, 255, 0, 1, 0, 0, 0, 1];
    let peer = [0, 10, 255, 0, 1, 10, 255, 0, 1, 0xfd, 0xe9];
    record(&mut file, 1, &[&collector[..], &peer].concat());
    // ORIGIN, an empty AS_PATH, NEXT_HOP.
    let attributes = [
        &[0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4][..],
        &next_hop.octets(),
    ]
    .concat();
    let last = prefixes.iter().rev().take(1).cycle().take(PADDING);
    for (sequence, prefix) in (0u32..).zip(prefixes.iter().chain(last)) {
        let IpNet::V4(prefix) = prefix else { continue };
        let length = usize::from(prefix.prefix_len().div_ceil(8));
        let entry = [
            &sequence.to_be_bytes()[..],
            &[prefix.prefix_len()],
            &prefix.network().octets()[..length],
            &[0, 1, 0, 0, 0, 0, 0, 0],
            &u16::try_from(attributes.len())
                .unwrap_or_default()
                .to_be_bytes(),
            &attributes,
        ];
        record(&mut file, 2, &entry.concat());
    }
    file
}

fn record(file: &mut Vec<u8>, subtype: u16, body: &[u8]) {
    file.extend([0; 4]);
    file.extend(13u16.to_be_bytes());
    file.extend(subtype.to_be_bytes());
    file.extend(u32::try_from(body.len()).unwrap_or_default().to_be_bytes());
    file.extend(body);
}
