//! From text to checked policies, or to every fault at once, each with its place.
//!
//! Must not know where texts come from: a source has a name for messages, nothing more.

use crate::name_of;
use cedar_policy::{
    Policy, PolicyId, PolicySet, Schema, ValidationError, ValidationMode, ValidationWarning, Validator,
};
use miette::Diagnostic;
use std::collections::BTreeMap;
use std::fmt;

/// A text that holds policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// What messages call it, usually the file's name.
    pub name: String,
    /// Policies in Cedar's language.
    pub text: String,
}

impl PolicySource {
    /// The default policies, for a deployment that has none of its own.
    #[must_use]
    pub fn built_in() -> Self {
        Self { name: "default.cedar (built in)".to_owned(), text: crate::CedarPolicy::default_text().to_owned() }
    }
}

/// Something wrong in a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyFault {
    /// The source's name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right, where that is known.
    pub fix: Option<String>,
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.what)?;
        match &self.fix {
            Some(fix) => write!(f, " ({fix})"),
            None => Ok(()),
        }
    }
}

/// What kind of thing a policy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MentionKind {
    /// A group of principals.
    Group,
    /// A principal.
    Principal,
    /// A target.
    Target,
}

/// Something of the inventory that a policy names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mention {
    /// What kind of thing.
    pub kind: MentionKind,
    /// Its name, as the policy spells it.
    pub name: String,
    /// The policy's name.
    pub policy: String,
}

/// Longest `@id`, in characters.
const POLICY_NAME_CHARS_MAX: usize = 100;

/// Policies without fault.
pub(crate) struct Loaded {
    pub(crate) policies: PolicySet,
    pub(crate) mentions: Vec<Mention>,
    pub(crate) asks_client: bool,
}

/// Reads and checks all sources.
pub(crate) fn read(sources: &[PolicySource], schema: &Schema) -> Result<Loaded, Vec<PolicyFault>> {
    let validator = Validator::new(schema.clone());
    let mut reader = Reader::default();
    for source in sources {
        let faults_before = reader.faults.len();
        reader.read(source, &validator);
        reader.faults[faults_before..].sort_by(|a, b| (a.line, a.column, &a.what).cmp(&(b.line, b.column, &b.what)));
    }
    if !reader.faults.is_empty() {
        return Err(reader.faults);
    }
    let mut mentions: Vec<Mention> = reader.policies.policies().flat_map(mentions).collect();
    mentions.sort();
    mentions.dedup();
    // Cedar has no other way to write the word, so a text without it cannot depend on the client's address. One that
    // has it in a comment only costs some repeated evaluations.
    let asks_client = sources.iter().any(|source| source.text.contains("context"));
    Ok(Loaded { policies: reader.policies, mentions, asks_client })
}

#[derive(Default)]
struct Reader {
    policies: PolicySet,
    /// Name of each policy so far, with its place for the message on a second one.
    places: BTreeMap<String, String>,
    faults: Vec<PolicyFault>,
}

impl Reader {
    fn read(&mut self, source: &PolicySource, validator: &Validator) {
        let parsed: PolicySet = match source.text.parse() {
            Ok(parsed) => parsed,
            Err(errors) => {
                let errors: cedar_policy::ParseErrors = errors;
                self.faults.extend(errors.iter().map(|error| source.fault_of(error)));
                return;
            }
        };
        for template in parsed.templates() {
            let offset = source.text.find(template.to_cedar().as_str()).unwrap_or(0);
            let what = "a template decides nothing".to_owned();
            let fix = "write the principal or resource in place of ?principal and ?resource";
            self.faults.push(source.fault_at(offset, what, Some(fix.to_owned())));
        }
        self.check(source, &parsed, validator);
        for (policy, offset) in with_offsets(&parsed, &source.text) {
            self.add(source, policy, offset);
        }
    }

    fn check(&mut self, source: &PolicySource, parsed: &PolicySet, validator: &Validator) {
        let result = validator.validate(parsed, ValidationMode::Strict);
        let mut wrong: Vec<&PolicyId> = Vec::new();
        for error in result.validation_errors() {
            let mut fault = source.fault_of(error);
            if fault.fix.is_none() && matches!(error, ValidationError::UnsafeAttributeAccess(_)) {
                let fix = "`resource is Target` narrows a policy to one kind of resource; the schema lists their facts";
                fault.fix = Some(fix.to_owned());
            }
            self.faults.push(fault.without_name(error.policy_id()));
            wrong.push(error.policy_id());
        }
        // A policy that is wrong is impossible as well; once is enough. The same holds for one without any action.
        let warnings: Vec<&ValidationWarning> =
            result.validation_warnings().filter(|warning| !wrong.contains(&warning.policy_id())).collect();
        let has_no_action = |id: &PolicyId| {
            warnings.iter().any(|w| matches!(w, ValidationWarning::InvalidActionApplication(_)) && w.policy_id() == id)
        };
        for warning in &warnings {
            let mut fault = source.fault_of(*warning).without_name(warning.policy_id());
            match warning {
                ValidationWarning::InvalidActionApplication(_) => {
                    fault.what = "this policy can never apply: none of its actions fits its resource".to_owned();
                    fault.fix = Some("the schema says what each action is done to".to_owned());
                }
                ValidationWarning::ImpossiblePolicy(_) if has_no_action(warning.policy_id()) => continue,
                ValidationWarning::ImpossiblePolicy(_) => {
                    fault.what = "this policy can never apply: its condition is false for every request".to_owned();
                }
                // Cedar may add kinds of warnings; all of them speak of text that is not what it seems.
                _ => {}
            }
            self.faults.push(fault);
        }
    }

    fn add(&mut self, source: &PolicySource, policy: &Policy, offset: usize) {
        let (line, column) = source.place(offset);
        let name = match policy.annotation("id") {
            None => format!("{}:{line}", source.name),
            Some(id) if is_name(id) => id.to_owned(),
            Some(id) => {
                let what = format!("@id({id:?}) is not a name");
                let fix = format!("use 1 to {POLICY_NAME_CHARS_MAX} printable characters: @id(\"web-team-connects\")");
                self.faults.push(source.fault_at(offset, what, Some(fix)));
                return;
            }
        };
        if policy.entity_literals().iter().any(|entity| entity.type_name().to_string() == "Session") {
            let here = policy.to_cedar().and_then(|text| text.find("Session::")).unwrap_or(0);
            let what = "a policy cannot name a session".to_owned();
            let fix = "speak of its owner or target: resource.owner, resource.target_name, resource.target_labels";
            self.faults.push(source.fault_at(offset + here, what, Some(fix.to_owned())));
        }
        let place = format!("{}:{line}:{column}", source.name);
        if let Some(first) = self.places.insert(name.clone(), place) {
            let what = format!("a policy named {name:?} stands at {first} already");
            self.faults.push(source.fault_at(offset, what, Some("give each policy its own @id".to_owned())));
            return;
        }
        if let Err(error) = self.policies.add(policy.new_id(PolicyId::new(name))) {
            self.faults.push(source.fault_at(offset, error.to_string(), None));
        }
    }
}

impl PolicySource {
    fn fault_of(&self, error: &dyn Diagnostic) -> PolicyFault {
        let label = error.labels().and_then(|mut labels| labels.next());
        let offset = label.as_ref().map_or(0, |label| label.offset());
        let hint = label.and_then(|label| label.label().map(str::to_owned));
        let fix = error.help().map(|help| help.to_string()).or(hint);
        self.fault_at(offset, error.to_string(), fix)
    }

    fn fault_at(&self, offset: usize, what: String, fix: Option<String>) -> PolicyFault {
        let (line, column) = self.place(offset);
        PolicyFault { file: self.name.clone(), line, column, what, fix }
    }

    /// Line and column, both from 1, of a byte offset.
    fn place(&self, offset: usize) -> (usize, usize) {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        // Bytes that begin a character in UTF-8.
        let column = before[line_start..].iter().filter(|b| (**b & 0xc0) != 0x80).count() + 1;
        (line, column)
    }
}

impl PolicyFault {
    /// Without Cedar's own name of the policy, which the reader never saw; the place says which one it is.
    fn without_name(mut self, id: &PolicyId) -> Self {
        for separator in [", ", ": "] {
            let name = format!("for policy `{}`{separator}", name_of(id));
            self.what = self.what.replace(&name, "");
            self.fix = self.fix.map(|fix| fix.replace(&name, ""));
        }
        self
    }
}

/// The policies in the order of the text, each with the byte offset where it begins.
fn with_offsets<'a>(parsed: &'a PolicySet, text: &str) -> Vec<(&'a Policy, usize)> {
    let mut policies: Vec<&Policy> = parsed.policies().collect();
    // Cedar names them policy0, policy1, … in the order of the text.
    policies.sort_by_key(|policy| name_of(policy.id()).trim_start_matches("policy").parse::<usize>().ok());
    // Always between two characters: the end of a policy that was found.
    let mut from = 0;
    let mut placed = Vec::with_capacity(policies.len());
    for policy in policies {
        let policy_text = policy.to_cedar().unwrap_or_default();
        if let Some(at) = text[from..].find(&policy_text) {
            placed.push((policy, from + at));
            from += at + policy_text.len();
        } else {
            placed.push((policy, from));
        }
    }
    placed
}

fn mentions(policy: &Policy) -> Vec<Mention> {
    let mut mentions = Vec::new();
    for entity in policy.entity_literals() {
        let kind = match entity.type_name().to_string().as_str() {
            "Group" => MentionKind::Group,
            "Principal" => MentionKind::Principal,
            "Target" => MentionKind::Target,
            _ => continue,
        };
        let name = entity.id().unescaped().to_owned();
        mentions.push(Mention { kind, name, policy: policy.id().to_string() });
    }
    mentions
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= POLICY_NAME_CHARS_MAX && !text.chars().any(char::is_control)
}
