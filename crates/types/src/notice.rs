use crate::{InvalidValue, PatchVersion, text_value};

/// A notice about a livepatch, `LSN-0113-1`: a number, written with at least four digits, and an edition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoticeId {
    number: u32,
    edition: u32,
}

impl NoticeId {
    /// Reads `LSN-NNNN-E`; lower case and a number without leading zeros are accepted, because people write them so.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let refuse = |why| InvalidValue::new("notice", why, text);
        let rest = text
            .strip_prefix("LSN-")
            .or_else(|| text.strip_prefix("lsn-"))
            .ok_or_else(|| refuse("it does not start with LSN-"))?;
        let (number, edition) = rest.split_once('-').ok_or_else(|| refuse("it has no second dash"))?;
        let read = |digits: &str| -> Option<u32> {
            let plain = (1..=10).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten().filter(|number| *number > 0)
        };
        let numbers = read(number).zip(read(edition));
        let (number, edition) = numbers.ok_or_else(|| refuse("its parts are not numbers from 1"))?;
        Ok(Self { number, edition })
    }

    /// The notice of a livepatch: 113.2 is a build of what LSN-0113-1 is about.
    pub fn of(version: PatchVersion) -> Self {
        Self { number: version.major(), edition: 1 }
    }

    /// Whether a livepatch has what the notice is about. Livepatches are cumulative: all that are numbered from it on.
    pub fn is_in(self, version: PatchVersion) -> bool {
        version.major() >= self.number
    }

    fn to_text(self) -> String {
        format!("LSN-{:04}-{}", self.number, self.edition)
    }
}
text_value!(NoticeId);
