//! What goes over the second serial port: requests to `serve.sh` and its answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{Output, VmError};

/// How much goes over the wire before the guest must have taken it: the kernel's serial port buffers 64 KiB
/// and drops the rest, without a word.
const CHUNK: usize = 24 * 1024;

/// Quotes for the guest's shell: inside single quotes every byte but NUL and the quote stands for itself.
pub(crate) fn quote(bytes: &[u8]) -> Result<Vec<u8>, VmError> {
    if bytes.contains(&0) {
        return Err(VmError::Invalid("an argument for the guest has a NUL byte".into()));
    }
    let mut quoted = vec![b'\''];
    for &byte in bytes {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            _ => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    Ok(quoted)
}

/// The requests that hand over standard input, in order.
pub(crate) fn data_requests(id: u64, input: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    input.chunks(CHUNK).map(move |chunk| {
        let payload = STANDARD.encode(chunk);
        format!("data {id} {}\n{payload}", payload.len()).into_bytes()
    })
}

/// The request that runs a script for at most so many seconds.
pub(crate) fn run_request(id: u64, seconds: u64, script: &[u8]) -> Result<Vec<u8>, VmError> {
    if script.len() > CHUNK {
        return Err(VmError::Invalid(format!(
            "a command of {} bytes is too long for the guest; give it a file or standard input",
            script.len()
        )));
    }
    let payload = STANDARD.encode(script);
    Ok(format!("run {id} {seconds} {}\n{payload}", payload.len()).into_bytes())
}

/// What the guest said of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) output: Output,
    /// The guest killed it because its time was over.
    pub(crate) late: bool,
}

/// Puts the answer to request `id` together, line by line.
#[derive(Debug)]
pub(crate) struct AnswerReader {
    id: u64,
    header: Option<Header>,
    stdout: String,
    stderr: String,
    in_stderr: bool,
}

#[derive(Debug)]
struct Header {
    status: i32,
    late: bool,
    stdout_bytes: usize,
    stderr_bytes: usize,
}

impl AnswerReader {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, header: None, stdout: String::new(), stderr: String::new(), in_stderr: false }
    }

    /// Takes a line; gives the answer when it was the last one, or says what is wrong with it.
    pub(crate) fn line(&mut self, line: &str) -> Result<Option<Answer>, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), &self.header) {
            ([], _) => Ok(None),
            (["@done", id, status, late, stdout, stderr], None) if self.is_mine(id) => {
                let number =
                    |text: &str| text.parse::<usize>().map_err(|_| format!("a bad number in {line:?}"));
                self.header = Some(Header {
                    status: status.parse().map_err(|_| format!("a bad status in {line:?}"))?,
                    late: *late == "yes",
                    stdout_bytes: number(stdout)?,
                    stderr_bytes: number(stderr)?,
                });
                Ok(None)
            }
            (["@err"], Some(_)) => {
                self.in_stderr = true;
                Ok(None)
            }
            (["@end", id], Some(header)) if self.is_mine(id) => Ok(Some(Answer {
                late: header.late,
                output: Output {
                    status: header.status,
                    stdout: decode(&self.stdout, header.stdout_bytes)?,
                    stderr: decode(&self.stderr, header.stderr_bytes)?,
                },
            })),
            ([word], Some(_)) if !word.starts_with('@') => {
                if self.in_stderr { &mut self.stderr } else { &mut self.stdout }.push_str(word);
                Ok(None)
            }
            _ => Err(format!("an unexpected line {line:?}")),
        }
    }

    fn is_mine(&self, id: &str) -> bool {
        id.parse() == Ok(self.id)
    }
}

fn decode(text: &str, bytes: usize) -> Result<Vec<u8>, String> {
    let decoded = STANDARD.decode(text).map_err(|e| format!("output that is not base64: {e}"))?;
    if decoded.len() == bytes {
        Ok(decoded)
    } else {
        Err(format!("{} bytes of output where {bytes} were announced", decoded.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(id: u64, lines: &[&str]) -> Result<Option<Answer>, String> {
        let mut reader = AnswerReader::new(id);
        for line in lines {
            if let Some(answer) = reader.line(line)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    #[test]
    fn answers_are_put_together() {
        let answer =
            read(7, &["@done 7 3 no 5 2", "aGVs", "bG8=", "@err", "b28=", "@end 7"]).unwrap().unwrap();
        assert_eq!(answer.output, Output { status: 3, stdout: b"hello".into(), stderr: b"oo".into() });
        assert!(!answer.late);
        let empty = read(1, &["@done 1 137 yes 0 0", "@err", "@end 1"]).unwrap().unwrap();
        assert!(empty.late && empty.output.stdout.is_empty());
    }

    #[test]
    fn lost_bytes_and_strange_lines_are_noticed() {
        for lines in [
            &["@done 7 0 no 9 0", "aGVs", "@err", "@end 7"][..],
            &["@done 8 0 no 0 0"],
            &["@ready"],
            &["@done 7 x no 0 0"],
            &["@done 7 0 no 0 0", "@@", "@end 7"],
            &["@done 7 0 no 1 0", "====", "@err", "@end 7"],
        ] {
            assert!(read(7, lines).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn requests_say_how_long_they_are() {
        assert_eq!(run_request(2, 9, b"id").unwrap(), b"run 2 9 4\naWQ=");
        let sizes: Vec<usize> =
            data_requests(1, &[0; CHUNK + 1]).map(|r| r.iter().position(|&b| b == b'\n').unwrap()).collect();
        assert_eq!(sizes.len(), 2);
        assert!(run_request(1, 1, &[b'x'; CHUNK + 1]).is_err());
    }
}
