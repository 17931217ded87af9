//! MetalLB's file of interfaces that layer 2 must not use, read once at the start.

use crate::core::config::excluded_interfaces::ExcludedInterfaces;

/// MetalLB's ConfigMap `metallb-excludel2`, where MetalLB's speakers have it.
const FILE: &str = "/etc/metallb/excludel2.yaml";

/// The interfaces that layer 2 must not use. An unreadable file is no reason not to announce.
pub(crate) fn read() -> ExcludedInterfaces {
    let text = match std::fs::read_to_string(FILE) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return ExcludedInterfaces::default();
        }
        Err(error) => {
            tracing::error!(
                "can't read {FILE}, using MetalLB's default list: {error}; make the file readable \
                 and restart ferrolb"
            );
            return ExcludedInterfaces::default();
        }
    };
    let parsed = ExcludedInterfaces::parse(FILE, &text);
    parsed.unwrap_or_else(|error| {
        tracing::error!("{error}; using MetalLB's default until ferrolb is restarted");
        ExcludedInterfaces::default()
    })
}
