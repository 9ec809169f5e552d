//! Text from outside that people will read in lists, logs and terminals.

/// `text` without what a reader cannot see or what changes how other text is shown, and no longer than `chars_max`:
/// control characters, format characters (Unicode category Cf, among them the ones that turn the reading direction)
/// and the separators U+2028 and U+2029.
#[must_use]
pub fn printable(text: &str, chars_max: usize) -> String {
    text.chars().filter(|c| is_printable(*c)).take(chars_max).collect()
}

/// Whether [`printable`] keeps the character.
#[must_use]
pub fn is_printable(c: char) -> bool {
    // Category Cf as of Unicode 17.
    let is_format = matches!(
        c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}'
    );
    !c.is_control() && !is_format && !matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_a_reader_is_left_out() {
        assert_eq!(printable("a\u{1b}[2J\u{202e}b\u{2028}\n\u{200d}é漢", 10), "a[2Jbé漢");
        assert_eq!(printable("abcdef", 3), "abc");
    }
}
