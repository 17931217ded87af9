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

    /// The value; none if there is an error instead, which is added.
    pub(crate) fn record<T>(&mut self, result: Result<T, FieldError>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    /// The value that was made of all parts.
    ///
    /// # Errors
    /// What was added, as one error. `value` is none only if there was an error.
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

/// A value as far as it can be read: a field of a wrong type is absent, and is in the error.
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

    /// The value that was read without an error.
    pub fn complete(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.error.is_none())
    }

    /// Two values that are checked together.
    pub fn zip<U>(self, other: Partial<U>) -> Partial<(T, U)> {
        let mut errors = Errors::default();
        let both = [self.error, other.error];
        both.into_iter()
            .flatten()
            .for_each(|error| errors.add(error));
        let error = errors.into_result(Some(())).err();
        Partial::new(self.value.zip(other.value), error)
    }

    /// The value made into another one.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Partial<U> {
        Partial::new(self.value.map(make), self.error)
    }

    /// The value, if all of it can be read.
    ///
    /// # Errors
    /// Every field of a wrong type.
    pub fn into_result(self) -> Result<T, FieldError> {
        self.check(Ok)
    }

    /// Checks the value. `check` also runs where fields are absent because they have a wrong type,
    /// so it must have no effect on anything else. A message that depends on another field must
    /// name that field.
    ///
    /// # Errors
    /// Every field of a wrong type, and what `check` finds that none of these can have caused.
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

/// Whether an error can have its cause in the absence of the field at `path`: it is about the same
/// place, or its message names the field or one that contains it.
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

/// The fields on a path below the root, without positions in lists and keys of maps: labels are the
/// only maps in which a value can have a wrong type.
fn field_names(path: &str) -> impl Iterator<Item = &str> {
    let path = path
        .split_once(".matchLabels")
        .map_or(path, |(outer, _)| outer);
    let names = path.split(['.', '[']).skip(1);
    names.filter(|name| !name.ends_with(']'))
}
