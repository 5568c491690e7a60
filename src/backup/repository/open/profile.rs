//! The credentials file that AWS's own tools write, read again at each use.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

use super::Environment;
use crate::backup::repository::network::Refusal;
use crate::secret;

/// One profile of the file.
#[derive(Debug)]
pub struct Profile {
    path: PathBuf,
    name: String,
}

impl Profile {
    /// The profile that the environment names, or the default one, where it has keys.
    pub fn find(environment: &Environment) -> Result<Option<Self>, secret::Error> {
        let variable = |name: &str| value(environment, name);
        let path = variable("AWS_SHARED_CREDENTIALS_FILE")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(variable("HOME")?).join(".aws/credentials")));
        let Some(path) = path.filter(|path| path.exists()) else { return Ok(None) };
        let name = variable("AWS_PROFILE").unwrap_or("default").to_owned();
        let profile = Self { path, name };
        Ok(profile.read()?.is_some().then_some(profile))
    }

    fn read(&self) -> Result<Option<AwsCredential>, secret::Error> {
        let bytes = secret::private_file(&self.path)?;
        Ok(std::str::from_utf8(&bytes).ok().and_then(|text| parse(text, &self.name)))
    }
}

#[async_trait]
impl CredentialProvider for Profile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        match self.read() {
            Ok(Some(credential)) => Ok(Arc::new(credential)),
            _ => Err(object_store::Error::Generic { store: "S3", source: Box::new(Refusal::NoCredentials) }),
        }
    }
}

/// A variable that is set to something.
pub fn value<'e>(environment: &'e Environment, name: &str) -> Option<&'e str> {
    environment.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

/// The keys in a section; a session's token may stand beside them.
fn parse(text: &str, section: &str) -> Option<AwsCredential> {
    let (mut key_id, mut secret_key, mut token) = (None, None, None);
    let mut is_ours = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_ours = name.trim() == section;
        } else if let (true, Some((key, value))) = (is_ours, line.split_once('=')) {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match key.trim() {
                "aws_access_key_id" => key_id = value,
                "aws_secret_access_key" => secret_key = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Some(AwsCredential { key_id: key_id?, secret_key: secret_key?, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# written by a tool\n[default]\naws_access_key_id = AKIDONE\naws_secret_access_key=a=b\n\n\
                        [ backup ]\n aws_access_key_id=AKIDTWO\naws_secret_access_key = c\naws_session_token = t\n\
                        [half]\naws_access_key_id = AKIDTHREE\n[sso]\nsso_session = x\n";

    #[test]
    fn each_profile_has_its_own_keys() {
        let read = |name| parse(TEXT, name).map(|found| (found.key_id, found.secret_key, found.token));
        assert_eq!(read("default"), Some(("AKIDONE".into(), "a=b".into(), None)));
        assert_eq!(read("backup"), Some(("AKIDTWO".into(), "c".into(), Some("t".into()))));
        for none in ["half", "sso", "other", ""] {
            assert!(read(none).is_none(), "{none}");
        }
    }
}
