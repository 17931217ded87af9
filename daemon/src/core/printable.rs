//! Escapes untrusted text for a terminal: names and values come from manifests, texts from routers.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with every character that controls a terminal, or is invisible there, as an escape such
/// as `\n` or `\u{1b}`. Everything that is printed for people and contains foreign text goes
/// through this function. JSON has its own escapes.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(affects_terminal) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if affects_terminal(character) {
            // Writing to a String does not fail.
            _ = write!(shown, "{}", character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Control characters (C0, DEL, C1), line separators, and characters that change the direction of
/// text or are invisible (Unicode UAX #9 §2).
const fn affects_terminal(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_that_controls_a_terminal_is_escaped() {
        for (text, shown) in [
            ("web/ä 日本 \"x\" \\", "web/ä 日本 \"x\" \\"),
            ("a\x1b[2Jb\r\n\t", "a\\u{1b}[2Jb\\r\\n\\t"),
            ("\u{9b}31m\x7f", "\\u{9b}31m\\u{7f}"),
            (
                "nimda\u{202e}\u{2066}\u{200b}",
                "nimda\\u{202e}\\u{2066}\\u{200b}",
            ),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
