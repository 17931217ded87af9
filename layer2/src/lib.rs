//! Layer 2 announcements (ARP, NDP). Empty until its issue: see docs/ARCHITECTURE.md.
