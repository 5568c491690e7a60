//! The bytes as a dump, and as a key pair inside an otherwise good one.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idkeep::config::NamespaceKey;
use idkeep::identity::{About, Identities, KeyProof};
use libfuzzer_sys::fuzz_target;
use zeroize::Zeroizing;

fuzz_target!(|bytes: &[u8]| {
    holds(bytes);
    let pair = STANDARD.encode(bytes);
    let namespace = "0".repeat(64);
    holds(
        format!(
            r#"{{"id":"PAR::fuzz::1220{namespace}","keys":[{{"keyPair":"{pair}"}}],"authorizedStoreSnapshot":"AAAA"}}"#
        )
        .as_bytes(),
    );
});

/// What is true of any bytes.
fn holds(bytes: &[u8]) {
    let (strict, lenient) = (judge(bytes, NamespaceKey::InDump), judge(bytes, NamespaceKey::Offline));
    let Some(lenient) = lenient else {
        assert!(strict.is_none(), "refused only where more is allowed");
        return;
    };
    assert_eq!(lenient.bytes, bytes.len());
    assert_ne!(lenient.keys, 0);
    if let Some(strict) = strict {
        assert_eq!(strict.digest, lenient.digest);
        assert_eq!(strict.key_proof == KeyProof::Proven, lenient.key_proof == KeyProof::Proven);
    }
    // White space around it changes nothing.
    let spaced = [b" \r\n", bytes, b"\n\t"].concat();
    assert_eq!(judge(&spaced, NamespaceKey::Offline).map(|about| about.digest), Some(lenient.digest));
}

fn judge(bytes: &[u8], namespace_key: NamespaceKey) -> Option<About> {
    Identities::parse(Zeroizing::new(bytes.to_vec()), namespace_key).ok().map(|identities| identities.about().clone())
}
