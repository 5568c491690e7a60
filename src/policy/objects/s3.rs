//! An IAM policy for S3. JSON has no comments, so each statement's `Sid` says what it is for.

use serde_json::{Value, json};

use super::{Place, Role};

/// One policy for all buckets.
pub(super) fn render(places: &[Place<'_>], role: Role) -> String {
    let mut statements = Vec::new();
    for (index, place) in places.iter().enumerate() {
        // Two statements of one policy never have the same name.
        let suffix = if places.len() > 1 { (index + 1).to_string() } else { String::new() };
        let mut objects = |sid: &str, action: &str| {
            let arns = place.folders.iter().map(|folder| format!("arn:aws:s3:::{}/{folder}*", place.bucket));
            statements.push(json!({
                "Sid": format!("{sid}{suffix}"),
                "Effect": "Allow",
                "Action": [action],
                "Resource": arns.collect::<Vec<_>>(),
            }));
        };
        match role {
            Role::Writer => {
                objects("AddsSetsAndHoldsTheLock", "s3:PutObject");
                objects("LeavesNoHalfUpload", "s3:AbortMultipartUpload");
                objects("ReadsManifestsAndTheLockAndVerifies", "s3:GetObject");
            }
            Role::Expirer => {
                objects("ReadsManifestsAndWhatIsVerified", "s3:GetObject");
                objects("RemovesWhatRetentionLetsGo", "s3:DeleteObject");
            }
            Role::Restorer => objects("ReadsSets", "s3:GetObject"),
        }
        statements.push(list(place, &suffix));
    }
    let policy = json!({"Version": "2012-10-17", "Statement": statements});
    format!("{policy:#}\n")
}

fn list(place: &Place<'_>, suffix: &str) -> Value {
    let prefixes: Vec<String> = place.folders.iter().map(|folder| format!("{folder}*")).collect();
    json!({
        "Sid": format!("FindsSetsOfItsNodesOnly{suffix}"),
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": [format!("arn:aws:s3:::{}", place.bucket)],
        "Condition": {"StringLike": {"s3:prefix": prefixes}},
    })
}
