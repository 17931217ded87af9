//! ARP frames of the simulated kernels, apart from the codec under test (RFC 826).

use std::net::Ipv4Addr;

use ferrolb_layer2::mac::Mac;

/// An ARP request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    sender_mac: Mac,
    sender: Ipv4Addr,
    pub(crate) target: Ipv4Addr,
}

fn parse(frame: &[u8]) -> Option<(u16, Mac, Ipv4Addr, Ipv4Addr)> {
    if frame.get(12..20)? != [8, 6, 0, 1, 8, 0, 6, 4] {
        return None;
    }
    let operation = u16::from_be_bytes(frame.get(20..22)?.try_into().ok()?);
    let address = |at: usize| -> Option<Ipv4Addr> {
        let octets: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
        Some(octets.into())
    };
    let mac = Mac(frame.get(22..28)?.try_into().ok()?);
    Some((operation, mac, address(28)?, address(38)?))
}

/// A request of another host for a target that it has not itself.
pub(crate) fn request(frame: &[u8]) -> Option<Request> {
    let (operation, sender_mac, sender, target) = parse(frame)?;
    (operation == 1 && sender != target).then_some(Request {
        sender_mac,
        sender,
        target,
    })
}

/// A reply or a gratuitous frame: the address and the Ethernet address that it has.
pub(crate) fn announcement(frame: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let (operation, mac, sender, target) = parse(frame)?;
    (operation == 2 || sender == target).then_some((sender, mac))
}

fn frame(to: Mac, operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(to.0);
    frame.extend(sender.0.0);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    for (mac, address) in [sender, target] {
        frame.extend(mac.0);
        frame.extend(address.octets());
    }
    frame
}

/// The answer of a kernel.
pub(crate) fn reply(request: &Request, mac: Mac) -> Vec<u8> {
    frame(
        request.sender_mac,
        2,
        (mac, request.target),
        (request.sender_mac, request.sender),
    )
}

/// The question of a client.
pub(crate) fn new_request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    frame(Mac::BROADCAST, 1, (mac, sender), (Mac::ZERO, target))
}
