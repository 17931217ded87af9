//! Faults of the switch: frames that it doesn't forward.

use anyhow::Result;

use crate::netns::Namespace;

/// The bridge of a rack, in the router's namespace. Ports have the names of nodes and hosts.
#[derive(Debug, Clone, Copy)]
pub struct Switch<'lab>(pub &'lab Namespace);

impl Switch<'_> {
    /// Forwards no frame between these ports and those, in either direction.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn separate(self, these: &[&str], those: &[&str]) -> Result<()> {
        self.block(these, those)?;
        self.block(those, these)
    }

    /// Forwards no frame from these ports to those.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn block(self, from: &[&str], to: &[&str]) -> Result<()> {
        let set = |ports: &[&str]| {
            let quoted: Vec<String> = ports.iter().map(|port| format!("{port:?}")).collect();
            format!("{{ {} }}", quoted.join(", "))
        };
        let (from, to) = (set(from), set(to));
        self.nft(&format!(
            "table bridge faults {{ chain forward {{ type filter hook forward priority 0; \
             iifname {from} oifname {to} drop; }}; }}"
        ))
    }

    /// Forwards nothing. The router is cut off too; carriers stay up.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn black_out(self) -> Result<()> {
        self.nft(
            "table bridge faults { chain in { type filter hook prerouting priority -300; policy \
             drop; }; chain out { type filter hook output priority 0; policy drop; }; }",
        )
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn heal(self) -> Result<()> {
        // Adding the table first makes the deletion succeed without faults.
        self.nft("add table bridge faults; delete table bridge faults")
    }

    /// Takes the carrier of a port away, as a pulled cable does.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn unplug(self, port: &str) -> Result<()> {
        self.0.ip(&["link", "set", port, "down"]).map(drop)
    }

    /// Undoes [`Switch::unplug`].
    ///
    /// # Errors
    /// When there is no such port.
    pub fn plug(self, port: &str) -> Result<()> {
        self.0.ip(&["link", "set", port, "up"]).map(drop)
    }

    fn nft(self, rules: &str) -> Result<()> {
        self.0.run("nft", &[rules]).map(drop)
    }
}
