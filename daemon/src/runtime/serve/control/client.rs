//! Asks a running daemon.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{Answer, Request};

/// How long an answer may take: a daemon that is busy with a million routes still answers in this
/// time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no answer, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody listens there.
    #[error(
        "no ferrolb daemon answers on {}: start one (ferrolb run --help), say where its socket \
         is (--socket PATH), or ask the one in a Pod: kubectl exec -n metallb-system \
         ds/ferrolb-announcer -- /ferrolb peers",
        path.display()
    )]
    NoDaemon {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody else's.
    #[error("{} belongs to another user: run this command as that user, or as root (sudo)", path.display())]
    Forbidden {
        /// The socket.
        path: PathBuf,
    },
    /// It broke off.
    #[error("the daemon behind {} gave no answer: {error}; its log may say why", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// Of another version, probably.
    #[error(
        "the daemon behind {} answers in another way than this ferrolb expects ({error}): if \
         they are not of one version, use the program that the daemon runs, such as /ferrolb in \
         its container",
        path.display()
    )]
    Unreadable {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// The daemon says no, and what to do.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a daemon.
#[derive(Debug)]
pub(crate) struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// No daemon, or none of ours.
    pub(crate) fn connect(path: &Path) -> Result<Self, AskError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => AskError::Forbidden {
                path: path.to_owned(),
            },
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NoDaemon {
                path: path.to_owned(),
            },
            _ => broken(path, error),
        })?;
        let patience = Some(PATIENCE);
        stream
            .set_read_timeout(patience)
            .and_then(|()| stream.set_write_timeout(patience))
            .map_err(|error| broken(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            stream: BufReader::new(stream),
        })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The daemon refuses, is gone, or is another version.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, AskError> {
        self.send(request)?;
        self.receive()
    }

    /// Asks what has many answers.
    ///
    /// # Errors
    /// The daemon is gone.
    pub(crate) fn send(&mut self, request: &Request) -> Result<(), AskError> {
        let sent = serde_json::to_string(request)
            .map_err(io::Error::from)
            .and_then(|question| writeln!(self.stream.get_mut(), "{question}"));
        sent.map_err(|error| broken(&self.path, error))
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// The daemon refuses, is gone, or is another version.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> Result<T, AskError> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(_) if line.ends_with('\n') => {}
            // Nothing, or half an answer.
            Ok(_) => return Err(broken(&self.path, io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(broken(&self.path, error)),
        }
        match serde_json::from_str(&line) {
            Ok(Answer::Ok(answer)) => Ok(answer),
            Ok(Answer::Error(message)) => Err(AskError::Refused(message)),
            Err(error) => Err(AskError::Unreadable {
                path: self.path.clone(),
                error,
            }),
        }
    }
}

fn broken(path: &Path, error: io::Error) -> AskError {
    AskError::Broken {
        path: path.to_owned(),
        error,
    }
}
