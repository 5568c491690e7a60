//! Who may do what: members with tokens, roles, and bindings on a project or on one secret.

use std::collections::{BTreeMap, BTreeSet};

/// Every right that Secret Manager knows.
pub const PERMISSIONS: [&str; 17] = [
    "secretmanager.locations.get",
    "secretmanager.locations.list",
    "secretmanager.secrets.create",
    "secretmanager.secrets.delete",
    "secretmanager.secrets.get",
    "secretmanager.secrets.getIamPolicy",
    "secretmanager.secrets.list",
    "secretmanager.secrets.setIamPolicy",
    "secretmanager.secrets.update",
    "secretmanager.versions.access",
    "secretmanager.versions.add",
    "secretmanager.versions.destroy",
    "secretmanager.versions.disable",
    "secretmanager.versions.enable",
    "secretmanager.versions.get",
    "secretmanager.versions.list",
    "resourcemanager.projects.get",
];

/// Members, roles and bindings.
#[derive(Default)]
pub struct Iam {
    tokens: BTreeMap<String, String>,
    roles: BTreeMap<String, BTreeSet<String>>,
    bindings: Vec<Binding>,
}

/// One role for one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub member: String,
    pub role: String,
    /// `secrets/NAME`; none for the whole project.
    pub secret: Option<String>,
    /// Of a binding on the project: the secrets (`secrets/NAME`) that its condition names.
    pub only: Option<String>,
}

impl Iam {
    pub fn new() -> Self {
        let mut iam = Self::default();
        let google = [
            ("roles/secretmanager.secretAccessor", vec!["versions.access"]),
            ("roles/secretmanager.secretVersionAdder", vec!["versions.add"]),
            ("roles/secretmanager.viewer", vec!["secrets.get", "secrets.list", "versions.get", "versions.list"]),
            (
                "roles/secretmanager.secretVersionManager",
                vec![
                    "versions.add",
                    "versions.destroy",
                    "versions.disable",
                    "versions.enable",
                    "versions.get",
                    "versions.list",
                ],
            ),
        ];
        for (role, rights) in google {
            iam.define(role, rights.iter().map(|right| format!("secretmanager.{right}")));
        }
        iam.define("roles/owner", PERMISSIONS.iter().map(|right| (*right).to_owned()));
        iam
    }

    pub fn define(&mut self, role: &str, permissions: impl IntoIterator<Item = String>) {
        let permissions: BTreeSet<String> = permissions.into_iter().collect();
        for permission in &permissions {
            assert!(PERMISSIONS.contains(&permission.as_str()), "{permission} is no right");
        }
        assert!(self.roles.insert(role.to_owned(), permissions).is_none(), "{role} is there already");
    }

    pub fn bind(&mut self, binding: Binding) {
        assert!(self.roles.contains_key(&binding.role), "{binding:?} names no role");
        self.bindings.push(binding);
    }

    /// A role on a secret.
    pub fn allow(&mut self, member: &str, role: &str, secret: &str) {
        self.bind(Binding { member: member.into(), role: role.into(), secret: Some(secret.into()), only: None });
    }

    /// Takes one right out of a role; false where it is not in it.
    pub fn take(&mut self, role: &str, permission: &str) -> bool {
        self.roles.get_mut(role).expect(role).remove(permission)
    }

    pub fn give(&mut self, role: &str, permission: &str) {
        self.roles.get_mut(role).expect(role).insert(permission.to_owned());
    }

    /// Every role with its rights that was defined beside Google's own.
    pub fn custom(&self) -> BTreeMap<String, BTreeSet<String>> {
        let custom = self.roles.iter().filter(|(role, _)| role.starts_with("projects/"));
        custom.map(|(role, rights)| (role.clone(), rights.clone())).collect()
    }

    pub fn unbind(&mut self, member: &str) {
        self.bindings.retain(|binding| binding.member != member);
    }

    /// The member's token, the same every time.
    pub fn token(&mut self, member: &str) -> String {
        let new = || format!("ya29.canary-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        self.tokens.entry(member.to_owned()).or_insert_with(new).clone()
    }

    pub fn member(&self, token: &str) -> Option<&str> {
        self.tokens.iter().find(|(_, known)| *known == token).map(|(member, _)| member.as_str())
    }

    /// New tokens from now on; the old ones are not valid any more.
    pub fn revoke(&mut self) {
        self.tokens.clear();
    }

    /// Whether the member may do this with the secret (none: with the project). What is bound on a secret counts only
    /// where that secret is.
    pub fn may(&self, member: &str, permission: &str, secret: Option<&str>, is_there: bool) -> bool {
        self.bindings.iter().filter(|binding| binding.member == member).any(|binding| {
            let reaches = match (&binding.secret, &binding.only) {
                (Some(bound), _) => is_there && secret == Some(bound),
                (None, Some(only)) => secret == Some(only),
                (None, None) => true,
            };
            reaches && self.roles[&binding.role].contains(permission)
        })
    }
}
