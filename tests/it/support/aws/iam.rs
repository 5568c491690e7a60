//! How IAM judges a request: an explicit Deny first, then any Allow, else no.

use std::collections::BTreeMap;

use serde_json::Value;

/// What is known about a request, by condition key.
pub type Context = BTreeMap<String, Vec<String>>;

/// Panics at what IAM would not take.
pub fn validate(policy: &Value) {
    assert_eq!(policy["Version"], "2012-10-17");
    let mut names = Vec::new();
    for statement in policy["Statement"].as_array().unwrap() {
        for key in statement.as_object().unwrap().keys() {
            assert!(["Sid", "Effect", "Action", "Resource", "Condition"].contains(&key.as_str()), "{key}");
        }
        let name = statement["Sid"].as_str().unwrap();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()) && !names.contains(&name), "{name}");
        names.push(name);
        assert!(["Allow", "Deny"].contains(&statement["Effect"].as_str().unwrap()));
        assert!(texts(&statement["Action"]).iter().all(|action| action.contains(':') || *action == "*"));
        for resource in texts(&statement["Resource"]) {
            assert!(resource == "*" || resource.split(':').count() >= 6 && resource.starts_with("arn:"), "{resource}");
        }
    }
    // The limit of a managed policy.
    assert!(policy.to_string().len() <= 6144);
}

pub fn allows(policies: &[Value], action: &str, resource: &str, context: &Context) -> bool {
    let statements = || policies.iter().flat_map(|policy| policy["Statement"].as_array().unwrap());
    let matching = |effect: &str| {
        statements().any(|statement| {
            statement["Effect"] == effect
                && texts(&statement["Action"]).iter().any(|pattern| is_like(pattern, action))
                && texts(&statement["Resource"]).iter().any(|pattern| is_like(pattern, resource))
                && holds(&statement["Condition"], context)
        })
    };
    !matching("Deny") && matching("Allow")
}

fn holds(conditions: &Value, context: &Context) -> bool {
    conditions.as_object().into_iter().flatten().all(|(operator, keys)| {
        keys.as_object().unwrap().iter().all(|(key, patterns)| {
            let patterns = texts(patterns);
            let given = context.get(key);
            match operator.as_str() {
                "StringEquals" => given.is_some_and(|given| given.iter().any(|one| patterns.contains(&one.as_str()))),
                "StringLike" => given
                    .is_some_and(|given| given.iter().any(|one| patterns.iter().any(|pattern| is_like(pattern, one)))),
                // Of nothing, everything is true.
                "ForAllValues:StringLike" => given
                    .is_none_or(|given| given.iter().all(|one| patterns.iter().any(|pattern| is_like(pattern, one)))),
                _ => panic!("the operator {operator} is not modelled"),
            }
        })
    })
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().map(|one| one.as_str().unwrap()).collect(),
        _ => panic!("neither a text nor a list: {value}"),
    }
}

/// `*` stands for any text, `?` for one character.
pub fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    fn go(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => go(rest, text) || text.split_first().is_some_and(|(_, text)| go(pattern, text)),
            (Some(('?', rest)), Some((_, text))) => go(rest, text),
            (Some((wanted, rest)), Some((given, text))) => wanted == given && go(rest, text),
            _ => false,
        }
    }
    go(&pattern, &text)
}
