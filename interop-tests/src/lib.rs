#![doc = include_str!("../README.md")]

pub mod announce_example;
pub mod bounce;
pub mod browser;
pub mod containers;
pub mod daemon;
pub mod eventually;
pub mod example;
pub mod kube;
pub mod lan;
pub mod manifest;
pub mod metrics;
pub mod netns;
pub mod process;
pub mod router;
pub mod scenario;
pub mod topology;
