//! Certificates of an authority that exists for as long as the tests run.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring};
use tiercast::config::Tls;

/// The authority that every client of the kit trusts.
pub static CA: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // With the name of what it signs it would look to some like a certificate that signed itself.
    params.distinguished_name.push(DnType::CommonName, "the authority of the tests");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
});

/// A certificate for this machine, and its key.
pub struct Certified {
    pub certificate: rcgen::Certificate,
    pub key: KeyPair,
}

impl Certified {
    pub fn fresh() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        Self { certificate: params.signed_by(&key, &CA).unwrap(), key }
    }

    pub fn write_certificate(&self, folder: &Path) -> PathBuf {
        let path = folder.join("cert.pem");
        std::fs::write(&path, self.certificate.pem()).unwrap();
        path
    }

    pub fn write_key(&self, folder: &Path) -> PathBuf {
        let path = folder.join("key.pem");
        std::fs::write(&path, self.key.serialize_pem()).unwrap();
        path
    }

    /// Writes both, and tells a configuration where.
    pub fn write(&self, folder: &Path, tls: &mut Tls) {
        tls.cert_file = self.write_certificate(folder).to_str().unwrap().to_owned();
        tls.key_file = self.write_key(folder).to_str().unwrap().to_owned();
    }
}

/// TLS of a client that trusts the authority and speaks these versions.
pub fn trusting(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CA.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
