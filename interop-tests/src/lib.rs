//! The lab: hosts in network namespaces, real routers, a real Kubernetes control plane.
