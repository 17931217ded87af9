//! The rack in containers: a Docker daemon for the lab ([`Docker`]) and the containers of
//! `containers/compose.yaml` ([`ComposeRack`]), started with `docker compose`, with
//! `docker-compose`, or with plain `docker` commands if both are missing.

mod compose;
mod daemon;

pub use compose::ComposeRack;
pub use daemon::Docker;
