//! The Address Resolution Protocol (RFC 826) for IPv4 on Ethernet.

use std::net::Ipv4Addr;

use super::ethernet::{ETHER_TYPE_ARP, ETHER_TYPE_IPV4, Header};
use super::reader::Reader;
use crate::mac::Mac;

/// Hardware type Ethernet.
const HARDWARE_ETHERNET: u16 = 1;

/// The operation of an ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Asks for the Ethernet address of the target.
    Request,
    /// States the Ethernet address of the sender.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// Ethernet address of the sender.
    pub sender_mac: Mac,
    /// Address of the sender, 0.0.0.0 in a probe.
    pub sender: Ipv4Addr,
    /// Ethernet address of the target; meaningless in a request.
    pub target_mac: Mac,
    /// Address of the target.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Decodes the payload of a frame. None for other hardware or protocols, other operations, and
    /// too few octets.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let hardware = reader.u16()?;
        let protocol = reader.u16()?;
        let lengths = reader.array::<2>()?;
        if (hardware, protocol, lengths) != (HARDWARE_ETHERNET, ETHER_TYPE_IPV4, [6, 4]) {
            return None;
        }
        let operation = match reader.u16()? {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return None,
        };
        Some(Self {
            operation,
            sender_mac: reader.mac()?,
            sender: reader.ipv4()?,
            target_mac: reader.mac()?,
            target: reader.ipv4()?,
        })
    }

    /// The Ethernet frame.
    pub fn frame(&self, source: Mac, destination: Mac) -> Vec<u8> {
        let operation: u16 = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        let mut payload = Vec::with_capacity(28);
        payload.extend_from_slice(&HARDWARE_ETHERNET.to_be_bytes());
        payload.extend_from_slice(&ETHER_TYPE_IPV4.to_be_bytes());
        payload.extend_from_slice(&[6, 4]);
        payload.extend_from_slice(&operation.to_be_bytes());
        payload.extend_from_slice(&self.sender_mac.0);
        payload.extend_from_slice(&self.sender.octets());
        payload.extend_from_slice(&self.target_mac.0);
        payload.extend_from_slice(&self.target.octets());
        let header = Header {
            destination,
            source,
            ether_type: ETHER_TYPE_ARP,
        };
        header.frame(&payload)
    }

    /// The reply to a request for an address of ours.
    pub const fn reply_to(request: &Self, mac: Mac) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: request.target,
            target_mac: request.sender_mac,
            target: request.sender,
        }
    }

    /// An ARP announcement (RFC 5227 §3): a request by the address for itself. Linux updates an
    /// existing entry at once, also within its locktime of one second.
    pub const fn gratuitous_request(mac: Mac, address: Ipv4Addr) -> Self {
        Self {
            operation: Operation::Request,
            sender_mac: mac,
            sender: address,
            target_mac: Mac::ZERO,
            target: address,
        }
    }

    /// A reply without a request. Its target is the sender, since Linux accepts only that form
    /// within its locktime.
    pub const fn gratuitous_reply(mac: Mac, address: Ipv4Addr) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: address,
            target_mac: mac,
            target: address,
        }
    }

    /// An ARP probe (RFC 5227 §1.1): it changes no cache.
    pub const fn probe(mac: Mac, address: Ipv4Addr) -> Self {
        Self {
            operation: Operation::Request,
            sender_mac: mac,
            sender: Ipv4Addr::UNSPECIFIED,
            target_mac: Mac::ZERO,
            target: address,
        }
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol};

    use super::*;

    const MAC: Mac = Mac([2, 0, 0x5e, 0, 0x53, 1]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

    /// The packet of a frame as smoltcp reads it.
    fn smoltcp(frame: &[u8]) -> ArpRepr {
        let frame = EthernetFrame::new_checked(frame).unwrap();
        assert_eq!(frame.ethertype(), EthernetProtocol::Arp);
        ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).unwrap()).unwrap()
    }

    #[test]
    fn a_request_has_the_octets_of_rfc826() {
        let frame = Arp::probe(MAC, ADDRESS).frame(MAC, Mac::BROADCAST);
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0x5e, 0, 0x53, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0,
            1, 2, 0, 0x5e, 0, 0x53, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 10,
        ];
        assert_eq!(&frame[..42], expected);
        assert_eq!(frame.len(), 60, "padded to the minimum of Ethernet");
    }

    #[test]
    fn smoltcp_reads_the_forms_that_we_send() {
        let request = Arp {
            operation: Operation::Request,
            sender_mac: Mac([2, 0, 0, 0, 0, 9]),
            sender: Ipv4Addr::new(192, 0, 2, 1),
            target_mac: Mac::ZERO,
            target: ADDRESS,
        };
        let forms = [
            Arp::reply_to(&request, MAC),
            Arp::gratuitous_request(MAC, ADDRESS),
            Arp::gratuitous_reply(MAC, ADDRESS),
            Arp::probe(MAC, ADDRESS),
        ];
        for form in forms {
            let frame = form.frame(MAC, request.sender_mac);
            let ArpRepr::EthernetIpv4 {
                operation,
                source_hardware_addr,
                source_protocol_addr,
                target_hardware_addr,
                target_protocol_addr,
            } = smoltcp(&frame)
            else {
                panic!("not Ethernet and IPv4");
            };
            let is_request = operation == ArpOperation::Request;
            assert_eq!(is_request, form.operation == Operation::Request);
            assert_eq!(source_hardware_addr.0, form.sender_mac.0);
            assert_eq!(source_protocol_addr, form.sender);
            assert_eq!(target_hardware_addr.0, form.target_mac.0);
            assert_eq!(target_protocol_addr, form.target);
            let (header, payload) = Header::decode(&frame).unwrap();
            assert_eq!(header.destination, request.sender_mac);
            assert_eq!(Arp::decode(payload), Some(form));
        }
    }

    #[test]
    fn truncated_and_foreign_packets_are_no_arp() {
        let frame = Arp::probe(MAC, ADDRESS).frame(MAC, Mac::BROADCAST);
        for length in 0..28 {
            assert_eq!(
                Arp::decode(&frame[14..14 + length]),
                None,
                "{length} octets"
            );
        }
        for (position, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3)] {
            let mut payload = frame[14..42].to_vec();
            payload[position] = value;
            assert_eq!(Arp::decode(&payload), None, "octet {position} is {value}");
        }
    }
}
