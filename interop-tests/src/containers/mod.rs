//! The rack in containers: a Docker daemon of the lab's own, and `containers/compose.yaml` brought
//! up in it, by `docker compose` where that is installed and by plain `docker` commands where not.

mod compose;
mod daemon;

pub use compose::Rack;
pub use daemon::Docker;
