//! What is wrong with an object: all of it at once.

/// Errors reported of one object at most. More than that is another kind of file.
pub(super) const MAX_ERRORS: usize = 20;

/// A field that can't be read, and more of the same object if there are more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}{}", more.iter().map(|error| format!("; {error}")).collect::<String>())]
pub struct FieldError {
    /// `spec.peerPort`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Further errors of the same object, none of which has more.
    pub more: Vec<FieldError>,
}

impl FieldError {
    /// An error at a path.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            more: Vec::new(),
        }
    }
}

/// Collects the errors of one object, so that all are reported and not only the first.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// Adds an error.
    pub fn add(&mut self, mut error: FieldError) {
        let more = std::mem::take(&mut error.more);
        self.0.push(error);
        self.0.extend(more);
        self.0.truncate(MAX_ERRORS);
    }

    /// Whether there is no error.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value; none if there is an error instead, which is added.
    pub fn note<T>(&mut self, result: Result<T, FieldError>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    /// The value that was made of all parts.
    ///
    /// # Errors
    /// What was added, as one error. `value` is none only if there was an error.
    pub fn or<T>(self, value: Option<T>) -> Result<T, FieldError> {
        let error = self.0.into_iter().reduce(|mut first, next| {
            first.more.push(next);
            first
        });
        match (error, value) {
            (None, Some(value)) => Ok(value),
            (Some(error), _) => Err(error),
            (None, None) => Err(FieldError::new("spec", "is not valid")),
        }
    }
}
