use aws_lc_rs::rand;
use livepatch_manifest::sha256;
use livepatch_store::{PresentedToken, TokenId};
use livepatch_types::Redacted;

/// A new token: its text, which is shown once, and what is kept of it. The text is `ID.SECRET` in hexadecimal,
/// 64 bits to look it up by and 256 bits that nobody can guess.
#[derive(Debug)]
pub struct Token {
    /// The token itself.
    pub text: Redacted<String>,
    /// What is stored.
    pub stored: PresentedToken,
}

impl Token {
    /// Makes a token; none when the system has no randomness.
    pub fn generate() -> Option<Self> {
        let mut bytes = [0u8; 40];
        rand::fill(&mut bytes).ok()?;
        let (id, secret) = bytes.split_at(8);
        let text = format!("{}.{}", hex::encode(id), hex::encode(secret));
        let stored = present(&text)?;
        Some(Self { text: Redacted::new(text), stored })
    }
}

/// What to look up and compare for a token that somebody shows; none when it cannot be one.
pub(crate) fn present(text: &str) -> Option<PresentedToken> {
    let (id, _) = text.split_once('.')?;
    Some(PresentedToken { id: TokenId::parse(id).ok()?, sha256: sha256(text.as_bytes()) })
}
