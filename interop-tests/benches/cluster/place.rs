//! Threads of this process that live in a namespace of the lab, so that one clock reads everything.

use std::fs::File;
use std::os::fd::AsFd;
use std::thread;

use anyhow::{Context, Result, anyhow};
use ferrolb_interop_tests::netns::Namespace;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace that threads can enter. Sockets stay where they were made.
#[derive(Debug)]
pub(crate) struct Place {
    namespace: File,
}

impl Place {
    pub(crate) fn of(namespace: &Namespace) -> Result<Self> {
        let path = format!("/run/netns/{}", namespace.name());
        let namespace = File::open(&path).with_context(|| format!("open {path}"))?;
        Ok(Self { namespace })
    }

    /// Does something on a thread in there, and waits for it.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread
                .join()
                .map_err(|_| anyhow!("a thread in the namespace panicked"))?
        })
    }

    /// Moves the calling thread there, for good.
    pub(crate) fn enter(&self) -> Result<()> {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(self.namespace.as_fd(), kind).context("enter the namespace")
    }

    pub(crate) fn again(&self) -> Result<Self> {
        let namespace = self.namespace.try_clone()?;
        Ok(Self { namespace })
    }
}
