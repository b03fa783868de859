//! The server's online key, and the operator's root by which hosts know it. A key is exchanged by a root that names another
//! one: hosts follow the root by themselves.

use std::path::Path;

use jiff::Timestamp;

use crate::commands::log_roots;
use crate::data_dir::{write_new, write_over};
use crate::{DataDir, Exit, Failure, OperatorKey};

/// Makes the key that takes the place of the server's, once a root names it; what to do next.
pub(crate) fn new_key(data: &DataDir) -> Result<String, Failure> {
    if data.next_key()?.is_some() {
        return Err(Failure::new(Exit::Refused, anyhow::anyhow!("there is a next key already"))
            .hint(format!("give {} to the root", data.next_operator_public_key().display()))
            .hint("or remove operator-next.key, if no root names it"));
    }
    let (key, pem) = OperatorKey::generate()
        .map_err(|error| Failure::new(Exit::Failed, error.context("cannot make a signing key")))?;
    let public = data.next_operator_public_key();
    write_over(&public, format!("{}\n", key.public().to_text()).as_bytes())?;
    write_new(&data.next_operator_key(), pem.expose().as_bytes())?;
    Ok(format!(
        "made {}\n  next: a root that names it for documents and assignments, then `livepatch-server operator import`\n",
        public.display()
    ))
}

/// Takes a root that names this server's key, and serves it. If it names the next key, that is the server's from then on.
pub(crate) async fn import(data: &DataDir, from: &Path, now: Timestamp) -> Result<String, Failure> {
    let repositories = data.repositories();
    let next = data.next_key()?.map(|key| (repositories.check_operator(from, key.public(), now), key));
    let (import, next) = match next {
        Some((Ok(import), key)) => (import, Some(key)),
        _ => (repositories.check_operator(from, data.key()?.public(), now)?, None),
    };
    data.with_store(async |store| log_roots(store, import.roots(), now).await).await?;
    let state = import.take()?;
    let version = state.root().header.version;
    let mut text = format!("serving root {version} of operator {}\n", state.root().repository);
    if let Some(key) = next {
        // The key comes last: if it is not reached, the next import does it.
        write_over(&data.operator_public_key(), format!("{}\n", key.public().to_text()).as_bytes())?;
        std::fs::rename(data.next_operator_key(), data.operator_key())
            .and_then(|()| std::fs::remove_file(data.next_operator_public_key()))
            .map_err(|error| {
                Failure::new(Exit::Failed, error)
                    .context("cannot put the next key in the place of the server's")
            })?;
        text.push_str("the next key is in the place of the server's; restart the server: it signs with the former one till then\n");
    }
    Ok(text)
}
