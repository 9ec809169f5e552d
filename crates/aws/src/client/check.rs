//! What is wrong with a request before it is sent, in the words of botocore.
//!
//! Checked here: required and unknown members, types, least lengths and least values. Not checked, so that the service
//! says it: greatest ones, choices and patterns.

use super::shape::Shape;
use super::value::Value;

/// The lines that say what is wrong; none when nothing is.
#[must_use]
pub fn check(shape: &Shape, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    visit(shape, value, "", &mut faults);
    faults
}

fn visit(shape: &Shape, value: &Value, name: &str, faults: &mut Vec<String>) {
    match (shape, value) {
        (Shape::Structure { required, members }, Value::Map(sent)) => {
            for name_of in required.iter().filter(|required| !sent.contains_key(**required)) {
                faults.push(format!("Missing required parameter in {}: \"{name_of}\"", label(name)));
            }
            let known: Vec<&str> = members.iter().map(|member| member.name).collect();
            for unknown in sent.keys().filter(|key| !known.contains(&key.as_str())) {
                faults.push(format!(
                    "Unknown parameter in {}: \"{unknown}\", must be one of: {}",
                    label(name),
                    known.join(", ")
                ));
            }
            for (key, value) in sent.iter() {
                if let Some(member) = members.iter().find(|member| member.name == key) {
                    visit(&member.shape, value, &format!("{name}.{key}"), faults);
                }
            }
        }
        (Shape::List { of, min }, Value::List(items)) => {
            if items.len() < *min {
                faults.push(too_short(name, items.len(), *min));
            }
            for (index, item) in items.iter().enumerate() {
                visit(of, item, &format!("{name}[{index}]"), faults);
            }
        }
        (Shape::Map { of }, Value::Map(members)) => {
            for (key, value) in members.iter() {
                if key.is_empty() {
                    faults.push(too_short(&format!("{name} (key: )"), 0, 1));
                }
                visit(of, value, &format!("{name}.{key}"), faults);
            }
        }
        (Shape::Text { min, .. }, Value::Text(text)) => {
            let length = text.chars().count();
            if length < *min {
                faults.push(too_short(name, length, *min));
            }
        }
        (Shape::Integer { min: Some(min) }, Value::Int(number)) if number < min => {
            faults
                .push(format!("Invalid value for parameter {}, value: {number}, valid min value: {min}", label(name)));
        }
        (Shape::Integer { .. }, Value::Int(_) | Value::Bool(_)) | (Shape::Boolean, Value::Bool(_)) => {}
        (shape, value) => {
            faults.push(wrong_type(name, &value.to_str(), value.python_type(), shape));
        }
    }
}

/// The line for a value of a type that cannot be; `shown` is how it looks.
#[must_use]
pub fn wrong_type(name: &str, shown: &str, is: &str, shape: &Shape) -> String {
    let wanted: &[&str] = match shape {
        Shape::Structure { .. } | Shape::Map { .. } => &["dict"],
        Shape::List { .. } => &["list", "tuple"],
        Shape::Text { .. } => &["str"],
        Shape::Integer { .. } => &["int"],
        Shape::Boolean => &["bool"],
        Shape::Time => &["datetime"],
    };
    let wanted: Vec<String> = wanted.iter().map(|name| format!("<class '{name}'>")).collect();
    format!(
        "Invalid type for parameter {}, value: {shown}, type: <class '{is}'>, valid types: {}",
        label(name),
        wanted.join(", ")
    )
}

fn too_short(name: &str, length: usize, min: usize) -> String {
    format!("Invalid length for parameter {}, value: {length}, valid min length: {min}", label(name))
}

fn label(name: &str) -> &str {
    match name.strip_prefix('.').unwrap_or(name) {
        "" => "input",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::operation;
    use super::*;

    fn faults(command: &str, json: &str) -> Vec<String> {
        check(&operation(command).expect("it is there").input, &Value::parse(json.as_bytes()).expect("JSON"))
    }

    /// Each line was printed by aws-cli 1.46.3 and by 2.9.19 for the same input.
    #[test]
    fn faults_are_told_in_botocores_words_and_order() {
        assert_eq!(faults("describe-sessions", r#"{"State":"Bogus","MaxResults":500}"#), Vec::<String>::new());
        assert_eq!(
            faults(
                "describe-sessions",
                r#"{"State":true,"MaxResults":1.5,"NextToken":null,"Filters":[{"key":"a","value":""},3,[1]]}"#
            ),
            [
                "Invalid type for parameter State, value: True, type: <class 'bool'>, valid types: <class 'str'>",
                "Invalid type for parameter MaxResults, value: 1.5, type: <class 'float'>, valid types: <class 'int'>",
                "Invalid type for parameter NextToken, value: None, type: <class 'NoneType'>, valid types: <class 'str'>",
                "Invalid length for parameter Filters[0].value, value: 0, valid min length: 1",
                "Invalid type for parameter Filters[1], value: 3, type: <class 'int'>, valid types: <class 'dict'>",
                "Invalid type for parameter Filters[2], value: [1], type: <class 'list'>, valid types: <class 'dict'>",
            ]
        );
        assert_eq!(
            faults("describe-sessions", r#"{"Foo":1,"Filters":[{"key":"A","valu":"B"}]}"#),
            [
                "Missing required parameter in input: \"State\"",
                "Unknown parameter in input: \"Foo\", must be one of: State, MaxResults, NextToken, Filters",
                "Missing required parameter in Filters[0]: \"value\"",
                "Unknown parameter in Filters[0]: \"valu\", must be one of: key, value",
            ]
        );
        assert_eq!(
            faults("describe-sessions", r#"{"State":"A","MaxResults":0,"Filters":[]}"#),
            [
                "Invalid value for parameter MaxResults, value: 0, valid min value: 1",
                "Invalid length for parameter Filters, value: 0, valid min length: 1",
            ]
        );
        assert_eq!(
            faults("start-session", r#"{"Target":"x","Parameters":{"portNumber":"22"}}"#),
            ["Invalid type for parameter Parameters.portNumber, value: 22, type: <class 'str'>, valid types: \
                 <class 'list'>, <class 'tuple'>"]
        );
    }
}
