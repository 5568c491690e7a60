//! What a secret is made of where idkeep creates it.

use google_cloud_secretmanager_v1::model::replication::user_managed::Replica;
use google_cloud_secretmanager_v1::model::replication::{Automatic, UserManaged};
use google_cloud_secretmanager_v1::model::{CustomerManagedEncryption, Replication, Secret};

use crate::config::GcpStore;

/// Replication, key and labels as configured. A regional secret lies in its region and has no replication.
pub(super) fn secret(config: &GcpStore) -> Secret {
    let key = config.kms_key.as_ref().map(|name| CustomerManagedEncryption::new().set_kms_key_name(name.as_str()));
    let secret = Secret::new().set_labels(config.labels.clone());
    if config.location.is_some() {
        return secret.set_or_clear_customer_managed_encryption(key);
    }
    if config.replicas.is_empty() {
        let automatic = Automatic::new().set_or_clear_customer_managed_encryption(key);
        return secret.set_replication(Replication::new().set_automatic(automatic));
    }
    let replicas = config.replicas.iter().map(|region| {
        Replica::new().set_location(region.as_str()).set_or_clear_customer_managed_encryption(key.clone())
    });
    secret.set_replication(Replication::new().set_user_managed(UserManaged::new().set_replicas(replicas)))
}
