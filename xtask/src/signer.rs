//! Signing as on another host: another user, who can read nothing of whoever builds, has the only copy of the key. Bundles
//! go there and come back as bytes in pipes.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Exit};
use crate::process::{command, output};
use crate::setup;

/// Debian's `nobody`.
const NOBODY: u32 = 65_534;

/// Someone with a key.
pub(crate) struct Signer {
    program: PathBuf,
    home: PathBuf,
    key: String,
    user: Option<u32>,
}

impl Signer {
    /// Another user on a host of their own: a new directory with nothing but a copy of `livepatch-build`, and the home in
    /// which the key is made. Only root can be another user.
    pub(crate) fn another_user(program: &Path, host: &Path, key: &str) -> Result<Self, Error> {
        if !setup::is_root()? {
            return Err(Error::Tool {
                what: "signing as another user".into(),
                message: "only root can be another user".into(),
                hint: Some("run it as root, in a container for example".into()),
                exit: Exit::NeedsRoot,
            });
        }
        Self::new(program, host, key, Some(NOBODY))
    }

    /// The user who runs this.
    pub(crate) fn this_user(program: &Path, host: &Path, key: &str) -> Result<Self, Error> {
        Self::new(program, host, key, None)
    }

    fn new(program: &Path, host: &Path, key: &str, user: Option<u32>) -> Result<Self, Error> {
        let io = |e| Error::io(format!("make the signer's directory {}", host.display()), e);
        let own = host.join("livepatch-build");
        let home = host.join("home");
        // A directory that is there already may be someone else's.
        fs::create_dir(host).and_then(|()| fs::create_dir(&home)).map_err(io)?;
        fs::copy(program, &own).map_err(io)?;
        fs::set_permissions(host, fs::Permissions::from_mode(0o755)).map_err(io)?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).map_err(io)?;
        chown(&home, user, user).map_err(io)?;
        let signer = Self { program: own, home, key: key.to_owned(), user };
        output(signer.builder("keygen").arg(&signer.home).args(["--name", key]))?;
        Ok(signer)
    }

    /// The user's number, when it is another one.
    pub(crate) fn user(&self) -> Option<u32> {
        self.user
    }

    /// The vendor's certificate.
    pub(crate) fn certificate(&self) -> Result<Vec<u8>, Error> {
        self.fetch(&self.certificate_path())
    }

    /// Has a bundle signed.
    pub(crate) fn sign(&self, bundle: &Path, to: &Path) -> Result<(), Error> {
        let unsigned = File::open(bundle).map_err(|e| Error::io(format!("read {}", bundle.display()), e))?;
        let there = self.home.join("livepatch.lpb");
        let mut receive = self.run(Path::new("/bin/dd"));
        receive.arg(format!("of={}", there.display())).arg("status=none").stdin(Stdio::from(unsigned));
        output(&mut receive)?;
        let mut sign = self.builder("sign");
        sign.arg(&there).arg("--key").arg(self.home.join(format!("{}.key.pem", self.key)));
        output(sign.arg("--certificate").arg(self.certificate_path()))?;
        fs::write(to, self.fetch(&there)?).map_err(|e| Error::io(format!("write {}", to.display()), e))
    }

    fn certificate_path(&self) -> PathBuf {
        self.home.join(format!("{}.cert.pem", self.key))
    }

    fn fetch(&self, path: &Path) -> Result<Vec<u8>, Error> {
        output(self.run(Path::new("/bin/cat")).arg(path))
    }

    fn builder(&self, action: &str) -> Command {
        let mut builder = self.run(&self.program);
        builder.arg(action);
        builder
    }

    /// A program as the signer.
    fn run(&self, program: &Path) -> Command {
        let mut run = match self.user {
            None => command(&program.display().to_string()),
            Some(user) => {
                let user = user.to_string();
                let mut run = command("setpriv");
                run.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs", "--"]);
                run.arg(program);
                run
            }
        };
        run.current_dir(&self.home);
        run
    }
}
