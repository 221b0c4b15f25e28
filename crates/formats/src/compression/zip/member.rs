//! The records of a zip archive.

/// The first bytes of the records.
const LOCAL_HEADER: &[u8] = b"PK\x03\x04";
const DIRECTORY_ENTRY: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const DESCRIPTOR: &[u8] = b"PK\x07\x08";

/// The value of a 32-bit size that is written elsewhere in 64 bits.
const IN_EXTRA_FIELD: u32 = u32::MAX;
/// The identifier of the extra field with sizes of 64 bits.
const SIZES_64: u16 = 1;
/// The longest end record with sizes of 64 bits.
const MAX_END_64_BYTES: u64 = 4096;

/// The checksum and the sizes of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sizes {
    pub(super) crc: u32,
    pub(super) stored: u64,
    pub(super) decoded: u64,
}

/// How the data of a member is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflated,
}

/// A file, a folder or metadata in an archive.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) method: Method,
    /// Those of the header; after the end of the data those of the data.
    pub(super) sizes: Sizes,
    /// Whether checksum and sizes come after the data instead of in the header.
    pub(super) has_descriptor: bool,
}

impl Member {
    /// The member of a local header, or why it cannot be read.
    pub(super) fn of(header: &[u8]) -> Result<Self, &'static str> {
        let (flags, name_bytes) = (u16_at(header, 6), usize::from(u16_at(header, 26)));
        if flags & 1 != 0 || flags & (1 << 13) != 0 {
            return Err("its file is encrypted");
        }
        let method = match u16_at(header, 8) {
            0 => Method::Stored,
            8 => Method::Deflated,
            _ => return Err("its file is compressed with another method than deflate"),
        };
        let name = header[30..30 + name_bytes].to_vec();
        let extra = &header[30 + name_bytes..];
        let mut large = large_sizes(extra).into_iter();
        let mut size_at = |at| match u32_at(header, at) {
            IN_EXTRA_FIELD => large.next().unwrap_or(u64::from(IN_EXTRA_FIELD)),
            size => u64::from(size),
        };
        let (decoded, stored) = (size_at(22), size_at(18));
        let sizes = Sizes { crc: u32_at(header, 14), stored, decoded };
        let member = Self { name, method, sizes, has_descriptor: flags & (1 << 3) != 0 };
        if member.has_descriptor && method == Method::Stored && stored == 0 && !member.name.ends_with(b"/") {
            return Err("the size of its file is unknown; create the archive with another program");
        }
        Ok(member)
    }

    /// Whether the member is neither a folder nor metadata of macOS.
    pub(super) fn is_file(&self) -> bool {
        !self.name.ends_with(b"/") && !self.name.starts_with(b"__MACOSX/")
    }
}

/// An entry of the directory at the end of the archive.
pub(super) struct DirectoryEntry<'a> {
    name: &'a [u8],
    crc: u32,
    stored: u32,
    decoded: u32,
}

impl<'a> DirectoryEntry<'a> {
    pub(super) fn of(entry: &'a [u8]) -> Self {
        let name = &entry[46..46 + usize::from(u16_at(entry, 28))];
        Self { name, crc: u32_at(entry, 16), stored: u32_at(entry, 20), decoded: u32_at(entry, 24) }
    }

    /// Whether this is the entry of a member.
    pub(super) fn lists(&self, member: &Member) -> bool {
        let is_equal = |size: u32, found: u64| size == IN_EXTRA_FIELD || u64::from(size) == found;
        let Sizes { crc, stored, decoded } = member.sizes;
        self.name == member.name && self.crc == crc && is_equal(self.stored, stored) && is_equal(self.decoded, decoded)
    }
}

/// The length of the record that starts with these bytes, or of the part that tells its length.
pub(super) fn record_length(start: &[u8]) -> Result<usize, &'static str> {
    let lengths = |fixed: usize, at: &[usize]| match start.len() < fixed {
        true => fixed,
        false => fixed + at.iter().map(|at| usize::from(u16_at(start, *at))).sum::<usize>(),
    };
    match start.get(..4) {
        None => Ok(4),
        Some(LOCAL_HEADER) => Ok(lengths(30, &[26, 28])),
        Some(DIRECTORY_ENTRY) => Ok(lengths(46, &[28, 30, 32])),
        Some(END) => Ok(lengths(22, &[20])),
        Some(LOCATOR_64) => Ok(20),
        Some(END_64) if start.len() < 12 => Ok(12),
        Some(END_64) => match u64_at(start, 4) {
            length @ 0..=MAX_END_64_BYTES => Ok(12 + length as usize),
            _ => Err("its directory is damaged"),
        },
        Some(_) => Err("its records are damaged, or of a kind that is not supported"),
    }
}

pub(super) fn is_local_header(record: &[u8]) -> bool {
    record.starts_with(LOCAL_HEADER)
}

pub(super) fn is_directory_entry(record: &[u8]) -> bool {
    record.starts_with(DIRECTORY_ENTRY)
}

pub(super) fn is_end(record: &[u8]) -> bool {
    record.starts_with(END)
}

/// The length of the descriptor at the start of these bytes, if it matches the data. Its signature is optional, its sizes may have
/// 32 or 64 bits, and another record follows it.
pub(super) fn descriptor_length(bytes: &[u8], found: Sizes) -> Option<usize> {
    let crc = found.crc.to_le_bytes();
    let short = || {
        Some(
            [u32::try_from(found.stored).ok()?.to_le_bytes(), u32::try_from(found.decoded).ok()?.to_le_bytes()]
                .concat(),
        )
    };
    let long = [found.stored.to_le_bytes(), found.decoded.to_le_bytes()].concat();
    let sizes = short().into_iter().chain([long]);
    let forms = sizes.flat_map(|sizes| [[DESCRIPTOR, &crc, &sizes].concat(), [&crc[..], &sizes].concat()]);
    let mut lengths = forms
        .filter(|form| bytes.strip_prefix(form.as_slice()).is_some_and(|next| next.starts_with(&LOCAL_HEADER[..2])))
        .map(|form| form.len());
    lengths.next()
}

/// The sizes of 64 bits in the extra fields of a local header.
fn large_sizes(mut extra: &[u8]) -> Vec<u64> {
    while extra.len() >= 4 {
        let (kind, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let Some(field) = extra.get(4..4 + length) else { break };
        if kind == SIZES_64 {
            return field.as_chunks::<8>().0.iter().map(|size| u64::from_le_bytes(*size)).collect();
        }
        extra = &extra[4 + length..];
    }
    Vec::new()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
