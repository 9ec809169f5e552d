//! From our question to Cedar's request, with exactly the facts that the schema lists.
//!
//! The only file that knows both our nouns and Cedar's entities. It must not know policies.

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression, Schema,
};
use ravelin_model::GroupName;
use ravelin_model::policy::{Action, On, Question, Resource, Scope};
use ravelin_model::refusal::Detail;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

/// The schema's names, parsed once.
pub(crate) struct Vocabulary {
    schema: Schema,
    group: EntityTypeName,
    principal: EntityTypeName,
    target: EntityTypeName,
    /// All sessions bear one id, so that no policy can depend on a session's own.
    session: EntityUid,
    everyone: EntityUid,
    own: EntityUid,
    bastion: EntityUid,
    /// Each action with its place in the hierarchy.
    actions: BTreeMap<Action, Entity>,
    connect: Entity,
}

impl Vocabulary {
    /// Parses the schema that is compiled in.
    pub(crate) fn new() -> Self {
        let (schema, _warnings) = Schema::from_cedarschema_str(crate::CedarPolicy::schema_text())
            .expect("the schema is compiled in, and a test parses it");
        let action_type = type_name("Action");
        let connect = uid(&action_type, "connect");
        let actions = Action::ALL
            .iter()
            .map(|action| {
                let groups = if action.is_connect() { HashSet::from([connect.clone()]) } else { HashSet::new() };
                (*action, Entity::new_no_attrs(uid(&action_type, action.word()), groups))
            })
            .collect();
        let scope = type_name("Scope");
        Self {
            schema,
            group: type_name("Group"),
            principal: type_name("Principal"),
            target: type_name("Target"),
            session: uid(&type_name("Session"), "any"),
            everyone: uid(&scope, "everyone"),
            own: uid(&scope, "own"),
            bastion: uid(&type_name("Bastion"), "this"),
            actions,
            connect: Entity::with_uid(connect),
        }
    }

    /// The schema.
    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What Cedar needs to answer the question.
    ///
    /// # Errors
    /// When the resource does not fit the action, and when Cedar refuses a value, which no name that parsed can cause.
    pub(crate) fn request(&self, question: &Question<'_>) -> Result<(Request, Entities), Detail> {
        if !fits(question.action, question.resource) {
            return Err(Detail::new(format_args!(
                "action {} was asked of a wrong kind of resource: {:?}",
                question.action, question.resource
            )));
        }
        let principal = self.principal(question)?;
        let action = self.actions.get(&question.action).expect("the map was made from all actions").clone();
        let resource = self.resource(question.resource)?;
        let context = Context::from_pairs([("client_ip".to_owned(), ip(question.client))]).map_err(Detail::new)?;
        let request =
            Request::new(principal.uid(), action.uid(), resource.uid(), context, None).map_err(Detail::new)?;
        let entities =
            Entities::from_entities([principal, action, resource, self.connect.clone()], None).map_err(Detail::new)?;
        Ok((request, entities))
    }

    fn principal(&self, question: &Question<'_>) -> Result<Entity, Detail> {
        let name = question.principal.name.as_str();
        let groups = question.principal.groups.iter().map(|group| uid(&self.group, group.as_str())).collect();
        let facts = HashMap::from([("name".to_owned(), text(name))]);
        Entity::new(uid(&self.principal, name), facts, groups).map_err(Detail::new)
    }

    fn resource(&self, resource: Resource<'_>) -> Result<Entity, Detail> {
        let alone = HashSet::new();
        match resource {
            Resource::Target(target) => {
                let facts = HashMap::from([
                    ("name".to_owned(), text(target.name.as_str())),
                    ("protocol".to_owned(), text(target.protocol.word())),
                    ("labels".to_owned(), labels(&target.labels)),
                    ("shared_with".to_owned(), self.groups(&target.shared_with)),
                ]);
                Entity::new(uid(&self.target, target.name.as_str()), facts, alone).map_err(Detail::new)
            }
            Resource::Session { id: _, owner, target } => {
                let facts = HashMap::from([
                    ("owner".to_owned(), text(owner.as_str())),
                    ("target_name".to_owned(), text(target.name.as_str())),
                    ("target_labels".to_owned(), labels(&target.labels)),
                ]);
                Entity::new(self.session.clone(), facts, alone).map_err(Detail::new)
            }
            Resource::Scope(Scope::Everyone) => Ok(Entity::with_uid(self.everyone.clone())),
            Resource::Scope(Scope::Own) => Ok(Entity::with_uid(self.own.clone())),
            Resource::Bastion => Ok(Entity::with_uid(self.bastion.clone())),
        }
    }

    fn groups(&self, groups: &BTreeSet<GroupName>) -> RestrictedExpression {
        RestrictedExpression::new_set(
            groups.iter().map(|group| RestrictedExpression::new_entity_uid(uid(&self.group, group.as_str()))),
        )
    }
}

fn fits(action: Action, resource: Resource<'_>) -> bool {
    let on = match resource {
        Resource::Target(_) => On::Target,
        Resource::Session { .. } => On::Session,
        Resource::Scope(_) => On::Scope,
        Resource::Bastion => On::Bastion,
    };
    action.on() == on
}

fn labels(labels: &BTreeMap<String, String>) -> RestrictedExpression {
    RestrictedExpression::new_set(
        labels.iter().map(|(key, value)| RestrictedExpression::new_string(format!("{key}={value}"))),
    )
}

/// An IPv4 client of a listener for both families shows as `::ffff:10.0.0.1`; policies speak of `10.0.0.1`.
fn ip(address: IpAddr) -> RestrictedExpression {
    RestrictedExpression::new_ip(address.to_canonical().to_string())
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn type_name(name: &'static str) -> EntityTypeName {
    name.parse().expect("the names of the schema's types are single words")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Entities;
    use ravelin_model::target::Protocol;
    use ravelin_model::{Principal, PrincipalName, SessionId, Target, TargetId, TargetName};

    /// The schema's actions, without groups of actions.
    fn schema_words(schema: &Schema) -> BTreeSet<String> {
        let groups: HashSet<_> = schema.action_groups().collect();
        schema
            .actions()
            .filter(|action| !groups.contains(action))
            .map(|action| action.id().unescaped().to_owned())
            .collect()
    }

    #[test]
    fn schema_and_model_have_the_same_actions_on_the_same_resources() {
        let vocabulary = Vocabulary::new();
        let schema = vocabulary.schema();
        let ours: BTreeSet<String> = Action::ALL.iter().map(|action| action.word().to_owned()).collect();
        assert_eq!(schema_words(schema), ours);
        for (action, entity) in &vocabulary.actions {
            let on = match action.on() {
                On::Target => "Target",
                On::Session => "Session",
                On::Scope => "Scope",
                On::Bastion => "Bastion",
            };
            let resources: Vec<String> = schema
                .resources_for_action(&entity.uid())
                .expect("a declared action")
                .map(ToString::to_string)
                .collect();
            assert_eq!(resources, [on], "{action}");
            let principals: Vec<String> = schema
                .principals_for_action(&entity.uid())
                .expect("a declared action")
                .map(ToString::to_string)
                .collect();
            assert_eq!(principals, ["Principal"], "{action}");
        }
    }

    #[test]
    fn the_group_connect_holds_what_connects() {
        let vocabulary = Vocabulary::new();
        let declared = vocabulary.schema().action_entities().expect("the schema's actions form a hierarchy");
        let groups: Vec<&EntityUid> = vocabulary.schema().action_groups().collect();
        assert_eq!(groups, [&vocabulary.connect.uid()]);
        for (action, entity) in &vocabulary.actions {
            let in_connect = declared.is_ancestor_of(&vocabulary.connect.uid(), &entity.uid());
            assert_eq!(in_connect, action.is_connect(), "{action}");
        }
    }

    #[test]
    fn every_question_fits_the_schema() {
        let vocabulary = Vocabulary::new();
        let group = GroupName::parse("web").expect("a valid name");
        let principal = Principal {
            name: PrincipalName::parse("alice").expect("a valid name"),
            groups: BTreeSet::from([group.clone()]),
            ssh_keys: Vec::new(),
        };
        let target = Target {
            id: TargetId::from_hex("0123456789abcdef0").expect("17 digits"),
            name: TargetName::parse("web-1").expect("a valid name"),
            address: "192.0.2.1".to_owned(),
            port: 22,
            protocol: Protocol::Ssh,
            logins: Vec::new(),
            host_keys: Vec::new(),
            labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
            shared_with: BTreeSet::from([group]),
            aliases: BTreeMap::new(),
            recording: ravelin_model::recording::Rule::default(),
        };
        let snapshot = target.snapshot();
        let id = SessionId::new(&principal.name, 7);
        for action in Action::ALL.iter().copied() {
            let resources = match action.on() {
                On::Target => vec![Resource::Target(&target)],
                On::Session => vec![Resource::Session { id: &id, owner: &principal.name, target: &snapshot }],
                On::Scope => vec![Resource::Scope(Scope::Everyone), Resource::Scope(Scope::Own)],
                On::Bastion => vec![Resource::Bastion],
            };
            for resource in resources {
                for client in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"] {
                    let client = client.parse().expect("an address");
                    let question = Question { principal: &principal, action, resource, client };
                    let (request, entities) = vocabulary.request(&question).expect("a fitting question");
                    // Cedar checks types, attributes and context against the schema when it is given one.
                    let context = request.context().expect("a context").clone();
                    let [who, what, which] = [request.principal(), request.action(), request.resource()]
                        .map(|part| part.expect("a known part").clone());
                    Request::new(who, what, which, context, Some(vocabulary.schema())).expect("a valid request");
                    Entities::from_entities(entities, Some(vocabulary.schema())).expect("valid entities");
                }
            }
        }
    }
}
