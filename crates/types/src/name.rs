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

/// What a host's place in a rollout is computed from instead of its id. Hosts with the same key have the same place, and go
/// together: `site-berlin`. With a number behind a slash they are spread over the rollout instead and go one after the
/// other, for they stand in for one another: `databases/0`, `databases/1`, …
///
/// A name of 1 to 48 lower-case letters, digits and inner `-`, `_` and `.`; the number is 0 to 9999.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cohort {
    text: String,
    name_bytes: usize,
    ordinal: Option<u16>,
}

impl Cohort {
    /// Checks a cohort key.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let refuse = |why| InvalidValue::new("cohort", why, text);
        let (name, ordinal) = match text.split_once('/') {
            Some((name, ordinal)) => (name, Some(ordinal)),
            None => (text, None),
        };
        if name.is_empty() || name.len() > 48 {
            return Err(refuse("its name is empty or longer than 48 characters"));
        }
        let inner = |b: u8| matches!(b, b'-' | b'_' | b'.');
        if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || inner(b)) {
            return Err(refuse("only lower-case letters, digits, -, _ and . may stand in its name"));
        }
        if name.starts_with(|c: char| !c.is_ascii_alphanumeric())
            || name.ends_with(|c: char| !c.is_ascii_alphanumeric())
        {
            return Err(refuse("its name starts or ends with -, _ or ."));
        }
        let ordinal =
            match ordinal {
                None => None,
                // One way to write each number: what is signed is compared as text.
                Some(digits) => {
                    let number = digits.parse().ok().filter(|number: &u16| *number <= 9999);
                    let number = number.filter(|number| number.to_string() == digits);
                    Some(number.ok_or_else(|| {
                        refuse("what stands behind the slash is not a number from 0 to 9999")
                    })?)
                }
            };
        Ok(Self { text: text.to_owned(), name_bytes: name.len(), ordinal })
    }
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// What stands before the slash.
    pub fn name(&self) -> &str {
        &self.text[..self.name_bytes]
    }
    /// Which of the hosts that stand in for one another this is; none: the hosts of this key go together.
    pub fn ordinal(&self) -> Option<u16> {
        self.ordinal
    }
    fn to_text(&self) -> &str {
        &self.text
    }
}
text_value!(Cohort);
