//! A zip archive with one file, read from its first byte to its last.
//!
//! Folders, and the metadata that macOS adds under `__MACOSX/`, do not count as files. Checksums and sizes are compared with the
//! data, and the directory at the end must list what was read. Sizes may have 64 bits. Encrypted files and compression methods
//! other than deflate are rejected.
//! <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>

mod member;

use std::io::{Error, Result};

use async_compression::codecs::{DecodeV2, DeflateDecoder};
use async_compression::core::util::{PartialBuffer, WriteBuffer};
use crc32fast::Hasher;

use crate::detect::document::reason_for_member;
use member::{DirectoryEntry, Member, Method, Sizes, descriptor_length};

/// The most members that are not files.
const MAX_MEMBERS: usize = 1000;
/// The most decompressed bytes of a member that is not read.
const MAX_SKIPPED_BYTES: u64 = 1 << 20;
/// The longest data descriptor and the first bytes of the record after it.
const DESCRIPTOR_BYTES: usize = 26;

const SEVERAL_FILES: &str =
    "it contains several files; put each file into an archive of its own, or compress it with gzip";

/// Decodes the file in an archive.
#[derive(Debug, Default)]
pub(super) struct ZipDecoder {
    place: Place,
    /// The beginning of a record of the archive.
    record: Vec<u8>,
    members: Vec<Member>,
    /// The number of entries of the directory so far.
    listed: usize,
    deflate: DeflateDecoder,
    checksum: Hasher,
    /// The sizes of the open member so far.
    sizes: Sizes,
}

/// The part of the archive that the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// A header, an entry of the directory or the end of it.
    #[default]
    Record,
    /// The data of a member.
    Data,
    /// The sizes after the data of a member.
    Descriptor,
    /// After the end of the directory.
    End,
}

impl DecodeV2 for ZipDecoder {
    fn reinit(&mut self) -> Result<()> {
        Err(invalid("another archive follows it"))
    }

    fn decode(&mut self, input: &mut PartialBuffer<&[u8]>, output: &mut WriteBuffer<'_>) -> Result<bool> {
        while self.place != Place::End {
            match self.place {
                Place::Record | Place::Descriptor => {
                    if !self.read_record(input)? {
                        return Ok(false);
                    }
                }
                Place::Data => {
                    self.read_data(input, output)?;
                    let is_stopped = input.unwritten().is_empty() || output.has_no_spare_space();
                    if self.place == Place::Data && is_stopped {
                        return Ok(false);
                    }
                }
                Place::End => {}
            }
        }
        Ok(true)
    }

    fn flush(&mut self, _output: &mut WriteBuffer<'_>) -> Result<bool> {
        Ok(true)
    }

    fn finish(&mut self, _output: &mut WriteBuffer<'_>) -> Result<bool> {
        Ok(self.place == Place::End)
    }
}

impl ZipDecoder {
    /// Reads a record, or a descriptor. Returns `false` if it needs more input.
    fn read_record(&mut self, input: &mut PartialBuffer<&[u8]>) -> Result<bool> {
        loop {
            let needed = match self.place {
                Place::Descriptor => DESCRIPTOR_BYTES,
                Place::Record | Place::Data | Place::End => member::record_length(&self.record).map_err(invalid)?,
            };
            let missing = needed.saturating_sub(self.record.len());
            if missing == 0 {
                break;
            }
            let taken = missing.min(input.unwritten().len());
            self.record.extend_from_slice(&input.unwritten()[..taken]);
            input.advance(taken);
            if taken < missing {
                return Ok(false);
            }
        }
        match self.place {
            Place::Descriptor => self.end_descriptor()?,
            Place::Record | Place::Data | Place::End => self.end_record()?,
        }
        Ok(true)
    }

    /// Interprets a complete record.
    fn end_record(&mut self) -> Result<()> {
        let record = std::mem::take(&mut self.record);
        if member::is_local_header(&record) {
            let member = Member::of(&record).map_err(invalid)?;
            self.start_member(member)
        } else if member::is_directory_entry(&record) {
            self.listed += 1;
            let entry = DirectoryEntry::of(&record);
            match self.members.iter().any(|member| entry.lists(member)) {
                true => Ok(()),
                false => Err(invalid("its directory does not match its files")),
            }
        } else if member::is_end(&record) {
            self.end_directory()
        } else {
            Ok(())
        }
    }

    fn start_member(&mut self, member: Member) -> Result<()> {
        if self.listed > 0 || self.members.len() >= MAX_MEMBERS {
            return Err(invalid("a file is where its directory should be, or it has too many members"));
        }
        if member.is_file() && self.members.iter().any(Member::is_file) {
            let of_document = self.members.iter().chain([&member]).find_map(|member| reason_for_member(&member.name));
            return Err(invalid(of_document.unwrap_or_else(|| SEVERAL_FILES.to_owned())));
        }
        self.place = Place::Data;
        (self.checksum, self.sizes, self.deflate) = (Hasher::new(), Sizes::default(), DeflateDecoder::new());
        let is_empty = member.sizes.stored == 0 && (member.method == Method::Stored || !member.has_descriptor);
        self.members.push(member);
        if is_empty { self.end_data() } else { Ok(()) }
    }

    /// Reads a part of a member's data.
    fn read_data(&mut self, input: &mut PartialBuffer<&[u8]>, output: &mut WriteBuffer<'_>) -> Result<()> {
        let Some(member) = self.members.last() else { return Ok(()) };
        let (is_file, method, stored) = (member.is_file(), member.method, member.sizes.stored);
        if is_file {
            return self.decode_data(method, stored, input, output);
        }
        let mut skipped = [0; 4096];
        let result = self.decode_data(method, stored, input, &mut WriteBuffer::new_initialized(&mut skipped));
        match self.sizes.decoded > MAX_SKIPPED_BYTES {
            true => Err(invalid("a folder or the metadata of macOS is too large")),
            false => result,
        }
    }

    fn decode_data(
        &mut self,
        method: Method,
        stored_bytes: u64,
        input: &mut PartialBuffer<&[u8]>,
        output: &mut WriteBuffer<'_>,
    ) -> Result<()> {
        if input.unwritten().is_empty() || output.has_no_spare_space() {
            return Ok(());
        }
        let (read_before, written_before) = (input.written_len(), output.written_len());
        let has_ended = match method {
            Method::Deflated => self.deflate.decode(input, output)?,
            Method::Stored => {
                let left = usize::try_from(stored_bytes - self.sizes.stored).unwrap_or(usize::MAX);
                let free = output.initialize_unwritten();
                let length = left.min(free.len()).min(input.unwritten().len());
                free[..length].copy_from_slice(&input.unwritten()[..length]);
                output.advance(length);
                input.advance(length);
                length == left
            }
        };
        self.checksum.update(&output.written()[written_before..]);
        self.sizes.stored += (input.written_len() - read_before) as u64;
        self.sizes.decoded += (output.written_len() - written_before) as u64;
        if has_ended { self.end_data() } else { Ok(()) }
    }

    /// Compares the end of a member's data with its header, unless a descriptor follows.
    fn end_data(&mut self) -> Result<()> {
        let found = Sizes { crc: self.checksum.clone().finalize(), ..self.sizes };
        let Some(member) = self.members.last_mut() else { return Ok(()) };
        self.place = if member.has_descriptor { Place::Descriptor } else { Place::Record };
        let expected = std::mem::replace(&mut member.sizes, found);
        match member.has_descriptor || expected == found {
            true => Ok(()),
            false => Err(damaged()),
        }
    }

    /// Compares a member's data with the descriptor after it. The rest of the record is the beginning of the next one.
    fn end_descriptor(&mut self) -> Result<()> {
        let Some(member) = self.members.last() else { return Ok(()) };
        let length = descriptor_length(&self.record, member.sizes).ok_or_else(damaged)?;
        self.record.drain(..length);
        self.place = Place::Record;
        Ok(())
    }

    fn end_directory(&mut self) -> Result<()> {
        if self.listed != self.members.len() {
            return Err(invalid("its directory does not match its files"));
        }
        if !self.members.iter().any(Member::is_file) {
            return Err(invalid("it contains no file"));
        }
        self.place = Place::End;
        Ok(())
    }
}

fn damaged() -> Error {
    invalid("the data of a file does not match its checksum or its size")
}

fn invalid(what: impl Into<String>) -> Error {
    Error::other(what.into())
}

#[cfg(test)]
pub(super) mod tests;
