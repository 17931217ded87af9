//! Messages for YAML and JSON syntax errors, written for authors of manifests. They use the kind of
//! the library's error, never its text.

use serde_json::error::Category;
use serde_saphyr::Error;
use serde_saphyr::granit_parser::ErrorKind;
use serde_saphyr::localizer::ExternalMessageSource;

/// Maximum size of an object and of a line, in octets. etcd accepts 1.5 MiB.
pub(crate) const OBJECT_MAX: usize = 8 << 20;

/// A syntax error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and how to fix it.
    pub message: String,
    /// The text as it was probably meant.
    pub correction: Option<String>,
}

const INDENTATION: &str = "the indentation fits none of the lines above: indent the fields of one \
                           object equally, with spaces, and a list below its field";
const TAB: &str = "a tab is not allowed here: write spaces instead";
const CLOSING: &str = "check that each [ and { is closed by its ] and }, and put commas between \
                       the entries, as in [a, b] and {name: web, port: 80}";
const QUOTE: &str = "a quote that is opened here or before is not closed: close it, as in name: \
                     \"web\", and write '' for a ' within '…'";
const AFTER_QUOTE: &str = "text follows a closing quote: put all of the value in quotes, as in \
                           name: \"a b\"";
const ESCAPE: &str = "an escape within \"…\" is not one of YAML: write \\\\ for a backslash, or \
                      use '…'";
const FIELD: &str = "a field needs a colon and a space behind its name: write name: value";
const COLON: &str = "a field can't begin here: indent it as the fields before it, or put a text \
                     that contains a colon in quotes, as in name: \"a: b\"";
const TEMPLATE: &str = "{{ begins a template that must be rendered first, for Helm with helm \
                        template";
const BLOCK: &str = "a block of text needs | or > alone at the end of its line, and its lines \
                     indented further by spaces";
const ALIAS: &str = "* refers to an anchor that is not defined before it: put the value in quotes \
                     if it is a text, or define the anchor with &";
const TAG: &str = "a value that begins with ! is read as a tag, and this one is not valid: put \
                   the value in quotes";
const CHARACTER: &str = "the character is not allowed here: put the value in quotes, or remove it";
const FALLBACK: &str = "check the indentation, the quotes and the brackets here and in the lines \
                        before";

/// The error of a YAML document that begins at line `start`. The message contains no part of the
/// text, which may be a password, only its line and column.
pub(crate) fn yaml(text: &str, start: usize, error: &Error) -> SyntaxError {
    let error = error.without_snippet();
    let location = error.location();
    let number = |number| usize::try_from(number).unwrap_or(1);
    let reported = location.map_or(1, |location| number(location.line()));
    let mut column = location.map_or(1, |location| number(location.column()));
    let line_at = |offset| text.lines().nth(offset).unwrap_or_default();
    let mut offset = reported.saturating_sub(1);
    let last = text.lines().count().saturating_sub(1);
    if offset > last {
        // The parser reports an error at the end of the text after its last line.
        offset = last;
        column = line_at(last).chars().count() + 1;
    }
    let line = line_at(offset);
    let cause = match cause(error, line) {
        _ if line.contains("{{") => TEMPLATE.to_owned(),
        cause => cause,
    };
    if cause == TAB {
        // The parser reports a tab after a value where the value ends.
        offset += usize::from(!line.contains('\t'));
        let tab = line_at(offset).chars().position(|c| c == '\t');
        column = tab.map_or(1, |before| before + 1);
    }
    SyntaxError {
        line: start + offset,
        message: format!("not valid YAML at column {}: {cause}", column.max(1)),
        correction: None,
    }
}

/// The error of a JSON document that begins at line `start`. An I/O error comes from
/// the reader of large lists: the object is too large.
pub(crate) fn json(start: usize, error: &serde_json::Error) -> SyntaxError {
    let message = match error.classify() {
        Category::Io => too_large(),
        Category::Eof => {
            "not valid JSON: the object is not complete: the file is truncated, write it again"
                .to_owned()
        }
        Category::Syntax | Category::Data => format!(
            "not valid JSON at column {}: expected an object as kubectl get -o json prints it; \
             check the quotes, commas and brackets here",
            error.column()
        ),
    };
    SyntaxError {
        line: start + error.line().saturating_sub(1),
        message,
        correction: None,
    }
}

/// The message for an object larger than [`OBJECT_MAX`].
pub(crate) fn too_large() -> String {
    let size = OBJECT_MAX >> 20;
    format!("an object is larger than {size} MiB, more than the API server accepts: divide it")
}

fn cause(error: &Error, line: &str) -> String {
    let fixed = match error {
        Error::ExternalMessage { source, .. } => match &**source {
            ExternalMessageSource::Parser(error) => return scanned(error.kind(), line),
            _ => FALLBACK,
        },
        Error::AliasError { error, .. } => return cause(error, line),
        Error::DuplicateMappingKey { .. } => {
            "a field is given twice in one object: remove one of them"
        }
        Error::Eof { .. } => "the object is not complete: the file is truncated, write it again",
        Error::UnknownAnchor { .. } | Error::RecursiveReferencesRequireWeakTypes { .. } => ALIAS,
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => {
            "aliases repeat too much: write the values out instead of *alias"
        }
        Error::Budget { .. } => {
            "one document is too large, too deep, or repeats too much by aliases: divide it, one \
             object in a document"
        }
        Error::NonFiniteFloat { .. } => {
            "a number is too large or not a number: put the value in quotes if it is a text"
        }
        Error::MergeValueNotMapOrSeqOfMaps { .. } | Error::MergeKeyNotAllowed { .. } => {
            "<< takes an alias of an object: write the fields out"
        }
        Error::FoldedBlockScalarMustIndentContent { .. } => BLOCK,
        Error::InvalidBinaryBase64 { .. }
        | Error::BinaryNotUtf8 { .. }
        | Error::TaggedScalarCannotDeserializeIntoString { .. } => TAG,
        Error::MultipleDocuments { .. } => {
            "a second document begins here: put --- on a line of its own before it"
        }
        _ => FALLBACK,
    };
    fixed.to_owned()
}

/// The message for a parser error in this line.
fn scanned(kind: &ErrorKind, line: &str) -> String {
    use ErrorKind as K;
    let is_indented_by_tab = line.trim_start_matches(' ').starts_with('\t');
    let fixed = match kind {
        K::UnclosedQuotedScalar
        | K::DocumentIndicatorInQuotedScalar
        | K::InvalidQuotedScalarIndent => QUOTE,
        _ if is_indented_by_tab => TAB,
        K::TabNotAllowed
        | K::TabInBlockIndentation
        | K::TabInIndentation
        | K::TabInPlainScalar
        | K::TabAtBlockScalarStart => TAB,
        K::UnclosedFlowCollection { open } => {
            let close = if *open == '[' { ']' } else { '}' };
            return format!("a {open} is opened and not closed: close it by {close}");
        }
        K::MismatchedFlowCollectionEnd { open, close } => {
            return format!("a {open} is closed by {close}: {CLOSING}");
        }
        K::UnexpectedEofFlowSequence
        | K::UnexpectedEofFlowMapping
        | K::UnexpectedEofImplicitFlowMapping
        | K::MisplacedFlowCollectionEnd
        | K::ExpectedFlowMappingSeparator
        | K::ExpectedFlowSequenceSeparator
        | K::FlowMappingValueAdjacentCollection
        | K::BlockEntryInFlowCollection
        | K::InvalidFlowScalarIndent
        | K::InvalidColonPlacement
        | K::PlainScalarStartsWithDashFlowIndicator => CLOSING,
        K::InvalidIndentation
        | K::ExpectedBlockMappingKey
        | K::ExpectedBlockSequenceEntry
        | K::BlockSequenceEntryNotAllowed => INDENTATION,
        K::InvalidTrailingSingleQuotedScalar | K::InvalidTrailingDoubleQuotedScalar => AFTER_QUOTE,
        K::UnknownQuotedScalarEscape
        | K::InvalidQuotedScalarHexEscape
        | K::InvalidLowSurrogateHexEscape
        | K::InvalidLowSurrogate
        | K::MissingLowSurrogate
        | K::UnpairedLowSurrogate
        | K::InvalidUnicodeEscape => ESCAPE,
        K::SimpleKeyExpected | K::InvalidSimpleKey => FIELD,
        K::MappingValueNotAllowed => COLON,
        K::ZeroBlockScalarIndent | K::InvalidBlockScalarHeader | K::InvalidBlockScalarIndent => {
            BLOCK
        }
        K::UnknownAnchor | K::MissingAnchorOrAliasName => ALIAS,
        K::UndeclaredTagHandle
        | K::ExpectedTagBang
        | K::MissingTagUri
        | K::InvalidTagTerminator
        | K::UnclosedVerbatimTag
        | K::InvalidTagEscape => TAG,
        K::UnexpectedCharacter { character } if !character.is_control() => CHARACTER,
        K::UnexpectedCharacter { character } => {
            let character = character.escape_debug();
            return format!(
                "`{character}` is not allowed here: put the value in quotes, or remove it"
            );
        }
        K::CommentNotSeparated | K::CommentInterceptedScalar => {
            "a comment needs a space before its #, and can't stand within a value of several lines"
        }
        K::RecursionLimitExceeded => {
            "objects and lists are nested too deep: no Kubernetes object is"
        }
        _ => FALLBACK,
    };
    fixed.to_owned()
}

#[cfg(test)]
mod tests;
