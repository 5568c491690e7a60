//! A certificate authority of our own and what it signs, as files in a folder that goes with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;

/// One certificate authority. Two of them do not trust each other.
pub struct Pki {
    folder: TempDir,
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
    count: AtomicUsize,
}

/// A certificate with its private key, as PEM and as files.
pub struct Identity {
    pub certificate: String,
    pub key: String,
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

/// Whether a TLS server asks its clients for a certificate of the same authority.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    Anonymous,
    MayShow,
    MustShow,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("idkeep test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, certificate, issuer: Issuer::new(params, key), count: AtomicUsize::new(0) }
    }

    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn ca_pem(&self) -> String {
        self.certificate.pem()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A server certificate for 127.0.0.1, ::1 and localhost.
    pub fn server(&self) -> Identity {
        self.sign("localhost", ExtendedKeyUsagePurpose::ServerAuth, |_| ())
    }

    /// Like [`Pki::server`], but for these names only.
    pub fn server_for(&self, names: &[&str]) -> Identity {
        self.sign(names[0], ExtendedKeyUsagePurpose::ServerAuth, |params| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
        })
    }

    /// A server certificate that ended in 2001.
    pub fn expired_server(&self) -> Identity {
        self.sign("localhost", ExtendedKeyUsagePurpose::ServerAuth, |params| {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        })
    }

    /// A client certificate with the subject `CN=<name>`.
    pub fn client(&self, name: &str) -> Identity {
        self.sign(name, ExtendedKeyUsagePurpose::ClientAuth, |params| params.subject_alt_names.clear())
    }

    /// The TLS half of a server with [`Pki::server`]'s certificate.
    pub fn server_config(&self, clients: Clients) -> Arc<ServerConfig> {
        self.server_config_with(&self.server(), clients)
    }

    pub fn server_config_with(&self, identity: &Identity, clients: Clients) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            Clients::Anonymous => builder.with_no_client_auth(),
            Clients::MayShow => builder.with_client_cert_verifier(self.verifier(provider, true)),
            Clients::MustShow => builder.with_client_cert_verifier(self.verifier(provider, false)),
        };
        Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
    }

    fn verifier(&self, provider: Arc<rustls::crypto::CryptoProvider>, optional: bool) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if optional { builder.allow_unauthenticated().build().unwrap() } else { builder.build().unwrap() }
    }

    fn sign(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let names = ["127.0.0.1", "::1", "localhost"].map(String::from);
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = named(name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        self.write(certificate, key.serialize_pem())
    }

    fn write(&self, certificate: String, key: String) -> Identity {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let certificate_file = self.folder.path().join(format!("{number}.crt"));
        let key_file = self.folder.path().join(format!("{number}.key"));
        std::fs::write(&certificate_file, &certificate).unwrap();
        super::idkeep::write_private(&key_file, key.as_bytes());
        Identity { certificate, key, certificate_file, key_file }
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
