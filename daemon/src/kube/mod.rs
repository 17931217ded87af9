//! The Kubernetes API as a source. All kube imports live here.
