//! What a supervisor wants to be told: that the service is ready, and that it is about to stop.
//!
//! The protocol is that of `sd_notify(3)`: a line in a datagram, to the socket that `NOTIFY_SOCKET` names. Where nobody listens, nothing
//! is told; a supervisor that cannot be told decides what that means.

#[cfg(unix)]
use std::os::unix::net::UnixDatagram;

/// Tells the supervisor, if there is one.
#[cfg(unix)]
pub(crate) fn tell(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, state, "the supervisor cannot be told");
    }
}

#[cfg(unix)]
fn send(socket: &std::ffi::OsStr, state: &str) -> std::io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt as _;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return sender.send_to_addr(state.as_bytes(), &address).map(drop);
    }
    sender.send_to(state.as_bytes(), socket).map(drop)
}

/// There is no such supervisor here.
#[cfg(windows)]
pub(crate) fn tell(_: &str) {}
