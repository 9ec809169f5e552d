//! `--generate-cli-skeleton yaml-input`: a request to fill in, with a word about each member.
//!
//! Form and values are those of aws-cli 2; the words about members are ours.

use super::yaml;
use ravelin_aws::client::shape::{self, Member, Shape};

/// The document for an operation's input.
pub(super) fn yaml_input(input: &Shape) -> String {
    let mut out = String::new();
    structure(input, "", "", &mut out);
    out
}

/// `first` stands before the first line, `further` before the others.
fn structure(shape: &Shape, first: &str, further: &str, out: &mut String) {
    for (index, member) in shape.members().iter().enumerate() {
        let start = if index == 0 { first } else { further };
        // The aws CLI sets two blanks before the first note of a structure, and one before the others.
        let gap = if index == 0 { "  " } else { " " };
        let note = note(shape, member);
        match &member.shape {
            Shape::Structure { .. } => {
                out.push_str(&format!("{start}{}:{gap}{note}\n", member.name));
                let indent = format!("{further}  ");
                structure(&member.shape, &indent, &indent, out);
            }
            Shape::List { of, .. } => {
                out.push_str(&format!("{start}{}:{gap}{note}\n", member.name));
                item(of, further, out);
            }
            Shape::Map { of } => {
                out.push_str(&format!("{start}{}:{gap}{note}\n{further}  KeyName:\n", member.name));
                match of {
                    Shape::List { of, .. } => item(of, &format!("{further}  "), out),
                    Shape::Structure { .. }
                    | Shape::Map { .. }
                    | Shape::Text { .. }
                    | Shape::Integer { .. }
                    | Shape::Boolean
                    | Shape::Time => structure(of, &format!("{further}    "), &format!("{further}    "), out),
                }
            }
            Shape::Text { .. } | Shape::Integer { .. } | Shape::Boolean | Shape::Time => {
                out.push_str(&format!("{start}{}: {}{gap}{note}\n", member.name, plain(&member.shape)));
            }
        }
    }
}

fn item(of: &Shape, indent: &str, out: &mut String) {
    match of {
        Shape::Structure { .. } => structure(of, &format!("{indent}- "), &format!("{indent}  "), out),
        Shape::List { .. }
        | Shape::Map { .. }
        | Shape::Text { .. }
        | Shape::Integer { .. }
        | Shape::Boolean
        | Shape::Time => {
            out.push_str(&format!("{indent}- {}\n", plain(of)));
        }
    }
}

fn plain(shape: &Shape) -> String {
    let list = ravelin_aws::client::value::Value::List(vec![shape::input_skeleton(shape)]);
    // As the one item of a list a value looks as it does behind a name.
    yaml::yaml(&list).trim_start_matches("- ").trim_end().to_owned()
}

fn note(shape: &Shape, member: &Member) -> String {
    let mut words = vec!["#"];
    if shape.required().contains(&member.name) {
        words.push("[REQUIRED]");
    }
    words.push(member.about);
    let choices = match &member.shape {
        Shape::Text { choices, .. } if !choices.is_empty() => format!("Valid values are: {}.", choices.join(", ")),
        _ => String::new(),
    };
    if !choices.is_empty() {
        words.push(&choices);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_aws::client::shape::operation;
    use ravelin_aws::client::value::Value;

    /// The lines of aws-cli 2.9.19, without its words about members.
    #[test]
    fn the_form_is_that_of_the_aws_cli() {
        let bare = |command: &str| {
            let text = yaml_input(&operation(command).expect("it is there").input);
            text.lines().map(|line| line.split(" #").next().unwrap_or(line).to_owned() + "\n").collect::<String>()
        };
        assert_eq!(
            bare("describe-sessions"),
            "State: Active \nMaxResults: 0\nNextToken: ''\nFilters:\n- key: InvokedAfter \n  value: ''\n"
        );
        assert_eq!(
            bare("start-session"),
            "Target: '' \nDocumentName: ''\nReason: ''\nParameters:\n  KeyName:\n  - ''\n"
        );
        assert_eq!(
            bare("describe-instance-information"),
            "InstanceInformationFilterList: \n- key: InstanceIds \n  valueSet:\n  - ''\nFilters:\n- Key: '' \n  Values:\n  - ''\n\
             MaxResults: 0\nNextToken: ''\n"
        );
    }

    #[test]
    fn what_is_shown_can_be_given_back() {
        for command in ["describe-sessions", "start-session", "describe-instance-information", "terminate-session"] {
            let input = &operation(command).expect("it is there").input;
            let read: Value = serde_saphyr::from_str(&yaml_input(input)).expect("YAML");
            assert_eq!(read, shape::input_skeleton(input), "{command}");
        }
    }
}
