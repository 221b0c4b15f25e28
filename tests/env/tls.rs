//! A private certificate authority and a server certificate for loopback, made by openssl, so that TLS is verified for
//! real. A second authority, which signed nothing, is there for the test that verification refuses.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The files that openssl made.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Those that were made in this folder before.
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Makes both authorities and the server's certificate in the folder.
    pub fn make(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("server.ext"), "subjectAltName = IP:127.0.0.1, DNS:localhost\n")?;
        for authority in ["ca", "stranger"] {
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
        let sign =
            ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"];
        openssl(folder, &[&sign[..], &["-extfile", "server.ext", "-out", "server.pem"]].concat())?;
        Ok(Self::in_folder(folder))
    }

    /// The authority that signed the server's certificate: the value of `RDS_CA_FILE`.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// An authority that signed nothing here.
    pub fn stranger(&self) -> PathBuf {
        self.folder.join("stranger.pem")
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
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().context("cannot run openssl")?;
    ensure!(output.status.success(), "openssl {} failed: {}", arguments[0], String::from_utf8_lossy(&output.stderr));
    Ok(())
}
