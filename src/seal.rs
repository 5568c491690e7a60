//! Sealing: encryption to age recipients. The process holds no private key to open it again.

use std::io::Write as _;
use std::str::FromStr;

use age::Encryptor;
use age::armor::{ArmoredWriter, Format};

use crate::config::AgeRecipient;
use crate::error::{Failure, Fault};
use crate::identity::Identities;

/// A dump on its way to a store.
pub enum Envelope<'a> {
    /// As it came: only for stores that guard it themselves.
    Plain(&'a Identities),
    /// Encrypted to the operator's recipients.
    Sealed(Sealed),
}

/// Bytes that only the holders of the recipients' keys can open.
#[derive(Debug, Clone)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// The age file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The age file in ASCII armor.
    pub fn armored(&self) -> Result<String, Error> {
        let mut text = Vec::with_capacity(self.0.len() * 3 / 2);
        let armor = || -> std::io::Result<()> {
            let mut writer = ArmoredWriter::wrap_output(&mut text, Format::AsciiArmor)?;
            writer.write_all(&self.0)?;
            writer.finish().map(|_| ())
        };
        let mut armor = armor;
        armor().map_err(|_| Error::Seal)?;
        String::from_utf8(text).map_err(|_| Error::Seal)
    }
}

/// Why something could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A recipient is none.
    #[error("a recipient is not an age recipient")]
    Recipient,
    /// age refused.
    #[error("sealing the identities")]
    Seal,
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Recipient => Fault::Config,
            Self::Seal => Fault::Bug,
        }
    }
}

/// Seals the dump to these recipients.
pub fn seal(identities: &Identities, recipients: &[AgeRecipient]) -> Result<Sealed, Error> {
    let encryptor = encryptor(recipients)?;
    let plain = identities.expose();
    let mut sealed = Vec::with_capacity(plain.len() + 4096);
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(|_| Error::Seal)?;
    writer.write_all(plain).and_then(|()| writer.finish().map(|_| ())).map_err(|_| Error::Seal)?;
    Ok(Sealed(sealed))
}

/// What seals a stream to these recipients.
pub fn encryptor(recipients: &[AgeRecipient]) -> Result<Encryptor, Error> {
    let recipients: Vec<Box<dyn age::Recipient>> = recipients.iter().map(recipient).collect::<Result<_, _>>()?;
    let recipients = recipients.iter().map(|recipient| &**recipient);
    Encryptor::with_recipients(recipients).map_err(|_| Error::Recipient)
}

fn recipient(recipient: &AgeRecipient) -> Result<Box<dyn age::Recipient>, Error> {
    fn parse<R: age::Recipient + FromStr + 'static>(text: &str) -> Result<Box<dyn age::Recipient>, Error> {
        text.parse::<R>().map(|recipient| Box::new(recipient) as Box<dyn age::Recipient>).map_err(|_| Error::Recipient)
    }
    let text = recipient.as_str();
    if text.starts_with("age1tagpq1") {
        parse::<age::tagpq::Recipient>(text)
    } else if text.starts_with("age1tag1") {
        parse::<age::tag::Recipient>(text)
    } else if text.starts_with("ssh-") {
        parse::<age::ssh::Recipient>(text)
    } else {
        parse::<age::x25519::Recipient>(text)
    }
}
