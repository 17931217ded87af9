//! What a frame of another host says and asks.

use std::net::IpAddr;

use crate::mac::Mac;
use crate::wire::arp::{Arp, Operation};
use crate::wire::ethernet::{ETHER_TYPE_ARP, ETHER_TYPE_IPV6, Header};
use crate::wire::ndp::Ndp;

/// An ARP or NDP frame.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) source: Mac,
    pub(super) destination: Mac,
    message: Message,
}

#[derive(Debug)]
enum Message {
    Arp(Arp),
    Ndp(Ndp),
}

impl Received {
    pub(super) fn decode(frame: &[u8]) -> Option<Self> {
        let (header, payload) = Header::decode(frame)?;
        let message = match header.ether_type {
            ETHER_TYPE_ARP => Message::Arp(Arp::decode(payload)?),
            ETHER_TYPE_IPV6 => Message::Ndp(Ndp::decode(payload)?),
            _ => return None,
        };
        Some(Self {
            source: header.source,
            destination: header.destination,
            message,
        })
    }

    /// Whether a host with an Ethernet address is to read it. Others see it if their interface is
    /// promiscuous, or if a switch floods it.
    pub(super) fn is_for(&self, mac: Mac) -> bool {
        self.destination == mac
            || match self.message {
                Message::Arp(_) => self.destination == Mac::BROADCAST,
                Message::Ndp(_) => self.destination.is_multicast(),
            }
    }

    /// The address that its sender states to have, with the Ethernet address to which that makes
    /// other hosts send.
    pub(super) fn states(&self) -> Option<(IpAddr, Mac)> {
        let (address, mac) = self.sender();
        (!address.is_unspecified() && !address.is_multicast()).then_some((address, mac))
    }

    fn sender(&self) -> (IpAddr, Mac) {
        match &self.message {
            Message::Arp(arp) => (arp.sender.into(), arp.sender_mac),
            Message::Ndp(Ndp::Solicitation {
                source, source_mac, ..
            }) => (IpAddr::V6(*source), source_mac.unwrap_or(self.source)),
            Message::Ndp(Ndp::Advertisement {
                target, target_mac, ..
            }) => (IpAddr::V6(*target), target_mac.unwrap_or(self.source)),
        }
    }

    /// The address that its sender asks for, if that is not its own.
    pub(super) fn asks(&self) -> Option<IpAddr> {
        match &self.message {
            Message::Arp(arp) => (arp.operation == Operation::Request && arp.sender != arp.target)
                .then_some(arp.target.into()),
            Message::Ndp(Ndp::Solicitation { target, .. }) => Some(IpAddr::V6(*target)),
            Message::Ndp(Ndp::Advertisement { .. }) => None,
        }
    }

    /// Whether its sender asks for an address because it would like to use it (RFC 5227 §1.1,
    /// RFC 4862 §5.4.2).
    pub(super) fn is_probe(&self) -> bool {
        self.asks().is_some() && self.sender().0.is_unspecified()
    }

    /// The answer to what it asks.
    pub(super) fn answer(&self, mac: Mac) -> Option<Vec<u8>> {
        match &self.message {
            Message::Arp(request) => {
                let reply = Arp::reply_to(request, mac);
                Some(reply.frame(mac, self.source))
            }
            Message::Ndp(solicitation) => Ndp::answer(solicitation, self.source, mac),
        }
    }
}
