//! The rack in containers: a Docker daemon of the lab's own, and `containers/compose.yaml` brought
//! up in it, by `docker compose` or `docker-compose`, and by plain `docker` commands where neither is.

mod compose;
mod daemon;

pub use compose::Rack;
pub use daemon::Docker;
