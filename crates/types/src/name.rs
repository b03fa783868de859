use crate::{InvalidValue, text_value};

/// A kernel module's name as /sys/module shows it: letters, digits and `_`, at most 55 characters
/// (`MODULE_NAME_LEN` is 56 on 64 bit, include/linux/moduleparam.h).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleName(String);

impl ModuleName {
    /// Checks a module name. Dashes are refused: the kernel's own form has underscores.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let refuse = |why| InvalidValue::new("module name", why, text);
        if text.is_empty() || text.len() > 55 {
            return Err(refuse("it is empty or longer than 55 characters"));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(refuse("only letters, digits and _ may stand in it"));
        }
        Ok(Self(text.to_owned()))
    }
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    fn to_text(&self) -> &str {
        &self.0
    }
}
text_value!(ModuleName);

/// A step of the release ladder, for example `edge` or `stable`: 1 to 32 lower-case letters, digits and inner dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tier(String);

impl Tier {
    /// Checks a tier name.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let refuse = |why| InvalidValue::new("tier", why, text);
        if text.is_empty() || text.len() > 32 {
            return Err(refuse("it is empty or longer than 32 characters"));
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(refuse("only lower-case letters, digits and dashes may stand in it"));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(refuse("it starts or ends with a dash"));
        }
        Ok(Self(text.to_owned()))
    }
    /// The tier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    fn to_text(&self) -> &str {
        &self.0
    }
}
text_value!(Tier);
