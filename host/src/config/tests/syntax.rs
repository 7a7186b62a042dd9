use super::*;

#[test]
fn a_syntax_error_does_not_hide_the_mistakes_on_other_lines() {
    let text = IRIS.replace("id = \"key\"", "id = key").replace("\"csv\"", "\"cvs\"");
    let found = mistakes_in(&text);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("6:6: not valid TOML: "), "{found:#?}");
    assert!(
        found[1].starts_with("8:10: [parse] plugin: \"cvs\" is no stock plugin, did you mean \"csv\"?"),
        "{found:#?}"
    );
}

#[test]
fn nothing_is_called_missing_that_may_stand_on_a_broken_line() {
    let found = mistakes_in(&IRIS.replace("topics = [\"iris.measurements\"]", "topics = [\"iris.measurements\""));
    assert!(found.iter().all(|line| line.contains("not valid TOML")), "{found:#?}");
    let found = mistakes_in(&IRIS.replace("[output]", "[output"));
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn a_key_that_is_given_twice_is_a_mistake() {
    only_mistake(&iris_with_line("[output]", "topic = \"x\""), "13:1: not valid TOML", &["duplicate key"]);
}

#[test]
fn a_column_counts_characters_and_no_byte_order_mark() {
    let found = mistakes_in("\u{feff}name = 5\n");
    assert!(found.iter().any(|line| line.starts_with("1:8: name: found an integer: expected a string")), "{found:#?}");
    let text = IRIS.replace("[\"iris.measurements\"]", "[ \"ä\", \"é\"]");
    assert_eq!(mistakes_in(&text).iter().map(|line| &line[..4]).collect::<Vec<_>>(), ["5:12", "5:17"]);
}

#[test]
fn no_text_makes_the_reader_panic() {
    for end in 0..IRIS.len() {
        let _ = read(&IRIS[..end]);
        let _ = read(&IRIS[end..]);
        let _ = read(&format!("{}\u{1F980}{}", &IRIS[..end], &IRIS[end + 1..]));
    }
}
