//! Errors in the fields of an object, collected so that one report names all of them.

/// Maximum number of errors that are reported for one object. A file with more is of another type.
pub(super) const MAX_ERRORS: usize = 20;

/// Why an object is refused, for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// A field has a value that can't be used.
    #[default]
    Invalid,
    /// Another object has the name.
    NameInUse,
    /// Another pool has some of the addresses.
    Overlap,
}

impl Cause {
    /// The reason in conditions and Events.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::NameInUse => "NameInUse",
            Self::Overlap => "Overlap",
        }
    }
}

/// An invalid field, with further errors of the same object if there are any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}{}", more.iter().map(|error| format!("; {error}")).collect::<String>())]
pub struct FieldError {
    /// The path of the field, such as `spec.peerPort`.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub message: String,
    /// The kind of error, for programs.
    pub cause: Cause,
    /// Further errors of the same object. Their own `more` is empty.
    pub more: Vec<FieldError>,
}

impl FieldError {
    /// An error at a path.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            cause: Cause::Invalid,
            more: Vec::new(),
        }
    }

    /// The error with another cause.
    #[must_use]
    pub(crate) fn because(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }
}

/// Collects the errors of one object, so that all of them are reported and not only the first.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<FieldError>);

impl Errors {
    /// Adds an error.
    pub(crate) fn add(&mut self, mut error: FieldError) {
        let more = std::mem::take(&mut error.more);
        self.0.push(error);
        self.0.extend(more);
        self.0.truncate(MAX_ERRORS);
    }

    /// Whether there is no error.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value, or adds the error and returns none.
    pub(crate) fn record<T>(&mut self, result: Result<T, FieldError>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    /// Returns the value that was built from all parts.
    ///
    /// # Errors
    /// All added errors, as one. `value` is none only if there was an error.
    pub(crate) fn into_result<T>(self, value: Option<T>) -> Result<T, FieldError> {
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

/// A value that may be incomplete: a field of a wrong type is absent, and `error` reports it.
#[derive(Debug)]
pub struct Partial<T> {
    /// None only if there is an error.
    value: Option<T>,
    error: Option<FieldError>,
}

impl<T> Partial<T> {
    pub(super) const fn new(value: Option<T>, error: Option<FieldError>) -> Self {
        Self { value, error }
    }

    /// The value, if it was read without an error.
    pub fn complete(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.error.is_none())
    }

    /// Joins two values that are checked together.
    pub fn zip<U>(self, other: Partial<U>) -> Partial<(T, U)> {
        let mut errors = Errors::default();
        let both = [self.error, other.error];
        both.into_iter()
            .flatten()
            .for_each(|error| errors.add(error));
        let error = errors.into_result(Some(())).err();
        Partial::new(self.value.zip(other.value), error)
    }

    /// Converts the value.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Partial<U> {
        Partial::new(self.value.map(make), self.error)
    }

    /// The value, if every field could be read.
    ///
    /// # Errors
    /// Every field of a wrong type.
    pub fn into_result(self) -> Result<T, FieldError> {
        self.check(Ok)
    }

    /// Checks the value. `check` also runs on a value that lacks the fields of a wrong type, so it
    /// must have no side effects. A message that depends on another field must name that field.
    ///
    /// # Errors
    /// Every field of a wrong type, and those errors of `check` that these fields can't have
    /// caused.
    pub fn check<U>(self, check: impl FnOnce(T) -> Result<U, FieldError>) -> Result<U, FieldError> {
        let checked = self.value.map(check);
        let Some(mut found) = self.error else {
            return checked.unwrap_or_else(|| Errors::default().into_result(None));
        };
        let wrong = std::mem::take(&mut found.more);
        let mut errors = Errors(std::iter::once(found).chain(wrong).collect());
        let reported: Vec<String> = errors.0.iter().map(|error| error.path.clone()).collect();
        if let Some(Err(mut first)) = checked {
            let more = std::mem::take(&mut first.more);
            std::iter::once(first)
                .chain(more)
                .filter(|error| !reported.iter().any(|path| may_be_due_to(error, path)))
                .for_each(|error| errors.add(error));
        }
        errors.into_result(None)
    }
}

/// Whether the absence of the field at `path` may have caused the error: it is about the same
/// place, or its message names the field or one that contains it. So a message must name the
/// fields that it depends on, and no word of it may be the name of another one.
fn may_be_due_to(error: &FieldError, path: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let names = |name| {
        let mut words = error.message.split(|c: char| !c.is_alphanumeric());
        words.any(|word| word == name)
    };
    within(&error.path, path) || within(path, &error.path) || field_names(path).any(names)
}

/// The fields on a path below the root, without list positions and map keys. Labels are the only
/// maps whose values can have a wrong type.
fn field_names(path: &str) -> impl Iterator<Item = &str> {
    let path = path
        .split_once(".matchLabels")
        .map_or(path, |(outer, _)| outer);
    let names = path.split(['.', '[']).skip(1);
    names.filter(|name| !name.ends_with(']'))
}
