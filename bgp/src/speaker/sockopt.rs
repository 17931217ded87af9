//! The socket option that no safe interface has: TCP MD5 (RFC 2385).
//!
//! One of the two files of the workspace with `unsafe` in them.
#![allow(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockAddr;

use crate::config::{PASSWORD_MAX, Secret};

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

/// Demands (or, without a password, no longer demands) that segments from and to `remote` carry
/// the MD5 signature made with the password.
///
/// The socket is of the family of `remote`, or an IPv6 socket that takes IPv6 only.
///
/// # Errors
/// Whatever the kernel says; the caller must not go on without the key.
pub(super) fn set_md5_key(
    socket: &impl AsFd,
    remote: IpAddr,
    password: Option<&Secret>,
) -> io::Result<()> {
    let key = password.map_or(&[][..], Secret::expose);
    if key.len() > PASSWORD_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the password is longer than TCP MD5's 80 octets",
        ));
    }
    let mut option = TcpMd5Sig {
        address: storage(remote),
        flags: 0,
        prefix_length: 0,
        // At most 80, as checked above.
        key_length: u16::try_from(key.len()).unwrap_or(0),
        interface: 0,
        key: [0; PASSWORD_MAX],
    };
    option.key[..key.len()].copy_from_slice(key);
    let length = libc::socklen_t::try_from(size_of::<TcpMd5Sig>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed for the call, and the pointer and length are those of a
    // live, initialised struct laid out as the kernel expects it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MD5SIG,
            (&raw const option).cast(),
            length,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // Taking away a key that isn't there is what was wanted.
    if password.is_none() && error.raw_os_error() == Some(libc::ENOENT) {
        return Ok(());
    }
    Err(error)
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
