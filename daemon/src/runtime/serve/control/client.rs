//! Client of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{Answer, Request};

/// Limit for an answer, sufficient for a daemon that is busy with a million routes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a request failed, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No daemon listens on the socket.
    #[error(
        "no ferrolb daemon listens on {}: start one (ferrolb run --help), select its socket with \
         --socket PATH, or query the one in a Pod: kubectl exec -n metallb-system {example}",
        path.display()
    )]
    NoDaemon {
        /// Path of the socket.
        path: PathBuf,
        /// A Pod and a command in it.
        example: &'static str,
    },
    /// No permission for the socket.
    #[error(
        "{} belongs to another user: run this command as that user, or as root (sudo)",
        path.display()
    )]
    Forbidden {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The connection failed.
    #[error("the daemon on {} did not answer: {error}; check its log", path.display())]
    Disconnected {
        /// Path of the socket.
        path: PathBuf,
        /// The I/O error.
        error: io::Error,
    },
    /// An answer in an unknown format, probably of another version.
    #[error(
        "unexpected reply from the daemon on {} ({error}): are both the same version? Use the \
         program that the daemon runs, such as /ferrolb in its container",
        path.display()
    )]
    UnexpectedAnswer {
        /// Path of the socket.
        path: PathBuf,
        /// The JSON error.
        error: serde_json::Error,
    },
    /// The daemon rejected the request; the message names the remedy.
    #[error("{0}")]
    Rejected(String),
}

/// A connection to a daemon.
#[derive(Debug)]
pub(crate) struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the first of the sockets on which a daemon listens.
    ///
    /// # Errors
    ///
    /// No daemon listens on any of them, or no permission. [`AskError::NoDaemon`] names the first.
    pub(crate) fn connect_any(first: &Path, others: &[&Path]) -> Result<Self, AskError> {
        let absent =
            |client: &Result<Self, AskError>| matches!(client, Err(AskError::NoDaemon { .. }));
        let client = Self::connect(first);
        if !absent(&client) {
            return client;
        }
        let mut others = others.iter().map(|path| Self::connect(path));
        others.find(|other| !absent(other)).unwrap_or(client)
    }

    /// Connects to the socket.
    ///
    /// # Errors
    ///
    /// No daemon, or no permission.
    pub(crate) fn connect(path: &Path) -> Result<Self, AskError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => AskError::Forbidden {
                path: path.to_owned(),
            },
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NoDaemon {
                path: path.to_owned(),
                example: "ds/ferrolb-announcer -- /ferrolb peers",
            },
            _ => disconnected(path, error),
        })?;
        let limit = Some(ANSWER_TIMEOUT);
        stream
            .set_read_timeout(limit)
            .and_then(|()| stream.set_write_timeout(limit))
            .map_err(|error| disconnected(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    ///
    /// The request was rejected, the connection failed, or the versions differ.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, AskError> {
        self.send(request)?;
        self.receive()
    }

    /// Sends a request with any number of answers.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(crate) fn send(&mut self, request: &Request) -> Result<(), AskError> {
        let sent = serde_json::to_string(request)
            .map_err(io::Error::from)
            .and_then(|question| writeln!(self.stream.get_mut(), "{question}"));
        sent.map_err(|error| disconnected(&self.path, error))
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    ///
    /// The request was rejected, the connection failed, or the versions differ.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> Result<T, AskError> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(_) if line.ends_with('\n') => {}
            // Connection closed, perhaps within an answer.
            Ok(_) => {
                return Err(disconnected(
                    &self.path,
                    io::ErrorKind::UnexpectedEof.into(),
                ));
            }
            Err(error) => return Err(disconnected(&self.path, error)),
        }
        match serde_json::from_str(&line) {
            Ok(Answer::Ok(answer)) => Ok(answer),
            Ok(Answer::Error(message)) => Err(AskError::Rejected(message)),
            Err(error) => Err(AskError::UnexpectedAnswer {
                path: self.path.clone(),
                error,
            }),
        }
    }
}

fn disconnected(path: &Path, error: io::Error) -> AskError {
    AskError::Disconnected {
        path: path.to_owned(),
        error,
    }
}
