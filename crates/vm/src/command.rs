//! A command for the guest and what came of it.

use crate::VmError;
use crate::guest::USER;
use crate::protocol::quote;

/// A program with exact arguments, to be run in the guest.
#[derive(Debug, Clone)]
pub struct Command {
    arguments: Vec<Vec<u8>>,
    environment: Vec<(String, String)>,
    stdin: Vec<u8>,
    as_user: bool,
}

impl Command {
    /// A program, by path or by name.
    pub fn new(program: impl AsRef<str>) -> Self {
        Self {
            arguments: vec![program.as_ref().into()],
            environment: Vec::new(),
            stdin: Vec::new(),
            as_user: false,
        }
    }

    /// A shell script for the guest's own shell.
    pub fn shell(script: impl AsRef<str>) -> Self {
        Self::new("sh").arg("-c").arg(script.as_ref())
    }

    /// Adds an argument, byte for byte.
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.arguments.push(argument.as_ref().to_vec());
        self
    }

    /// Adds arguments.
    pub fn args<T: AsRef<[u8]>>(self, arguments: impl IntoIterator<Item = T>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Gives the command this standard input; otherwise it is empty.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Runs it as the guest's unprivileged user (uid 1000) instead of root.
    pub fn as_user(mut self) -> Self {
        self.as_user = true;
        self
    }

    pub(crate) fn input(&self) -> &[u8] {
        &self.stdin
    }

    /// One line for people.
    pub(crate) fn title(&self) -> String {
        let words: Vec<_> = self.arguments.iter().map(|a| String::from_utf8_lossy(a)).collect();
        let line = words.join(" ").replace('\n', " ");
        if line.chars().count() > 100 {
            format!("{}…", line.chars().take(100).collect::<String>())
        } else {
            line
        }
    }

    /// The shell text that becomes this command.
    pub(crate) fn script(&self) -> Result<Vec<u8>, VmError> {
        let mut line = Vec::new();
        for (name, value) in &self.environment {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain) {
                return Err(VmError::Invalid(format!("{name:?} cannot be the name of a variable")));
            }
            line.extend_from_slice(format!("export {name}=").as_bytes());
            line.extend(quote(value.as_bytes())?);
            line.push(b'\n');
        }
        line.extend_from_slice(b"exec");
        for argument in &self.arguments {
            line.push(b' ');
            line.extend(quote(argument)?);
        }
        if !self.as_user {
            return Ok(line);
        }
        let mut outer = format!("exec su -s /bin/sh {USER} -c ").into_bytes();
        outer.extend(quote(&line)?);
        Ok(outer)
    }
}

/// What a command in the guest left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 128 and more for a signal, as the shell counts.
    pub status: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }

    /// Standard output as text, without blanks around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_string()
    }

    /// Standard error as text, without blanks around it.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(command: Command) -> String {
        String::from_utf8(command.script().unwrap()).unwrap()
    }

    #[test]
    fn arguments_are_quoted_each() {
        let command = Command::new("printf").args(["%s", "it's", "$HOME\n", ""]);
        assert_eq!(script(command), "exec 'printf' '%s' 'it'\\''s' '$HOME\n' ''");
    }

    #[test]
    fn the_user_gets_a_quoted_script() {
        let command = Command::new("id").env("A", "b c").as_user();
        assert_eq!(script(command), "exec su -s /bin/sh user -c 'export A='\\''b c'\\''\nexec '\\''id'\\'''");
    }

    #[test]
    fn what_the_wire_cannot_carry_is_refused() {
        assert!(Command::new("a").arg("x\0y").script().is_err());
        assert!(Command::new("a").env("A B", "").script().is_err());
    }
}
