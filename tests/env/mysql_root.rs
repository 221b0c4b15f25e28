//! Real MySQL in place of MariaDB, for `make test-mysql`: programs and libraries in a folder that `scripts/setup-mysql` fills.
//!
//! The programs come from another release of Debian. So its own loader runs them with its own libraries, and the system needs
//! neither a container nor a mount.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::database::Options;
use crate::run;

/// The variable with the folder.
const VARIABLE: &str = "SPILLWAY_TEST_MYSQL";

/// A new server knows the administrator only as `localhost`, and servers under test resolve no names.
const CREATE_ADMINISTRATOR: &str = "CREATE USER 'root'@'127.0.0.1' IDENTIFIED BY '';\n\
     GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n";

/// A folder with MySQL.
#[derive(Debug, Clone)]
pub(crate) struct MySqlRoot(PathBuf);

impl MySqlRoot {
    /// The folder that the environment names, if any.
    #[allow(clippy::disallowed_methods, reason = "a switch of the test run, not a setting")]
    pub(crate) fn from_env() -> Option<Self> {
        std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(|path| Self(path.into()))
    }

    /// The start of a command that runs the server.
    pub(crate) fn server(&self) -> Vec<String> {
        let path = |below: &str| self.0.join(below).display().to_string();
        let libraries =
            ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib/mysql/private"].map(path).join(":");
        vec![
            path("usr/lib64/ld-linux-x86-64.so.2"),
            "--library-path".to_owned(),
            libraries,
            path("usr/sbin/mysqld"),
            "--no-defaults".to_owned(),
            "--user=root".to_owned(),
            format!("--basedir={}", path("usr")),
            format!("--lc-messages-dir={}", path("usr/share/mysql")),
            format!("--character-sets-dir={}", path("usr/share/mysql/charsets")),
            format!("--plugin-dir={}", path("usr/lib/mysql/plugin")),
        ]
    }

    /// The options that MySQL spells in another way than MariaDB.
    pub(crate) fn options(options: &Options) -> Vec<String> {
        let mut own = vec![
            "--mysqlx=OFF".to_owned(),
            // Debian's default is a folder that only its package creates.
            "--secure-file-priv=NULL".to_owned(),
            // Less memory, and a faster start.
            "--performance-schema=OFF".to_owned(),
            format!("--innodb-redo-log-capacity={}M", options.buffer_pool_megabytes.max(8)),
        ];
        if !options.tls {
            // MySQL creates a certificate if it has none.
            own.push("--tls-version=".to_owned());
        }
        if !options.binary_log {
            own.push("--disable-log-bin".to_owned());
        }
        own
    }

    /// Creates a data folder.
    pub(crate) fn initialize(&self, folder: &Path) -> Result<()> {
        let mut server = self.server().into_iter();
        let program = server.next().context("no program")?;
        let statements = folder.with_extension("sql");
        std::fs::write(&statements, CREATE_ADMINISTRATOR)?;
        run::command(
            Command::new(program)
                .args(server)
                .arg("--initialize-insecure")
                .arg(format!("--init-file={}", statements.display()))
                .arg(format!("--datadir={}", folder.display())),
        )
        .context("cannot create a data folder; run scripts/setup-mysql")?;
        Ok(std::fs::remove_file(statements)?)
    }
}
