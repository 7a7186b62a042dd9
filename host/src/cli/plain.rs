//! Text from outside — reasons, names, keys, errors, a plugin's words — as a terminal may be given it.

/// Several lines stay several lines; nothing else of the text commands the terminal or turns its order around.
pub fn plain(text: &str) -> String {
    escaped(text, |c| c != '\n' && commands(c))
}

/// As `plain`, on one line.
pub fn one_line(text: &str) -> String {
    escaped(text, commands)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Control characters, line separators, and what changes the direction of the text around it.
fn commands(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_neither_commands_the_terminal_nor_forges_a_line() {
        assert_eq!(plain("a\u{1b}[31mb\nc\u{9b}2J"), "a\\u{1b}[31mb\nc\\u{9b}2J");
        assert_eq!(one_line("a\r\nerror: \u{202e}txt"), "a\\r\\nerror: \\u{202e}txt");
        assert_eq!(one_line("Größe 漢字 🐦"), "Größe 漢字 🐦");
    }
}
