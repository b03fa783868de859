//! The cpio "newc" format, as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format).

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Writes one archive into memory. The same calls give the same bytes.
#[derive(Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
    inode: u32,
}

impl Writer {
    pub(crate) fn directory(&mut self, path: &str, mode: u32) {
        self.entry(path, DIRECTORY | mode, &[]);
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        self.entry(path, FILE | mode, bytes);
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK | 0o777, target.as_bytes());
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[]);
        self.out
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.inode += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let (size, name_size) = (data.len(), path.len() + 1);
        let (uid, gid, mtime, dev, check) = (0, 0, 0, 0, 0);
        let header = format!(
            "070701{:08x}{mode:08x}{uid:08x}{gid:08x}{links:08x}{mtime:08x}{size:08x}\
             {dev:08x}{dev:08x}{dev:08x}{dev:08x}{name_size:08x}{check:08x}",
            self.inode
        );
        self.out.extend_from_slice(header.as_bytes());
        self.out.extend_from_slice(path.as_bytes());
        self.out.push(0);
        self.pad();
        self.out.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(bytes: &[u8], entry: usize, index: usize) -> u32 {
        let start = entry + 6 + index * 8;
        u32::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16).unwrap()
    }

    #[test]
    fn headers_and_padding_follow_the_format() {
        let mut writer = Writer::default();
        writer.directory("bin", 0o755);
        writer.file("bin/x", 0o644, b"hello");
        let bytes = writer.finish();

        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(field(&bytes, 0, 1), 0o040_755);
        assert_eq!(field(&bytes, 0, 11), 4, "name size counts the NUL");

        let file = 116; // 110 + 4, padded to 4
        assert_eq!(&bytes[file..file + 6], b"070701");
        assert_eq!(field(&bytes, file, 1), 0o100_644);
        assert_eq!(field(&bytes, file, 6), 5);
        assert_eq!(&bytes[file + 110..file + 116], b"bin/x\0");
        assert_eq!(&bytes[file + 116..file + 124], b"hello\0\0\0");
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.windows(11).any(|w| w == b"TRAILER!!!\0"));
    }
}
