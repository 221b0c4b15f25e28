//! A PAM service that checks tokens of IAM database authentication, for MariaDB and PostgreSQL.
//!
//! RDS checks tokens in a PAM module and a plugin of its own. Here the server asks its PAM library, as RDS for PostgreSQL does.
//! PAM's `pam_exec` passes user and token to this process, which signs the same request again with AWS's Python SDK and
//! compares the signatures. It also checks user, endpoint and age.
//!
//! PAM reads its services from `/etc/pam.d`. So the server runs with a mount namespace of its own, which only root can create.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::cloud::REGION;
use crate::run::{self, Scratch};

/// The name of the service in `/etc/pam.d`.
pub const SERVICE: &str = "spillway-tokens";
/// The secret key that signs the tokens.
pub const SECRET_KEY: &str = "key-of-the-tests";

/// Sends user and token to the port in its argument. A token has no line break.
const SCRIPT: &str = r#"#!/bin/bash
IFS= read -r -d '' token
exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
printf '%s\n%s\n' "$PAM_USER" "$token" >&3
read -r result <&3
[ "$result" = accepted ]
"#;

/// Signs the request of the token again, and prints the token's age or the reason why it is refused.
const VERIFIER: &str = r"
import datetime, sys
from urllib.parse import parse_qs, urlsplit
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

user, token, port, secret, region, max_age = sys.argv[1:]
parts = urlsplit('https://' + token)
query = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=True).items()}
signed = datetime.datetime.strptime(query['X-Amz-Date'], '%Y%m%dT%H%M%SZ').replace(tzinfo=datetime.timezone.utc)
age = (datetime.datetime.now(datetime.timezone.utc) - signed).total_seconds()
botocore.auth.get_current_datetime = lambda remove_tzinfo=True: signed.replace(tzinfo=None)
access = query['X-Amz-Credential'].split('/')[0]
credentials = Credentials(access, secret, query.get('X-Amz-Security-Token'))
request = AWSRequest('GET', f'https://127.0.0.1:{port}/', params={'Action': 'connect', 'DBUser': user})
botocore.auth.SigV4QueryAuth(credentials, 'rds-db', region, expires=900).add_auth(request)
expected = parse_qs(urlsplit(request.prepare().url).query)['X-Amz-Signature'][0]
if parts.netloc != f'127.0.0.1:{port}':
    print('another endpoint')
elif query['DBUser'] != user:
    print('another user')
elif query['X-Amz-Signature'] != expected:
    print('another signature')
elif not -300 <= age < min(int(query['X-Amz-Expires']), int(max_age)):
    print('expired')
else:
    print(age)
";

/// A login that the service has checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The age of the token in seconds, or the reason why it was refused.
    pub result: Result<f64, String>,
}

/// A running service. It stops when the value is dropped.
#[derive(Debug)]
pub struct TokenService {
    folder: Scratch,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// The database server's port.
    server: OnceLock<u16>,
    /// The seconds after which a token is refused. RDS has 900.
    max_age: u32,
    logins: Mutex<Vec<Login>>,
}

impl TokenService {
    /// Starts the service and writes its files. Tokens of this age are refused.
    pub async fn start(max_age: u32) -> Result<Self> {
        let folder = Scratch::new("pam")?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let script = folder.path().join("check-token");
        std::fs::write(&script, SCRIPT)?;
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
        let services = folder.path().join("services");
        std::fs::create_dir_all(&services)?;
        let service = format!(
            "auth required pam_exec.so expose_authtok quiet {} {port}\naccount required pam_permit.so\n",
            script.display()
        );
        std::fs::write(services.join(SERVICE), service)?;
        let shared = Arc::new(Shared { server: OnceLock::new(), max_age, logins: Mutex::default() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { folder, shared, accepting })
    }

    /// Sets the port of the database server, which tokens must contain.
    pub fn serve(&self, port: u16) {
        let _set_before = self.shared.server.set(port);
    }

    /// The folder that the server sees as `/etc/pam.d`.
    pub fn services(&self) -> std::path::PathBuf {
        self.folder.path().join("services")
    }

    /// The logins so far.
    pub fn logins(&self) -> Vec<Login> {
        self.shared.logins.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TokenService {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The words before a server's command that make this folder its `/etc/pam.d`.
pub(crate) fn with_services(folder: &Path) -> Vec<String> {
    const BIND: &str = "mount --bind \"$0\" /etc/pam.d && exec \"$@\"";
    let words = ["unshare", "--mount", "--", "sh", "-c", BIND, &folder.display().to_string()];
    words.map(str::to_owned).to_vec()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&shared)));
    }
}

async fn answer(stream: TcpStream, shared: Arc<Shared>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut user, mut token) = (String::new(), String::new());
    stream.read_line(&mut user).await?;
    stream.read_line(&mut token).await?;
    let (user, token) = (user.trim().to_owned(), token.trim());
    let output = verify(&user, token, &shared).await.unwrap_or_else(|error| format!("{error:#}"));
    let result: Result<f64, String> = output.parse().map_err(|_| output);
    let word = if result.is_ok() { "accepted\n" } else { "refused\n" };
    shared.logins.lock().unwrap_or_else(PoisonError::into_inner).push(Login { user, result });
    stream.write_all(word.as_bytes()).await?;
    Ok(())
}

async fn verify(user: &str, token: &str, shared: &Shared) -> Result<String> {
    let port = shared.server.get().context("the port of the server is not set")?.to_string();
    let max_age = shared.max_age.to_string();
    let command = Command::new(run::tool("python")?)
        .args(["-c", VERIFIER, user, token, &port, SECRET_KEY, REGION, &max_age])
        .stdin(Stdio::null())
        .output()
        .await?;
    let text = if command.status.success() { command.stdout } else { command.stderr };
    Ok(String::from_utf8_lossy(&text).trim().lines().last().unwrap_or_default().to_owned())
}
