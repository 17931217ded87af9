//! System calls without a safe interface: the socket options for TCP MD5 (RFC 2385), minimum TTL
//! (RFC 5082) and datagram metadata, unacknowledged octets, interface indexes and addresses, and
//! the scheduling of the BFD thread.
//!
//! The only file of the workspace that contains `unsafe`.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;
use socket2::SockAddr;

use crate::config::Secret;
use crate::config::limits::PASSWORD_MAX;

/// `TCP_MD5SIG_FLAG_PREFIX` of `<linux/tcp.h>`: the key applies to a network.
const MD5_FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of `<linux/tcp.h>`.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: libc::c_int,
    key: [u8; PASSWORD_MAX],
}

/// Sets or, without a password, removes the TCP MD5 key for segments from and to `remote`. An
/// existing key is replaced, also on a connection. The kernel uses the key of the longest matching
/// prefix.
///
/// The socket has the address family of `remote`; an IPv6 socket must be IPv6-only.
///
/// # Errors
/// The error of the kernel. The caller must not continue without the key.
pub(super) fn set_md5_key(
    socket: &impl AsFd,
    remote: IpNet,
    password: Option<&Secret>,
) -> io::Result<()> {
    let key = password.map_or(&[][..], Secret::expose);
    if key.len() > PASSWORD_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the password exceeds the maximum of 80 octets of TCP MD5",
        ));
    }
    let mut option = TcpMd5Sig {
        address: storage(remote.network()),
        flags: MD5_FLAG_PREFIX,
        prefix_length: remote.prefix_len(),
        // At most 80, as checked above.
        key_length: u16::try_from(key.len()).unwrap_or(0),
        interface: 0,
        key: [0; PASSWORD_MAX],
    };
    option.key[..key.len()].copy_from_slice(key);
    let Err(error) = set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG_EXT, &option) else {
        return Ok(());
    };
    // There was no key to remove.
    if password.is_none() && error.raw_os_error() == Some(libc::ENOENT) {
        return Ok(());
    }
    Err(error)
}

/// Discards segments with a lower TTL or hop limit (`IP_MINTTL`, `IPV6_MINHOPCOUNT`); 0 accepts
/// all.
///
/// # Errors
/// The error of the kernel.
pub(super) fn set_min_ttl(socket: &impl AsFd, ipv4: bool, ttl: u8) -> io::Result<()> {
    let (level, name) = if ipv4 {
        (libc::IPPROTO_IP, libc::IP_MINTTL)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT)
    };
    set(socket, level, name, &libc::c_int::from(ttl))
}

/// Requests the destination address, interface and TTL or hop limit of each datagram.
///
/// # Errors
/// The error of the kernel.
pub(super) fn request_metadata(socket: &impl AsFd, ipv4: bool) -> io::Result<()> {
    let (level, names) = if ipv4 {
        (libc::IPPROTO_IP, [libc::IP_PKTINFO, libc::IP_RECVTTL])
    } else {
        let names = [libc::IPV6_RECVPKTINFO, libc::IPV6_RECVHOPLIMIT];
        (libc::IPPROTO_IPV6, names)
    };
    for name in names {
        set(socket, level, name, &libc::c_int::from(true))?;
    }
    Ok(())
}

/// Marks datagrams as network control traffic (CS6, RFC 4594), which is dropped last in congestion.
///
/// # Errors
/// The error of the kernel.
pub(super) fn set_dscp_cs6(socket: &impl AsFd, ipv4: bool) -> io::Result<()> {
    let (level, name) = if ipv4 {
        (libc::IPPROTO_IP, libc::IP_TOS)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
    };
    const CS6: libc::c_int = 48 << 2;
    set(socket, level, name, &CS6)
}

/// Number of octets written to a TCP socket that the peer has not acknowledged (`SIOCOUTQ`).
///
/// # Errors
/// The error of the kernel.
pub(super) fn unacknowledged(socket: &impl AsFd) -> io::Result<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed for the call, and the kernel writes one integer.
    let result = unsafe {
        let count: *mut libc::c_int = &raw mut count;
        // SIOCOUTQ has the number of TIOCOUTQ.
        libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, count)
    };
    if result == 0 {
        return Ok(count.unsigned_abs().into());
    }
    Err(io::Error::last_os_error())
}

/// Converts a buffer that was created with a value in each octet.
pub(super) fn initialised<const N: usize>(octets: [MaybeUninit<u8>; N]) -> [u8; N] {
    // SAFETY: the caller created each octet with a value, and later writes wrote values too.
    octets.map(|octet| unsafe { octet.assume_init() })
}

/// Index of an interface.
///
/// # Errors
/// `NotFound` if there is no interface of that name; other errors if the lookup itself fails, for
/// example without a free descriptor.
pub(super) fn interface_index(name: &str) -> io::Result<u32> {
    let missing = || {
        let text = format!("interface {name} does not exist on this host");
        io::Error::new(io::ErrorKind::NotFound, text)
    };
    let text = CString::new(name).map_err(|_| missing())?;
    // SAFETY: the pointer refers to a NUL-terminated string that lives during the call.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENODEV) => Err(missing()),
            error => Err(error),
        },
        index => Ok(index),
    }
}

/// The addresses of all interfaces, with the interface's name.
///
/// # Errors
/// The error of the kernel.
pub(super) fn interface_addresses() -> io::Result<Vec<(String, IpAddr)>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the pointer is writable. If the call succeeds, it is the head of a list.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = first;
    // SAFETY: the entries are valid until freeifaddrs, and the last one points to null.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        if let Some(address) = address_of(entry.ifa_addr) {
            // SAFETY: each entry has the NUL-terminated name of its interface.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) };
            addresses.push((name.to_string_lossy().into_owned(), address));
        }
    }
    // SAFETY: the list is from getifaddrs, and nothing refers to it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(addresses)
}

/// The IP address in a socket address. None for those of other families.
fn address_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: null, or a valid socket address, of the type that its family has.
    unsafe {
        match libc::c_int::from(address.as_ref()?.sa_family) {
            libc::AF_INET => {
                let address = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(IpAddr::from(address.sin_addr.s_addr.to_ne_bytes()))
            }
            libc::AF_INET6 => {
                let address = address.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(IpAddr::from(address.sin6_addr.s6_addr))
            }
            _ => None,
        }
    }
}

/// Raises the scheduling priority of this thread as far as permitted: real time with the capability
/// SYS_NICE; otherwise the shortest time slice (Linux 6.12), which is scheduled first. Without
/// either the thread keeps its priority.
pub(super) fn raise_thread_priority() {
    /// The kernel's minimum.
    const SLICE_NANOSECONDS: u64 = 100_000;
    // SAFETY: all fields are integers, for which zero is a valid value.
    let none: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = u32::try_from(size_of::<libc::sched_attr>()).unwrap_or_default();
    let first = libc::sched_attr {
        size,
        sched_policy: libc::SCHED_RR.unsigned_abs(),
        sched_flags: libc::SCHED_FLAG_RESET_ON_FORK.unsigned_abs().into(),
        sched_priority: 1,
        ..none
    };
    if set_scheduling(&first) {
        return;
    }
    let mut soon = none;
    // SAFETY: the kernel writes at most `size` octets to a live value of that size.
    let result = unsafe {
        let attributes: *mut libc::sched_attr = &raw mut soon;
        libc::syscall(libc::SYS_sched_getattr, 0, attributes, size, 0)
    };
    if result == 0 {
        soon.sched_runtime = SLICE_NANOSECONDS;
        set_scheduling(&soon);
    }
}

/// Returns whether it was permitted.
fn set_scheduling(attributes: &libc::sched_attr) -> bool {
    let attributes: *const libc::sched_attr = attributes;
    // SAFETY: the kernel reads a live value that starts with its own size; 0 is this thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, attributes, 0) == 0 }
}

fn set<T>(socket: &impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed for the call, the pointer and length are those of a live
    // value, and all callers pass the type that the kernel expects for the option.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

fn storage(remote: IpAddr) -> libc::sockaddr_storage {
    let address = SockAddr::from(std::net::SocketAddr::new(remote, 0));
    // SAFETY: all-zero octets are a valid sockaddr_storage; the copy stays inside both, since
    // SockAddr is a sockaddr_storage of which the first len() octets are in use.
    unsafe {
        let mut storage: libc::sockaddr_storage = std::mem::zeroed();
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut storage).cast::<u8>(),
            (address.len() as usize).min(size_of::<libc::sockaddr_storage>()),
        );
        storage
    }
}
