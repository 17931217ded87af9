//! The unsolicited frames that this node sends.

use std::net::IpAddr;

use super::schedule::Form;
use crate::mac::Mac;
use crate::wire::arp::Arp;
use crate::wire::ndp::Ndp;

/// States that an address is at an Ethernet address.
pub(super) fn announcement(mac: Mac, address: IpAddr, form: Form) -> Vec<u8> {
    match (address, form) {
        (IpAddr::V4(address), Form::Request) => {
            Arp::gratuitous_request(mac, address).frame(mac, Mac::BROADCAST)
        }
        (IpAddr::V4(address), Form::Reply) => {
            Arp::gratuitous_reply(mac, address).frame(mac, Mac::BROADCAST)
        }
        (IpAddr::V6(address), _) => Ndp::unsolicited(mac, address).frame(mac),
    }
}

/// Asks which host has an address.
pub(super) fn probe(mac: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => Arp::probe(mac, address).frame(mac, Mac::BROADCAST),
        IpAddr::V6(address) => Ndp::probe(address).frame(mac),
    }
}
