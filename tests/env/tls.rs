//! A private certificate authority and a server certificate for loopback, created with openssl. A second authority, which
//! has signed nothing, and certificates with defects test that verification fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::run;

/// The certificate of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// Signed by the authority, for 127.0.0.1.
    Valid,
    /// Signed by itself, for 127.0.0.1.
    SelfSigned,
    /// Signed by the authority, for another host.
    OtherHost,
    /// Signed by the authority, for 127.0.0.1. It expired yesterday.
    Expired,
}

/// A folder with the keys and certificates of a server and two authorities.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// The existing certificates in this folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Creates both authorities and the server's certificate in the folder.
    pub fn create(folder: &Path, certificate: Certificate) -> Result<Self> {
        let (hosts, days) = match certificate {
            Certificate::Valid | Certificate::SelfSigned => ("IP:127.0.0.1, DNS:localhost", "2"),
            Certificate::OtherHost => ("DNS:other.example", "2"),
            Certificate::Expired => ("IP:127.0.0.1, DNS:localhost", "-1"),
        };
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("server.ext"), format!("subjectAltName = {hosts}\n"))?;
        for authority in ["ca", "untrusted"] {
            let (key, certificate) = (format!("{authority}.key"), format!("{authority}.pem"));
            let subject = format!("/CN=spillway tests {authority}");
            let arguments = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
            openssl(
                folder,
                &[&arguments[..], &["-days", "2", "-subj", &subject, "-keyout", &key, "-out", &certificate]].concat(),
            )?;
        }
        let request =
            ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=127.0.0.1"];
        openssl(folder, &[&request[..], &["-keyout", "server.key", "-out", "server.csr"]].concat())?;
        let sign: &[&str] = match certificate {
            Certificate::SelfSigned => &["-signkey", "server.key"],
            Certificate::Valid | Certificate::OtherHost | Certificate::Expired => {
                &["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
            }
        };
        let certify = ["x509", "-req", "-in", "server.csr", "-days", days, "-extfile", "server.ext"];
        openssl(folder, &[&certify[..], sign, &["-out", "server.pem"]].concat())?;
        Ok(Self::in_folder(folder))
    }

    /// The authority that signed the server's certificate: the value of `RDS_CA_FILE`.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The authority that has signed nothing.
    pub fn untrusted_authority(&self) -> PathBuf {
        self.folder.join("untrusted.pem")
    }

    /// The server's certificate.
    pub fn server(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// The server's private key.
    pub fn server_key(&self) -> PathBuf {
        self.folder.join("server.key")
    }
}

fn openssl(folder: &Path, arguments: &[&str]) -> Result<()> {
    run::command(Command::new("openssl").args(arguments).current_dir(folder))
}
