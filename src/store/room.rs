//! How much of one secret a store takes, and in which form.

use crate::seal::Envelope;

/// From this part of the limit on there is a warning, in percent.
const NEARLY_FULL: usize = 70;

/// The limit of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The most bytes of one value in its stored form.
    pub max_bytes: usize,
    /// What is counted.
    pub form: Form,
}

/// The form in which a store takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Any bytes.
    Bytes,
    /// Text: what is sealed is armored.
    Text,
    /// Text inside JSON, escapes included.
    Json,
}

impl Room {
    /// No limit of its own.
    pub const UNLIMITED: Self = Self { max_bytes: usize::MAX, form: Form::Bytes };

    /// The size of the value as this store counts it.
    #[must_use]
    pub fn bytes(self, envelope: &Envelope<'_>) -> usize {
        match (envelope, self.form) {
            (Envelope::Plain(identities), Form::Json) => escaped(identities.expose()),
            (Envelope::Plain(identities), _) => identities.expose().len(),
            (Envelope::Sealed(sealed), Form::Bytes) => sealed.bytes().len(),
            (Envelope::Sealed(sealed), form) => armored(sealed.bytes().len(), form),
        }
    }

    /// The part of the limit that the value fills; nothing where there is no limit.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "limits are of a few MiB")]
    pub fn fill_ratio(self, envelope: &Envelope<'_>) -> Option<f64> {
        (self != Self::UNLIMITED).then(|| self.bytes(envelope) as f64 / self.max_bytes as f64)
    }

    /// True from 70 % of the limit on.
    #[must_use]
    pub const fn is_nearly_full(self, bytes: usize) -> bool {
        bytes >= self.max_bytes / 100 * NEARLY_FULL
    }
}

/// Lines of 64 characters of base64 between two lines of their own.
fn armored(bytes: usize, form: Form) -> usize {
    const FRAME: usize = "-----BEGIN AGE ENCRYPTED FILE-----\n".len() + "-----END AGE ENCRYPTED FILE-----\n".len();
    let text = bytes.div_ceil(3) * 4;
    let newlines = text.div_ceil(64);
    // JSON writes each end of a line as two characters.
    FRAME + text + newlines + if form == Form::Json { newlines + 2 } else { 0 }
}

fn escaped(text: &[u8]) -> usize {
    let more = |byte: &u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 1,
        0..0x20 => 5,
        _ => 0,
    };
    text.len() + text.iter().map(more).sum::<usize>()
}
